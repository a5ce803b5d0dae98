import contextlib
import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from deeplens_tf.data.image_files import read_image
from deeplens_tf.errors import UnusableFile
from tests.data.image_folders import random_image


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def reason(path):
    with pytest.raises(UnusableFile) as caught:
        read_image(path)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["arr_0", "image", "galaxy"])
def test_one_array_of_any_name_is_read(tmp_path, save, name):
    image = random_image(0, (3, 20, 24))
    save(tmp_path / "x.npz", **{name: image})
    read, mass_ev = read_image(tmp_path / "x.npz")
    np.testing.assert_array_equal(read, image.transpose(1, 2, 0))
    assert mass_ev is None


@pytest.mark.parametrize("mass", [2.5e-23, np.array([2.5e-23]), np.float32(2.5e-23)])
def test_an_image_with_its_mass_is_read(tmp_path, mass):
    np.savez(tmp_path / "x.npz", mass_ev=mass, image=random_image(0))
    image, mass_ev = read_image(tmp_path / "x.npz")
    assert image.shape == (16, 16, 1)
    assert mass_ev == pytest.approx(2.5e-23, rel=1e-6)


def test_a_large_image_is_read_completely(tmp_path):
    image = random_image(1, (300, 200))
    np.savez_compressed(tmp_path / "x.npz", image=image)
    np.testing.assert_array_equal(read_image(tmp_path / "x.npz")[0][..., 0], image)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["a", "b"], "only one array, or image and mass_ev, is read"),
        (["image", "mass"], "only one array, or image and mass_ev, is read"),
        (["image", "mass_ev", "label"], "an archive of 3 members"),
        ([], "only one array, or image and mass_ev, is read"),
    ],
)
def test_other_members_are_refused(tmp_path, members, expected):
    np.savez(tmp_path / "x.npz", **{name: random_image(0) for name in members})
    assert expected in reason(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["../x.npy", "/etc/x.npy", "a\\x.npy", "sub/x.npy", "x.txt", "d/"])
def test_members_named_like_paths_are_refused(tmp_path, name):
    path = write_zip(tmp_path / "x.npz", [(name, npy_bytes(random_image(0)))])
    assert "an archive with a member named" in reason(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    data = npy_bytes(random_image(0))
    path = write_zip(tmp_path / "x.npz", [("image.npy", data), ("image.npy", data)])
    assert "only one array" in reason(path)


def test_objects_inside_an_archive_are_refused(tmp_path):
    pair = np.empty(2, object)
    pair[0], pair[1] = random_image(0), 1e-23
    np.savez(tmp_path / "x.npz", image=pair)
    assert reason(tmp_path / "x.npz") == "an object array inside an archive"


def test_code_inside_an_archive_is_not_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    array = np.empty(2, object)
    array[0], array[1] = Runs(), Runs()
    np.savez(tmp_path / "x.npz", image=array)
    assert "system, which is not allowed" in reason(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()


def test_a_mass_that_is_not_one_number_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", image=random_image(0), mass_ev=[1e-23, 2e-23])
    assert reason(tmp_path / "x.npz") == "a mass_ev that is not one number"
    np.savez(tmp_path / "x.npz", image=random_image(0), mass_ev="heavy")
    assert reason(tmp_path / "x.npz").startswith("text values instead of real numbers")


@pytest.mark.parametrize("count", [120 * 10**6, 3 * 10**8])
def test_a_bomb_is_not_unpacked(tmp_path, count):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = npy_bytes(np.zeros((0, 8)))[:128].replace(b"(0, 8)", b"(%d, 8)" % (count // 64))
        with archive.open("image.npy", "w") as stream:
            stream.write(header[:118] + b" " * 9 + b"\n")
            for _ in range(count // 10**7):
                stream.write(bytes(10**7))
    assert (tmp_path / "x.npz").stat().st_size < 400_000
    tracemalloc.start()
    assert f"an archive that unpacks to {count / 10**6:.1f} MB" in reason(tmp_path / "x.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_member_that_unpacks_to_less_than_declared_is_refused(tmp_path):
    data = npy_bytes(random_image(0))
    path = write_zip(tmp_path / "x.npz", [("image.npy", data)])
    raw = path.read_bytes().replace(struct.pack("<L", len(data)), struct.pack("<L", len(data) + 8))
    path.write_bytes(raw)
    assert "the header declares 2.0 kB" in reason(path)


def test_a_huge_directory_is_not_read(tmp_path):
    path = write_zip(tmp_path / "x.npz", [("image.npy", npy_bytes(random_image(0)))])
    data = bytearray(path.read_bytes())
    data[-10:-6] = struct.pack("<L", 50 * 10**6)  # the directory's size
    path.write_bytes(data)
    assert reason(path) == ("an archive with a central directory of 50000000 bytes, at most 4096")


def test_a_second_directory_that_would_replace_the_first_is_not_read(tmp_path):
    path = write_zip(tmp_path / "x.npz", [("image.npy", npy_bytes(random_image(0)))])
    data = path.read_bytes()
    path.write_bytes(data[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + data[-22:])
    assert reason(path) == "not an archive as NumPy and Keras write it"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_refused(tmp_path, method):
    path = write_zip(tmp_path / "x.npz", [("image.npy", npy_bytes(random_image(0)))], method)
    assert reason(path) == "an archive compressed in a way that NumPy does not use"


def test_encrypted_members_are_refused(tmp_path):
    path = write_zip(tmp_path / "x.npz", [("image.npy", npy_bytes(random_image(0)))])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert reason(path) == "a damaged archive"


def test_damaged_archives_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "intact.npz", image=random_image(0))
    intact = (tmp_path / "intact.npz").read_bytes()
    path = tmp_path / "x.npz"
    for data in (intact[:-5], intact[:50], b"PK\5\6" * 6):
        path.write_bytes(data)
        assert "archive" in reason(path)
    for position in range(0, len(intact), 7):  # one wrong bit: read or refused, no other error
        path.write_bytes(intact[:position] + bytes([intact[position] ^ 8]) + intact[position + 1 :])
        with contextlib.suppress(UnusableFile):
            assert read_image(path)[0].size == 256
