"""The published `[image, mass_ev]` pickles, read without giving them anything to run.

Three walls, each enough against code: only the opcodes that NumPy writes are let through; a pickle
may name five NumPy objects and no others; and for those it gets inert records of this module, so
that NumPy itself sees a shape or a type only after `npy.py` has checked it against the bytes held.
"""

import io
import pickle
import pickletools
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from deeplens_tf.errors import UnusableFile

MAX_OPCODES = 512
MAX_MEMO = 256  # the unpickler takes memory for the highest slot that a pickle names

_PUTS = {"BINPUT", "LONG_BINPUT"}
# fmt: off
_OPCODES = frozenset((
    "PROTO", "FRAME", "STOP", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "EMPTY_LIST", "APPEND", "APPENDS",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
    "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET",
))
# fmt: on


@dataclass(frozen=True)
class PickledArray:
    """An array as a pickle describes it; nothing in it has been believed yet."""

    descr: str
    shape: tuple[int, ...]
    fortran_order: bool
    data: bytes


def unpickle_pair(data: bytes) -> tuple[PickledArray, float | PickledArray]:
    """Return the image and the mass of a pickled object array of two elements.

    Raises:
        UnusableFile: the pickle holds anything else.
    """
    _check_opcodes(data)
    try:
        pair = _Unpickler(io.BytesIO(data)).load()
        image, mass = pair.elements()
        return image.array(), _number(mass)
    except UnusableFile:
        raise
    except Exception as error:  # a broken pickle may raise nearly anything from its records
        raise UnusableFile("a pickle that is not [image, mass_ev]") from error


def _check_opcodes(data: bytes) -> None:
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name not in _OPCODES:
                raise UnusableFile(f"a pickle with the operation {opcode.name}, which is not read")
            if count > MAX_OPCODES or (opcode.name in _PUTS and argument > MAX_MEMO):
                raise UnusableFile("a pickle far more intricate than [image, mass_ev]")
    except UnusableFile:
        raise
    except Exception as error:
        raise UnusableFile("a truncated or damaged pickle") from error


class _Record:
    """What a pickle gets in place of a NumPy object: keeps what it is given, does nothing."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        # Without this method `pickle` would let a state set any attribute.
        self.state = state


class _Dtype(_Record):
    __slots__ = ()

    def descr(self) -> str:
        code = _exactly(str, self.arguments[0])
        order = _exactly(str, self.state[1]) if self.state else "="
        return code if code.startswith("O") else order + code


class _Array(_Record):
    __slots__ = ()

    def array(self) -> PickledArray:
        _, shape, dtype, fortran_order, data = self.state
        sides = tuple(_exactly(int, side) for side in _exactly(tuple, shape))
        if min(sides, default=1) < 0:
            raise UnusableFile("a pickled array with a negative side")
        return PickledArray(dtype.descr(), sides, fortran_order is True, _exactly(bytes, data))

    def elements(self) -> list:
        _, shape, dtype, _, elements = self.state
        if shape != (2,) or dtype.descr() != "O8" or len(_exactly(list, elements)) != 2:
            raise UnusableFile("a pickle that is not [image, mass_ev]")
        return elements


class _Scalar(_Record):
    __slots__ = ()

    def array(self) -> PickledArray:
        dtype, data = self.arguments
        return PickledArray(dtype.descr(), (), False, _exactly(bytes, data))


class _Unpickler(pickle.Unpickler):
    allowed: ClassVar[dict[tuple[str, str], type[_Record]]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        **{
            (f"numpy.{core}.multiarray", name): record
            for core in ("core", "_core")  # NumPy 1 and NumPy 2
            for name, record in (("_reconstruct", _Array), ("scalar", _Scalar))
        },
    }

    def find_class(self, module: str, name: str) -> type[_Record]:
        try:
            return self.allowed[module, name]
        except KeyError:
            self._refuse(f"{module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        self._refuse("an object outside the file")

    def _refuse(self, wish: str) -> NoReturn:
        shown = wish[:60] if wish.isprintable() else "an unprintable name"
        raise UnusableFile(f"a pickle that asks for {shown}, which is not allowed")


def _number(value: object) -> float | PickledArray:
    if type(value) in (int, float):
        return float(value)
    if isinstance(value, _Array | _Scalar):
        return value.array()
    raise UnusableFile("a pickled mass that is not a number")


def _exactly(kind: type, value: object) -> object:
    if type(value) is not kind:
        raise UnusableFile("a pickle that is not [image, mass_ev]")
    return value
