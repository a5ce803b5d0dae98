"""Readers on damaged and invented input: a result or the one error that each may raise."""

import contextlib
import io
import json
import pickle

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplens_tf.config import load_config
from deeplens_tf.conversion.weight_files import open_weights, read_array
from deeplens_tf.data.files import read_image
from deeplens_tf.data.masses import read_masses
from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.evaluation.comparison import compare, markdown_table, read_entries
from deeplens_tf.models.model_files import check_weights
from deeplens_tf.simulation.record import claim_folder
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.terminal import printable
from deeplens_tf.yaml_text import parse_yaml
from tests.hostile.arrays import good_image, npy_bytes, pair_with, pickled, zipped
from tests.hostile.test_inputs import write_evaluated_run
from tests.hostile.texts import FACTS, LAUGHS, SCORED

SMALL = good_image(shape=(8, 8))
CORPUS = {
    "npy": npy_bytes(SMALL),
    "pair.npy": pickled(pair_with(np.float64(1e-23))),
    "npz": zipped(("image.npy", npy_bytes(SMALL)), ("mass_ev.npy", npy_bytes(np.float64(1e-23)))),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
QUICK = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@st.composite
def damaged(draw, data):
    """Bytes with a few changed, some cut out or put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 1, 1, 1, 4, 40]))
        data[place : place + length] = draw(st.binary(max_size=9))
    return bytes(data)


@pytest.mark.parametrize("kind", CORPUS)
def test_every_byte_of_an_image_may_be_wrong(kind, tmp_path):
    """Each byte in turn: no bit of it set, all, another."""
    path = tmp_path / f"x.{kind.split('.')[-1]}"
    for place in range(min(len(CORPUS[kind]), 400)):
        for value in (0, 255, CORPUS[kind][place] ^ 1):
            data = bytearray(CORPUS[kind])
            data[place] = value
            path.write_bytes(data)
            with contextlib.suppress(UnusableFile):
                assert read_image(path)[0].size in (64, 256)


@pytest.mark.parametrize("kind", CORPUS)
@given(data=st.data())
@QUICK
def test_a_damaged_image_is_read_or_refused(kind, tmp_path, data):
    path = tmp_path / f"x.{kind.split('.')[-1]}"
    path.write_bytes(data.draw(damaged(CORPUS[kind])))
    with contextlib.suppress(UnusableFile):
        image, _ = read_image(path)
        assert image.size <= 2**24
        assert np.isfinite(image).all()


@given(body=st.binary(max_size=60))
@QUICK
def test_an_invented_pickle_is_refused(body, tmp_path):
    (tmp_path / "x.npy").write_bytes(pickled(pickle.PROTO + b"\4" + body))
    with pytest.raises(UnusableFile):
        read_image(tmp_path / "x.npy")


@given(text=st.binary(max_size=300) | damaged(LAUGHS.encode()) | st.text(max_size=99))
@QUICK
def test_any_yaml_is_plain_or_refused(text):
    with contextlib.suppress(ValueError):
        assert len(repr(parse_yaml(text))) < 100_000


@given(values=st.dictionaries(st.sampled_from(["seed", "data", "augment", "train"]), JSON))
@QUICK
def test_any_configuration_is_taken_or_refused(values, tmp_path):
    (tmp_path / "x.yaml").write_text(json.dumps(values))
    with contextlib.suppress(RequestError):
        load_config(str(tmp_path / "x.yaml"))


@given(data=damaged(b'file,mass_ev\na.npy,1e-23\n"b.npy",2e-23\n') | st.binary(max_size=99))
@QUICK
def test_any_table_of_masses_is_read_or_refused(data, tmp_path):
    (tmp_path / "a.npy").touch()
    (tmp_path / "masses.csv").write_bytes(data)
    with contextlib.suppress(DataError):
        assert set(read_masses(tmp_path)) <= {"a.npy", "masses.csv"}


@given(data=st.data())
@settings(QUICK, max_examples=40)
def test_any_report_is_compared_or_refused(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = data.draw(st.sampled_from(sorted(SCORED)))
    fact = data.draw(st.sampled_from(sorted(FACTS)))
    metrics, facts = dict(SCORED), json.loads(json.dumps(FACTS))
    metrics[key] = data.draw(JSON)
    if data.draw(st.booleans()):
        facts[fact] = data.draw(JSON)
    write_evaluated_run(json.dumps(metrics), json.dumps(facts))
    with contextlib.suppress(RequestError):
        entries = read_entries([tmp_path / "run"])
        text = markdown_table(compare(entries), entries[0].head)
        assert all(letter.isprintable() for letter in text.replace("\n", ""))


@given(values=st.dictionaries(st.sampled_from(["preset", "count", "classes", "versions"]), JSON))
@QUICK
def test_any_record_of_a_simulation_is_taken_or_refused(values, tmp_path):
    request = SimulationRequest("model_ii", 1, tmp_path, 0, classes=("cdm",))
    record = {"preset": "model_ii", "split": "train", "seed": 0, "noise": False}
    record |= {"classes": ["cdm"], "count": 1, "versions": {}}
    (tmp_path / "simulation.json").write_text(json.dumps({**record, **values}))
    with contextlib.suppress(RequestError):
        claim_folder(request)


@given(data=st.data())
@QUICK
def test_a_damaged_file_of_weights_is_read_or_refused(data, tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        file["dense/dense/kernel:0"] = np.ones((3, 2), "f4")
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with contextlib.suppress(RequestError), open_weights(path) as stored:
        assert all(read_array(path, array).nbytes < 10_000 for array in stored.values())


@given(data=st.data())
@QUICK
def test_damaged_weights_of_a_model_are_taken_or_refused(data):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["head/vars/0"] = np.ones((3, 2), "f4")
    with contextlib.suppress(UnusableFile):
        check_weights(data.draw(damaged(stream.getvalue())))


@given(text=st.text())
@QUICK
def test_what_is_printed_is_printable_and_tells_names_apart(text):
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()
