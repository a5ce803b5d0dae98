"""Exported files in their own runtimes: the outputs of the model for the same raw pixels."""

import json
import re
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplens_tf as dl
from deeplens_tf import export as stage
from deeplens_tf.errors import RequestError
from deeplens_tf.files.plain_yaml import parse_yaml
from deeplens_tf.files.products import EXPORTS
from deeplens_tf.inference import export_formats
from deeplens_tf.models import ContrastiveModel, DownstreamModel, projection_head
from deeplens_tf.models.heads import MassHead, classification_head
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.value_scale import ValueScale
from tests.conftest import REPOSITORY
from tests.models.tiny import randomise, tiny_original, tiny_vit

# Of the converters and of TensorFlow's own reader of a SavedModel.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CROP = Preprocessing(8, "crop", 2, source_side=8)
RESIZE = Preprocessing(
    8,
    "resize",
    2,
    source_side=12,
    scaling=ValueScale("percentile", (1.0, 99.5), "asinh", max_nan_fraction=0.1),
)
CLASSES = ("axion", "cdm", "no_sub")


def raw_images(side=12, count=5):
    """Raw images, of which the second cannot be used."""
    images = np.random.default_rng(3).normal(1e3, 10, (count, side, side, 2)).astype(np.float32)
    images[1] = np.nan
    images[2, side // 2, side // 2, 0] += 40
    return images


def encoder(how=CROP, build=tiny_vit):
    made = randomise(build(image_shape=how.image_shape), seed=1)
    made.preprocessing = how
    return made


def written(path, model):
    model.save(path)
    return path


def run_keras(path, images):
    return keras.saving.load_model(path).predict(images, verbose=0)


def run_savedmodel(path, images):
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    (outputs,) = signature(images=tf.constant(images)).values()
    return outputs.numpy()


def run_onnx(path, images):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"images": images})
    return outputs


def run_tflite(path, images):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


RUNTIMES = {
    "keras": run_keras,
    "savedmodel": run_savedmodel,
    "onnx": run_onnx,
    "tflite": run_tflite,
}


@pytest.fixture(params=RUNTIMES)
def form(request):
    if request.param == "onnx":
        pytest.importorskip("tf2onnx")
    return request.param


def require_same(path, form, expected, images):
    """Compare a file with the outputs for all images but the second, which are NaN."""
    found = RUNTIMES[form](path, images)
    np.testing.assert_allclose(np.delete(found, 1, axis=0), expected, rtol=1e-5, atol=1e-5)
    assert np.isnan(found[1]).all()


@pytest.mark.slow
def test_class_probabilities_of_raw_pixels(form, tmp_path):
    head = classification_head(3)
    model = DownstreamModel(encoder(RESIZE), head, CLASSES, class_weights=(1, 2, 5))
    file = written(tmp_path / "m.keras", model)
    images = raw_images()
    path = dl.inference.export(file, form, tmp_path / "out")
    assert path == tmp_path / "out" / EXPORTS[form]
    require_same(path, form, model.predict_images(np.delete(images, 1, axis=0)), images)


@pytest.mark.slow
def test_a_regression_with_its_deviation_of_cropped_pixels(form, tmp_path):
    model = DownstreamModel(encoder(), MassHead(-23.0, 0.5, gaussian=True))
    file = written(tmp_path / "m.keras", model)
    path = dl.inference.export(file, form, tmp_path / "out")
    for images in (raw_images(13), raw_images(8, count=3)):
        require_same(path, form, model.predict_images(np.delete(images, 1, axis=0)), images)


@pytest.mark.slow
def test_features_of_a_network_with_keras_own_gelu(form, tmp_path):
    """Its complementary error function is no operation of ONNX."""
    model = encoder(replace(CROP, bands=1, repeat=2), build=tiny_original)
    file = written(tmp_path / "m.keras", model)
    images = raw_images(9)[..., :1]
    path = dl.inference.export(file, form, tmp_path / "out")
    require_same(path, form, model.features(np.delete(images, 1, axis=0)), images)


@pytest.mark.slow
def test_a_file_says_what_it_takes_and_gives(form, tmp_path):
    path = dl.inference.export("vit_nano_same_lens", form, tmp_path / "out")
    if form == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        text = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["deeplens_tf"]
    elif form == "savedmodel":
        text = (path / "assets.extra" / "deeplens_tf.json").read_text()
    elif form == "keras":
        text = keras.saving.load_model(path).about
    else:
        flatbuffer_utils = pytest.importorskip("tensorflow.lite.tools.flatbuffer_utils")
        model = flatbuffer_utils.read_model(str(path))
        (entry,) = [each for each in model.metadata if each.name == b"deeplens_tf"]
        text = bytes(model.buffers[entry.buffer].data)
    about = json.loads(text)
    assert about["input"]["shape"] == [None, None, None, 1]
    assert about["preprocessing"]["image_size"] == 32
    card = (tmp_path / "out" / "README.md").read_text()
    head = parse_yaml(card.split("---\n")[1])
    assert head["deeplens_tf"] == {**about, "format": form, "data_fingerprint": DATA}
    for line in ("- Digest of the data: " + DATA, "- Pretraining: contrastive (views flip, rot90)"):
        assert line in card.splitlines()
    assert "Macro AUC 0.9945 [0.9931, 0.9958] of `probe, 10 %`" in card


DATA = json.loads(
    (dl.shipped_encoders()["vit_nano_same_lens"].parent / "environment.json").read_text()
)["dataset_fingerprint"]


def test_the_card_has_the_scores_of_the_run_and_of_the_control(tmp_path):
    report = {"macro_auc": 0.9, "n_test": 30, "test_set": "d" * 64}
    report["intervals_95"] = {"macro_auc": [0.8, 0.95]}
    folder = tmp_path / "run" / "evaluation" / "test-probe"
    folder.mkdir(parents=True)
    text = json.dumps({**report, "control": {"macro_auc": 0.5, "intervals_95": {}}})
    (folder / "metrics.json").write_text(text)
    (tmp_path / "run" / "config.yaml").write_text("")
    file = written(tmp_path / "run" / "encoder.keras", encoder())
    path = dl.inference.export(file.parent, "keras")
    assert path == tmp_path / "run" / "exports" / "keras" / "model.keras"
    line = "| test-probe | macro_auc | 0.9000 [0.8000, 0.9500] | 0.5000 | 30 | dddddddddddd |"
    assert line in path.with_name("README.md").read_text().splitlines()


def test_an_export_is_replaced_and_nothing_else(tmp_path):
    file = written(tmp_path / "m.keras", encoder())
    for _ in range(2):
        dl.inference.export(file, "keras", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.keras", "out"]
    (tmp_path / "out" / "notes.txt").write_text("mine")
    other = tmp_path / "project"
    other.mkdir()
    (other / "README.md").write_text("mine")
    for folder in (tmp_path / "out", other, file):
        with pytest.raises(RequestError, match="contains something else"):
            dl.inference.export(file, "keras", folder)
    assert (other / "README.md").read_text() == "mine"


def test_a_failed_export_leaves_the_earlier_one(tmp_path, monkeypatch):
    file = written(tmp_path / "m.keras", encoder())
    path = dl.inference.export(file, "keras", tmp_path / "out")
    before = path.read_bytes()

    def fail(model, path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export_formats.WRITERS, "keras", fail)
    with pytest.raises(OSError, match="No space left"):
        dl.inference.export(file, "keras", tmp_path / "out")
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.keras", "out"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (replace(CROP, scaling=ValueScale("zscale")), "zscale"),
        (None, "does not record the preprocessing"),
    ],
)
def test_a_preprocessing_that_cannot_be_inside_is_refused(how, reason, tmp_path):
    model = encoder()
    model.preprocessing = how
    file = written(tmp_path / "m.keras", model)
    with pytest.raises(RequestError, match=reason):
        dl.inference.export(file, "keras", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_self_supervised_model_is_refused(tmp_path):
    model = ContrastiveModel(encoder(), projection_head(8))
    file = written(tmp_path / "m.keras", model)
    with pytest.raises(RequestError, match="holds a ContrastiveModel, not a fine-tuned model or"):
        dl.inference.export(file, "keras", tmp_path / "out")


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_half_precision_is_refused_where_it_would_differ(form, tmp_path):
    if form == "onnx":
        pytest.importorskip("tf2onnx")
    model = tiny_vit(image_shape=CROP.image_shape, dtype="mixed_bfloat16")
    model.preprocessing = CROP
    file = written(tmp_path / "m.keras", model)
    with pytest.raises(RequestError, match="computes in bfloat16"):
        dl.inference.export(file, form, tmp_path / "out")


@pytest.mark.slow
def test_an_operation_that_onnx_lacks_is_named(tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    file = written(tmp_path / "m.keras", encoder(build=tiny_original))
    monkeypatch.setattr(export_formats, "_use_erf", lambda model: None)
    with pytest.raises(RequestError, match=r"format onnx: an operation of this network .* Erfc"):
        dl.inference.export(file, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_converter_is_named(monkeypatch):
    monkeypatch.setattr(export_formats.importlib.util, "find_spec", lambda name: None)
    line = r"format onnx: needs onnx and tf2onnx: pip install 'deeplens_tf\[export\]'"
    with pytest.raises(RequestError, match=line):
        dl.inference.export("vit_nano_same_lens", "onnx")


def test_another_format_is_refused():
    with pytest.raises(RequestError, match="format must be one of savedmodel, onnx, tflite, keras"):
        dl.inference.export("vit_nano_same_lens", "torch")


def test_the_stage_names_what_it_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stage.main(["--run", "vit_nano_same_lens", "--format", "keras"])
    line = "export: exports/vit_nano_same_lens/keras/model.keras, with its model card "
    assert line in capsys.readouterr().out
    assert not (tmp_path / "exports" / "vit_nano_same_lens" / "keras" / "encoder.keras").exists()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--run", "no/such/run", "--format", "onnx"], "no such file or run folder"),
        (["--run", "half", "--format", "onnx"], "half: holds no model; its run has not finished"),
        (["--run", "half", "--format", "torch"], "invalid choice: 'torch'"),
        (["--run", "junk.keras", "--format", "keras"], "not a model that can be loaded safely"),
    ],
)
def test_a_wrong_request_is_one_line(argv, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("")
    (tmp_path / "junk.keras").write_bytes(b"junk")
    with pytest.raises(RequestError, match=line):
        stage.main(argv)


@pytest.mark.slow
def test_the_lines_for_onnxruntime_run_as_they_stand(tmp_path, run_python):
    for package in ("tf2onnx", "onnxruntime"):
        pytest.importorskip(package)
    page = (REPOSITORY / "docs" / "export.md").read_text()
    (lines,) = re.findall(r"<!-- onnxruntime -->\n```python\n(.*?)```", page, re.DOTALL)
    path = dl.inference.export("vit_nano_same_lens", "onnx", tmp_path / "out")
    path.rename(tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((2, 64, 64, 1)))
    ended = run_python("-c", lines)
    assert (ended.returncode, ended.stdout) == (0, "(2, 96)\n"), ended.stderr


def test_the_lines_for_keras_run_as_they_stand(tmp_path, monkeypatch, capsys):
    page = (REPOSITORY / "docs" / "export.md").read_text()
    lines = page.rpartition("### Keras")[2].split("```python\n")[1].split("```")[0]
    folder = dl.inference.export("vit_nano_same_lens", "keras", tmp_path / "out").parent
    text = (folder / "README.md").read_text().split("---\n")[2]
    of_card = re.findall(r"^    (.*)\n", text, re.MULTILINE)
    np.save(folder / "images.npy", np.random.default_rng(0).random((2, 64, 64, 1)))
    monkeypatch.chdir(folder)
    namespace = {}
    exec("\n".join(of_card), namespace)
    np.testing.assert_allclose(
        namespace["encoder"].features(namespace["images"]),
        namespace["model"].predict(namespace["images"]),
        atol=1e-5,
    )
    exec(lines, {})
    assert capsys.readouterr().out.endswith("(2, 96)\n")
