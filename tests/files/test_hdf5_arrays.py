"""Arrays of untrusted HDF5 files are found within bounds, or the file is refused."""

import io

import h5py
import numpy as np
import pytest

from deeplens_tf.errors import UnusableFile
from deeplens_tf.files import hdf5_arrays
from deeplens_tf.files.hdf5_arrays import find_arrays

ONES = np.ones(3, "f4")


@pytest.fixture
def file():
    with h5py.File(io.BytesIO(), "w") as file:
        file["b/y"] = ONES
        file["b/x"] = ONES
        file["a"] = ONES
        yield file


def names(file, max_bytes=10_000, **options):
    return [name for name, _ in find_arrays(file, max_bytes, **options)]


def test_arrays_are_found_under_their_sorted_names(file):
    file["b-"] = ONES
    assert names(file) == ["a", "b/x", "b/y", "b-"]


def test_names_that_are_no_text_are_kept(file):
    group = h5py.h5g.create(file.id, b"\xff")
    h5py.h5d.create(group, b"\n", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((2,)))
    assert names(file)[-1] == "\udcff/\n"


LINKS = {
    "soft": lambda file: h5py.SoftLink("/b"),
    "external": lambda file: h5py.ExternalLink("other.h5", "/"),
    "second name of an array": lambda file: file["a"],
    "second name of a group": lambda file: file["b"],
    "second name of the root": lambda file: file["/"],
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_links_are_refused_or_skipped(link, file):
    file["b/z"] = link(file)
    with pytest.raises(UnusableFile, match="is a link to another object"):
        names(file)
    assert names(file, skip_links=True) == ["a", "b/x", "b/y"]


def test_a_slash_in_a_name_does_not_lead_through_a_link(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = ONES
    with h5py.File(path, "w") as file:
        file["way"] = h5py.ExternalLink("other.h5", "/")
        file["way.secret"] = ONES
    path.write_bytes(path.read_bytes().replace(b"way.secret", b"way/secret"))
    with h5py.File(path) as file, pytest.raises(UnusableFile, match="without a slash"):
        names(file, skip_links=True)


def test_the_number_of_links_is_bounded(file, monkeypatch):
    monkeypatch.setattr(hdf5_arrays, "MAX_OBJECTS", 4)
    assert len(names(file)) == 3
    file["b/soft"] = h5py.SoftLink("/a")
    with pytest.raises(UnusableFile, match="not a tree of at most 4 groups and arrays"):
        names(file, skip_links=True)


def test_the_depth_is_bounded(file):
    file["/".join("g" * hdf5_arrays.MAX_DEPTH) + "/x"] = ONES
    assert len(names(file)) == 4
    file["/".join("h" * (hdf5_arrays.MAX_DEPTH + 1)) + "/x"] = ONES
    with pytest.raises(UnusableFile, match="32 levels deep"):
        names(file)


def test_the_length_of_a_name_with_its_groups_is_bounded(file):
    file["g" * 500 + "/" + "x" * 499] = ONES
    assert len(names(file)) == 4
    file["g" * 500 + "/" + "x" * 500] = ONES
    with pytest.raises(UnusableFile, match="names of at most 1000 bytes"):
        names(file)


def test_the_size_of_all_arrays_is_bounded(file):
    assert len(names(file, max_bytes=36)) == 3
    with pytest.raises(UnusableFile, match="arrays of at least 36 bytes in a file of 35"):
        names(file, max_bytes=35)


@pytest.mark.parametrize("content", [h5py.Empty("f4"), np.dtype("f4")])
def test_what_has_no_shape_is_refused(content, file):
    file["z"] = content
    with pytest.raises(UnusableFile, match="z is neither a group nor an array"):
        names(file)


def test_storage_in_another_file_is_refused(file, tmp_path):
    file.create_dataset("z", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
    with pytest.raises(UnusableFile, match="z is stored in another file"):
        names(file)


def test_a_virtual_array_is_refused(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (3,))
    file.create_virtual_dataset("z", layout)
    with pytest.raises(UnusableFile, match="z is stored in another file"):
        names(file)


def test_a_compressed_array_is_refused(file):
    file.create_dataset("z", data=ONES, compression="gzip")
    with pytest.raises(UnusableFile, match="z is compressed"):
        names(file)
