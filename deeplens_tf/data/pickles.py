"""The published `[image, mass_ev]` pickles, read without giving them anything to run.

Three walls, each enough against code: only the opcodes that NumPy writes are let through; a pickle
may name five NumPy objects and no others; and for those it gets inert records of this module, so
that NumPy itself sees a shape or a type only after `npy.py` has checked it against the bytes held.
"""

import io
import pickle
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from deeplens_tf.errors import UnusableFile

MAX_OPCODES = 512
MAX_MEMO = 256  # the unpickler takes memory for the highest slot that a pickle names
MAX_TEXT = 256  # bytes: names and types; as text a byte may take four
MAX_FRAME = 1 << 20  # the unpickler reads a frame into a place of its own; an image stands outside

_MAX_NUMBERS = {"BINPUT": MAX_MEMO, "LONG_BINPUT": MAX_MEMO, "FRAME": MAX_FRAME}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
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
        for count, (name, argument) in enumerate(_operations(data)):
            if name not in _OPCODES:
                raise UnusableFile(f"a pickle with the operation {name}, which is not read")
            if count > MAX_OPCODES or _is_large(name, argument):
                raise UnusableFile("a pickle far more intricate than [image, mass_ev]")
    except UnusableFile:
        raise
    except Exception as error:
        raise UnusableFile("a truncated or damaged pickle") from error


def _operations(data: bytes) -> Iterator[tuple[str, memoryview]]:
    """Yield each operation with its argument as it lies there.

    `pickletools.genops` would make a text or bytes of it first, of any length.
    """
    name, end = "", 0
    while name != "STOP":
        opcode = pickletools.code2op[chr(data[end])]
        name, (start, end) = opcode.name, _extent(data, end + 1, opcode.arg)
        if end > len(data):
            raise ValueError("an argument beyond the end")
        yield name, memoryview(data)[start:end]


def _extent(
    data: bytes, place: int, kind: pickletools.ArgumentDescriptor | None
) -> tuple[int, int]:
    """Return where an operation's argument, without its length, begins and ends."""
    if kind is None:
        return place, place
    if kind.n == pickletools.UP_TO_NEWLINE:
        end = place
        for _ in range(2 if kind.name.endswith("pair") else 1):
            end = data.index(b"\n", end, end + MAX_TEXT) + 1
        return place, end
    if kind.n >= 0:
        return place, place + kind.n
    start = place + _LENGTH_BYTES[kind.n]
    return start, start + int.from_bytes(data[place:start], "little")


def _is_large(name: str, argument: memoryview) -> bool:
    if name in _MAX_NUMBERS:
        return int.from_bytes(argument, "little") > _MAX_NUMBERS[name]
    return name != "BINBYTES" and len(argument) > MAX_TEXT


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
