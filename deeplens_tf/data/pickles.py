"""A reader of the published `[image, mass_ev]` pickles that runs nothing in them.

Three barriers, each sufficient against code: only the opcodes that NumPy writes are accepted; a
pickle may name five NumPy objects and no others; and those names return inert records of this
module, so NumPy itself gets a shape or a type only after `npy.py` has checked it against the data.
"""

import io
import pickle
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TypeVar

from deeplens_tf.data.published_pickles import DESCR, split_published
from deeplens_tf.errors import UnusableFile

MAX_OPCODES = 512
MAX_MEMO = 256  # the unpickler allocates memory for the highest slot that a pickle names
MAX_TEXT = 256  # bytes: names and types; decoded, a byte may take four
MAX_FRAME = 1 << 20  # the unpickler copies a frame; an image is stored outside of frames

_MAX_ARGUMENTS = {"BINPUT": MAX_MEMO, "LONG_BINPUT": MAX_MEMO, "FRAME": MAX_FRAME}
_LENGTH_BYTES = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4U: 4}
_NOT_A_PAIR = "a pickle that is not [image, mass_ev]"
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
# fmt: off
_ALLOWED_OPCODES = frozenset((
    "PROTO", "FRAME", "STOP", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "EMPTY_LIST", "APPEND", "APPENDS",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
    "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET",
))
# fmt: on

T = TypeVar("T")


@dataclass(frozen=True)
class PickledArray:
    """An array as a pickle describes it, not checked yet."""

    descr: str
    shape: tuple[int, ...]
    fortran_order: bool
    data: bytes


def unpickle_pair(data: bytes) -> tuple[PickledArray, float | PickledArray]:
    """Return the image and the mass of a pickled object array of two elements.

    Raises:
        UnusableFile: the pickle contains anything else.
    """
    if published := split_published(data):
        shape, pixels, mass_ev = published
        return PickledArray(DESCR, shape, False, pixels), mass_ev
    _check_operations(data)
    try:
        image, mass = _Unpickler(io.BytesIO(data)).load().pair()
        return image.array(), _number(mass)
    except UnusableFile:
        raise
    except Exception as error:  # records of a broken pickle may raise nearly any error
        raise UnusableFile(_NOT_A_PAIR) from error


def _check_operations(data: bytes) -> None:
    try:
        for count, (name, argument) in enumerate(_operations(data)):
            if count > MAX_OPCODES or _is_large(name, argument):
                raise UnusableFile("a pickle too complex to be [image, mass_ev]")
    except UnusableFile:
        raise
    except Exception as error:
        raise UnusableFile("a truncated or damaged pickle") from error


def _operations(data: bytes) -> Iterator[tuple[str, memoryview]]:
    """Yield the name and the undecoded argument of each operation.

    `pickletools.genops` would first decode the argument, which may have any length.

    Raises:
        UnusableFile: an operation that is not allowed.
    """
    name, end, view = "", 0, memoryview(data)
    while name != "STOP":
        opcode = _OPCODES[data[end]]
        name = opcode.name
        if name not in _ALLOWED_OPCODES:
            raise UnusableFile(f"a pickle with the operation {name}, which is not read")
        start, end = _argument_span(data, end + 1, opcode.arg)
        if end > len(data):
            raise ValueError("an argument beyond the end")
        yield name, view[start:end]


def _argument_span(
    data: bytes, offset: int, kind: pickletools.ArgumentDescriptor | None
) -> tuple[int, int]:
    """Return where the argument at `offset` begins, after its length if it has one, and ends."""
    if kind is None:
        return offset, offset
    if kind.n == pickletools.UP_TO_NEWLINE:  # of a module and of a name, in GLOBAL
        end = offset
        for _ in range(2):
            end = data.index(b"\n", end, end + MAX_TEXT) + 1
        return offset, end
    if kind.n >= 0:
        return offset, offset + kind.n
    start = offset + _LENGTH_BYTES[kind.n]
    return start, start + int.from_bytes(data[offset:start], "little")


def _is_large(name: str, argument: memoryview) -> bool:
    limit = _MAX_ARGUMENTS.get(name)
    if limit is not None:
        return int.from_bytes(argument, "little") > limit
    return name != "BINBYTES" and len(argument) > MAX_TEXT


class _Record:
    """The inert stand-in for a NumPy object: stores what a pickle passes to it, does nothing."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
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

    def pair(self) -> list[Any]:
        _, shape, dtype, _, elements = self.state
        if shape != (2,) or dtype.descr() != "O8" or len(_exactly(list, elements)) != 2:
            raise UnusableFile(_NOT_A_PAIR)
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

    def _refuse(self, reference: str) -> NoReturn:
        shown = reference[:60] if reference.isprintable() else "an unprintable name"
        raise UnusableFile(f"a pickle that refers to {shown}, which is not allowed")


def _number(value: object) -> float | PickledArray:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, _Array | _Scalar):
        return value.array()
    raise UnusableFile("a pickled mass that is not a number")


def _exactly(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise UnusableFile(_NOT_A_PAIR)
    return value
