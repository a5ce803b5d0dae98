"""Readers on damaged and invented input: a result or the one error that each may raise."""

import contextlib
import functools
import io
import itertools
import json
import operator
import pickletools
import shutil
import struct

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplens_tf.config import load_config
from deeplens_tf.conversion.weight_files import open_weights, read_array
from deeplens_tf.data import pickles
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.mass_tables import read_masses
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.shard_checks import check_shards
from deeplens_tf.data.shards import (
    Example,
    verify_shards,
)
from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.evaluation.comparison import compare, markdown_table
from deeplens_tf.evaluation.run_entries import read_entries
from deeplens_tf.files.plain_yaml import parse_yaml
from deeplens_tf.preprocessing.scaling import resize_and_scale
from deeplens_tf.saving.allow_list import check_recipe
from deeplens_tf.saving.archive_checks import check_model_file, check_weights
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.request_file import claim_folder
from deeplens_tf.terminal import printable
from tests.data.image_folders import write_split
from tests.hostile.arrays import good_image, npy_bytes, pair_with, pickled, text, zipped
from tests.hostile.models import WEIGHTS, keras_object, members_of, packed
from tests.hostile.prepared import SHARD, framed, records_of, set_shard
from tests.hostile.test_inputs import write_evaluated_run
from tests.hostile.texts import FACTS, LAUGHS, SCORED

SMALL = good_image(shape=(8, 8)).astype("f2")
CORPUS = {
    "npy": npy_bytes(SMALL),
    "pair.npy": pickled(pair_with(np.float64(1e-23), image=SMALL)),
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


def each_byte_wrong(data):
    """The same bytes again and again, each byte in turn changed: no bit set, all, another."""
    for place in range(len(data)):
        for value in {0, 255, data[place] ^ 1} - {data[place]}:
            yield data[:place] + bytes([value]) + data[place + 1 :]


@pytest.mark.parametrize("kind", CORPUS)
def test_every_byte_of_an_image_may_be_wrong(kind, tmp_path):
    path = tmp_path / f"x.{kind.split('.')[-1]}"
    for data in each_byte_wrong(CORPUS[kind]):
        path.write_bytes(data)
        with contextlib.suppress(UnusableFile):
            assert read_image(path)[0].size == 64


@pytest.mark.parametrize("kind", CORPUS)
@given(data=st.data())
@QUICK
def test_a_damaged_image_is_read_or_refused(kind, tmp_path, data):
    path = tmp_path / f"x.{kind.split('.')[-1]}"
    path.write_bytes(data.draw(damaged(CORPUS[kind])))
    with contextlib.suppress(UnusableFile):
        image, _ = read_image(path)
        assert image.size <= 2**24
        scaled = resize_and_scale(image, 8, "resize")
        assert (scaled.min(), scaled.max()) == (0, 1)


def operations(body):
    """A pickle cut into its operations, each with its argument."""
    places = [place for _, _, place in pickletools.genops(body)] + [len(body)]
    return [body[start:end] for start, end in itertools.pairwise(places)]


# Protocol 3 has no frames, whose lengths would be wrong after any change.
PAIR = operations(pair_with(np.float64(1e-23), protocol=3, image=SMALL))
NAMES = [*pickles._Unpickler.allowed, ("os", "system"), ("numpy", "load"), ("builtins", "eval")]
OPERATION = (
    st.sampled_from(PAIR)
    | st.sampled_from([b"0", b"N", b"t", b"(", b"]", b")", b"\x85", b"R", b"b", b"e", b"\x94"])
    | st.sampled_from([f"c{module}\n{name}\n".encode() for module, name in NAMES])
    | st.integers(-(2**31), 2**31 - 1).map(lambda number: b"J" + struct.pack("<i", number))
    | st.integers(0, 255).map(lambda slot: b"h" + bytes([slot]))
    | st.text(max_size=9).map(text)
    | st.binary(max_size=9).map(lambda value: b"C" + bytes([len(value)]) + value)
)


@st.composite
def rearranged(draw):
    """The pickle of a good pair with a few operations exchanged, left out or put in."""
    body = list(PAIR)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(1, len(body) - 1))
        body[place : place + draw(st.integers(0, 2))] = draw(st.lists(OPERATION, max_size=2))
    return b"".join(body)


def test_a_pickle_of_any_operations_is_read_or_refused(tmp_path):
    ends = set()

    @given(body=rearranged())
    @settings(QUICK, max_examples=400)
    def read(body):
        (tmp_path / "x.npy").write_bytes(pickled(body))
        try:
            ends.add(read_image(tmp_path / "x.npy")[0].shape)
        except UnusableFile as error:
            ends.add(str(error))

    read()
    # All walls are reached, and some get past them all.
    assert (8, 8, 1) in ends
    assert "a pickle that is not [image, mass_ev]" in ends
    assert any("which is not allowed" in str(end) for end in ends)
    assert any("which is not read" in str(end) for end in ends)


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
        assert set(read_masses(tmp_path, ["a.npy"])[""]) <= {"a.npy"}


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
        text = markdown_table(compare(read_entries([tmp_path / "run"])))
        assert all(letter.isprintable() for letter in text.replace("\n", ""))


RECORDED = ("preset", "count", "classes", "versions", "views_per_lens", "shared")


@given(values=st.dictionaries(st.sampled_from(RECORDED), JSON))
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


def small_weights(libver=None):
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=libver) as file:
        file["head/vars/0"] = np.ones((3, 2), "f4")
    return stream.getvalue()


@given(data=st.data())
@QUICK
def test_damaged_weights_of_a_model_are_taken_or_refused(data):
    weights = data.draw(damaged(small_weights()))
    with contextlib.suppress(UnusableFile):
        check_weights(io.BytesIO(weights), len(weights))


def small_recipe():
    """Of a network of few weights, so that those above are enough."""
    options = {"image_shape": [1, 1, 1], "patch_size": 1, "width": 2, "depth": 1, "heads": 1}
    options |= {"mlp_width": 1, "name": "x", "dtype": keras_object("DTypePolicy", "keras")}
    return keras_object("VisionTransformer", "x", "deeplens_tf>VisionTransformer", **options)


def small_model():
    recipe = json.dumps(small_recipe()).encode()
    return packed({"metadata.json": b"{}", "config.json": recipe, WEIGHTS: small_weights("latest")})


def test_every_byte_of_a_model_may_be_wrong(tmp_path):
    """Of what is in its members none can pass; of its headers, what does not matter."""
    path, good = tmp_path / "x.keras", small_model()
    path.write_bytes(good)
    check_model_file(path)
    members = members_of(path)
    for data in each_byte_wrong(good):
        path.write_bytes(data)
        with contextlib.suppress(UnusableFile):
            check_model_file(path)
            assert members_of(path) == members


@given(data=st.data())
@QUICK
def test_a_damaged_model_is_taken_or_refused(data, tmp_path):
    (tmp_path / "x.keras").write_bytes(data.draw(damaged(small_model())))
    with contextlib.suppress(UnusableFile):
        check_model_file(tmp_path / "x.keras")


def places_in(values, path=()):
    """Where something is in a nested structure: every key and index, outermost first."""
    keys = values if isinstance(values, dict) else range(len(values))
    for key in keys:
        yield (*path, key)
        if isinstance(values[key], dict | list):
            yield from places_in(values[key], (*path, key))


@st.composite
def exchanged(draw, values):
    """A nested structure with something else in one place."""
    values = json.loads(json.dumps(values))
    *path, last = draw(st.sampled_from(list(places_in(values))))
    functools.reduce(operator.getitem, path, values)[last] = draw(JSON | st.integers(1, 2**40))
    return values


def small_downstream():
    head = keras_object("Dense", name="head", units=2, activation="softmax")
    options = {"encoder": small_recipe(), "head": head, "class_names": ["a", "b"]}
    return keras_object("DownstreamModel", "x", "deeplens_tf>DownstreamModel", **options)


def built(recipe, *shape):
    return {**recipe, "build_config": {"input_shape": [None, *shape]}}


def small_mlp(name):
    layers = [
        keras_object("InputLayer", batch_shape=[None, 2], dtype="float32"),
        built(keras_object("Dense", name="a", units=2, use_bias=False), 2),
        built(keras_object("BatchNormalization", name="b"), 2),
        keras_object("Activation", name="c", activation="relu"),
    ]
    return built(keras_object("Sequential", "keras", name=name, layers=layers), 2)


def small_byol():
    encoder = {**small_recipe(), "build_config": {"shapes_dict": {}}}
    parts = {name: small_mlp(name) for name in ("projector", "predictor")}
    parts |= {"encoder": encoder, "probe": built(keras_object("Dense", name="d", units=2), 2)}
    options = {"momentum": 0.9, "total_steps": 5}
    return keras_object("BYOLModel", "x", "deeplens_tf>BYOLModel", **parts, **options)


def small_inpainting():
    encoder = {**small_recipe(), "build_config": {"shapes_dict": {}}}
    encoder["config"]["image_shape"] = [2, 2, 1]
    options = {"patches": 4, "patch_pixels": 1, "width": 2, "depth": 1, "heads": 1, "name": "x"}
    decoder = keras_object("PatchDecoder", "x", "deeplens_tf>PatchDecoder", **options)
    parts = {"encoder": encoder, "decoder": built(decoder, None, 2)}
    name = "InpaintingModel"
    return keras_object(name, "x", f"deeplens_tf>{name}", **parts, mask_ratio=0.5)


@given(
    recipe=exchanged(small_recipe())
    | exchanged(small_downstream())
    | exchanged(small_byol())
    | exchanged(small_inpainting())
    | JSON
)
@settings(QUICK, max_examples=600)
def test_any_recipe_is_taken_or_refused(recipe):
    with contextlib.suppress(UnusableFile):
        check_recipe(recipe, 10**6)


def test_the_small_recipes_are_good():
    check_recipe(small_recipe(), 10**6)
    check_recipe(small_downstream(), 10**6)
    check_recipe(small_byol(), 10**6)
    check_recipe(small_inpainting(), 10**6)


# A prepared folder: whatever is wrong, its digests are true.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    examples = [
        Example(rng.random((12, 12, 1), "f4"), i % 2, 1e-23 if i else np.nan, f"a/{i}.npy")
        for i in range(4)
    ]
    split = write_split(folder, "train", examples, ("a", "b"))
    facts = PreparationSettings(8, "crop", 0.1, seed=0).to_dict()
    Manifest(("a", "b"), (8, 8, 1), {"train": split}, "0" * 64, facts).save(folder)
    return folder


def looked_at(folder):
    manifest = Manifest.load(folder)
    verify_shards(folder, manifest)
    check_shards(folder, manifest)
    return manifest


def test_the_prepared_folder_is_good(prepared):
    assert looked_at(prepared).splits["train"].count == 4


@given(data=st.data())
@QUICK
def test_any_manifest_is_taken_or_refused(data, prepared, tmp_path):
    values = json.loads((prepared / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(data.draw(exchanged(values))))
    with contextlib.suppress(DataError):
        manifest = Manifest.load(tmp_path)
        assert all(shard.file.endswith(".tfrecord") for shard in manifest.splits["train"].shards)


@given(data=st.data())
@QUICK
def test_any_index_is_read_or_refused(data, prepared, tmp_path):
    index = (prepared / "train-index.csv").read_bytes()
    (tmp_path / "train-index.csv").write_bytes(data.draw(damaged(index) | st.binary(max_size=99)))
    with contextlib.suppress(DataError):
        assert read_index(tmp_path, "train", 4)["index"].tolist() == [0, 1, 2, 3]


@given(data=st.data())
@settings(QUICK, max_examples=60)
def test_any_shard_is_read_or_refused(data, prepared, tmp_path):
    """Its bytes are damaged, or a record's are and the checksums are true again."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    whole = (prepared / SHARD).read_bytes()
    if data.draw(st.booleans()):
        whole = data.draw(damaged(whole))
    else:
        records = records_of(whole)
        place = data.draw(st.integers(0, 3))
        records[place] = data.draw(damaged(records[place]))
        whole = b"".join(map(framed, records))
    set_shard(tmp_path, whole)
    with contextlib.suppress(DataError):
        looked_at(tmp_path)


@given(text=st.text())
@QUICK
def test_what_is_printed_is_printable_and_tells_names_apart(text):
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()
