"""Untrusted files: everything except plain arrays of a Keras 2 file is refused in one line."""

import h5py
import numpy as np
import pytest

from deeplens_tf.conversion.weight_files import open_weights, read_array
from deeplens_tf.errors import RequestError
from tests.conversion.keras2_files import write


@pytest.fixture
def path(tmp_path):
    weights = {"dense/kernel:0": np.arange(6, dtype="f4").reshape(2, 3)}
    return write(tmp_path / "weights.h5", {"dense": weights, "dropout": {}})


def refusal(path):
    with pytest.raises(RequestError) as caught, open_weights(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_arrays_are_found_under_their_names(path):
    with open_weights(path) as stored:
        assert list(stored) == ["dense/dense/kernel:0"]
        values = read_array(path, stored["dense/dense/kernel:0"])
    np.testing.assert_array_equal(values, [[0, 1, 2], [3, 4, 5]])


def test_a_whole_model_gives_its_weights_and_not_its_optimiser(path, tmp_path):
    whole = tmp_path / "model.h5"
    with h5py.File(whole, "w") as file, h5py.File(path) as weights:
        weights.copy(weights, file, name="model_weights")
        file["optimizer_weights/m"] = np.ones(3, "f4")
    with open_weights(whole) as stored:
        assert list(stored) == ["dense/dense/kernel:0"]


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "none.h5").endswith("none.h5: no such file")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x04K\x01."])
def test_files_of_other_formats_are_refused(content, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    assert "not an HDF5 file that can be read" in refusal(path)


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-64])
    assert "not an HDF5 file that can be read" in refusal(path)


def test_the_layout_of_keras_3_is_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones(3, "f4")
    assert "not written by save_weights of Keras 2" in refusal(path)


def test_links_to_other_files_are_not_followed(path, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3, "f4")
    with h5py.File(path, "a") as file:
        file["dense/outside"] = h5py.ExternalLink("other.h5", "secret")
        file["dense/soft"] = h5py.SoftLink("/dense/dense/kernel:0")
    with open_weights(path) as stored:
        assert list(stored) == ["dense/dense/kernel:0"]


def test_an_array_instead_of_the_layers_is_refused(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["model_weights"] = np.ones(3, "f4")
        file["model_weights"].attrs["layer_names"] = [b"dense"]
    assert "not written by save_weights of Keras 2" in refusal(path)


def test_a_model_in_another_file_is_refused(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.ExternalLink("other.h5", "/")
    assert "not written by save_weights of Keras 2" in refusal(path)


def test_an_array_in_another_file_is_refused(path, tmp_path):
    np.arange(4, dtype="f4").tofile(tmp_path / "raw")
    with h5py.File(path, "a") as file:
        outside = [(str(tmp_path / "raw"), 0, 16)]
        file.create_dataset("dense/bias:0", (4,), "f4", external=outside)
    assert "dense/bias:0 is stored in another file" in refusal(path)


def test_a_virtual_array_is_refused(path):
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((2, 3), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "secret", (2, 3))
        file.create_virtual_dataset("dense/bias:0", layout)
    assert "is stored in another file" in refusal(path)


@pytest.mark.parametrize("values", [np.arange(3), np.array([b"a"]), np.array([True])])
def test_arrays_of_other_types_are_refused(values, path):
    with h5py.File(path, "a") as file:
        file["dense/bias:0"] = values
    assert "not floating-point numbers" in refusal(path)


def test_a_compressed_array_is_refused(path):
    with h5py.File(path, "a") as file:
        file.create_dataset("dense/bias:0", data=np.zeros(10_000, "f4"), compression="gzip")
    assert "dense/bias:0 is compressed" in refusal(path)


def test_an_array_without_values_is_refused(path):
    with h5py.File(path, "a") as file:
        file.create_dataset("dense/bias:0", (10,), "f4")
    assert "dense/bias:0 declares shape (10,), but the file contains less" in refusal(path)


def test_an_array_larger_than_the_file_is_refused(path):
    with h5py.File(path, "a") as file:
        file.create_dataset("dense/bias:0", (10**12,), "f4")
    assert "arrays of at least 4000000000000 bytes in a file of" in refusal(path)


def test_too_many_arrays_are_refused(path, monkeypatch):
    monkeypatch.setattr("deeplens_tf.conversion.weight_files.MAX_ARRAYS", 3)
    with h5py.File(path, "a") as file:
        for i in range(3):
            file[f"dense/{i}"] = np.ones(1, "f4")
    assert "more than 3 arrays" in refusal(path)


def test_a_group_that_contains_itself_is_read_once(path):
    with h5py.File(path, "a") as file:
        file["dense/again"] = file["dense"]
    with open_weights(path) as stored:
        assert len(stored) == 1
