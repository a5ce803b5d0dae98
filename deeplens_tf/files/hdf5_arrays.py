"""Finds the arrays of an untrusted HDF5 file: within bounds, and only those stored in the file."""

from collections.abc import Collection, Iterator
from typing import Any

import h5py

from deeplens_tf.errors import UnusableFile

MAX_WEIGHT_FILE_BYTES = 2 * 10**9
MAX_OBJECTS = 50_000  # groups and arrays
MAX_DEPTH = 32  # nested groups; the deepest model of this package has seven
MAX_NAME_BYTES = 1000  # the names of its groups included


def find_arrays(
    root: h5py.Group,
    max_bytes: float,
    skip_links: bool = False,
    filters: Collection[int] = (),
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the name, `group/.../array`, and the array of every dataset in a group, sorted.

    Args:
        root: a group of an open file.
        max_bytes: size of the file; all arrays together must not be larger.
        skip_links: ignore soft links, external links and second names of an object, instead of
            refusing the file.
        filters: numbers of the HDF5 filters that an array may have.

    Raises:
        UnusableFile: the file exceeds a bound, or an array has another filter or is in another
            file.
    """
    total = 0
    for name, item in _Walk(root, skip_links).objects_in(root):
        if not isinstance(item, h5py.Group):
            _require_stored_here(name, item, filters)
            total += item.nbytes
            if total > max_bytes:
                raise UnusableFile(f"arrays of at least {total} bytes in a file of {max_bytes}")
            yield name, item


class _Walk:
    """A walk through nested groups that visits each object once."""

    def __init__(self, root: h5py.Group, skip_links: bool) -> None:
        self.skip_links = skip_links
        self.visited = {_address(root)}
        self.links = 0

    def objects_in(self, group: h5py.Group, prefix: bytes = b"") -> Iterator[tuple[str, Any]]:
        """Yield the name and the object of everything below a group."""
        for link, is_hard in self._links(group, prefix):
            name = prefix + link
            text = name.decode("utf-8", "surrogateescape")
            item = group[link] if is_hard else None
            # A soft or external link may lead out of the file. A group with two names may contain
            # itself.
            if item is None or _address(item) in self.visited:
                if self.skip_links:
                    continue
                raise UnusableFile(f"{text} is a link to another object")
            self.visited.add(_address(item))
            yield text, item
            if isinstance(item, h5py.Group):
                yield from self.objects_in(item, name + b"/")

    def _links(self, group: h5py.Group, prefix: bytes) -> list[tuple[bytes, bool]]:
        """Return (name, whether it is a hard link) of the links in a group, sorted by name."""
        links: list[tuple[bytes, bool]] = []
        max_name_bytes = MAX_NAME_BYTES - len(prefix)

        def add(name: bytes, info: Any) -> bool:
            # Returns whether to stop: HDF5 doesn't pass on an exception.
            links.append((name, info.type == h5py.h5l.TYPE_HARD))
            self.links += 1
            # HDF5 would look up a name with a slash through other groups, and their links.
            return self.links > MAX_OBJECTS or len(name) > max_name_bytes or b"/" in name

        # In native order: for sorted names, HDF5 and h5py build lists without a bound.
        stopped, _ = group.id.links.iterate(add, info=True, order=h5py.h5.ITER_NATIVE)
        if stopped or prefix.count(b"/") > MAX_DEPTH:
            raise UnusableFile(
                f"not a tree of at most {MAX_OBJECTS} groups and arrays, {MAX_DEPTH} levels deep, "
                f"with names of at most {MAX_NAME_BYTES} bytes without a slash"
            )
        return sorted(links)


def _address(item: h5py.Group | h5py.Dataset) -> int:
    return h5py.h5o.get_info(item.id).addr


def _require_stored_here(name: str, item: Any, filters: Collection[int]) -> None:
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise UnusableFile(f"{name} is neither a group nor an array")
    if item.external or item.is_virtual:
        raise UnusableFile(f"{name} is stored in another file")
    properties = item.id.get_create_plist()
    found = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if not found <= set(filters):
        allowed = "by other filters than gzip and lzf" if filters else "which Keras never does"
        raise UnusableFile(f"{name} is compressed{' ' if filters else ', '}{allowed}")
