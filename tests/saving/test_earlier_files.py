"""Files of an earlier version load, with renamed and moved classes, and compute what they did."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import deeplens_tf as dl
from deeplens_tf.models import (
    BarlowTwinsModel,
    BYOLModel,
    ContrastiveModel,
    InpaintingModel,
    OriginalViT,
    SimSiamModel,
    TwinModel,
    VisionTransformer,
)
from deeplens_tf.models.heads import batch_norm_mlp

EARLIER = Path(__file__).parent / "earlier"
IMAGES = (np.arange(3 * 8 * 8).reshape(3, 8, 8, 1) % 13 / 13).astype("float32")
BATCH = {
    "view_1": IMAGES,
    "view_2": IMAGES[::-1].copy(),
    "image": IMAGES,
    "label": np.array([0, 1, 2]),
    "patch_order": np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]], "int32"),
}


@pytest.fixture(scope="module")
def expected():
    return np.load(EARLIER / "expected.npz")


@pytest.mark.parametrize(
    ("name", "kind"), [("vit", VisionTransformer), ("original_top", OriginalViT)]
)
def test_an_encoder_loads_and_is_saved_again(name, kind, expected, tmp_path):
    encoder = dl.load_encoder(EARLIER / f"{name}.keras")
    assert type(encoder) is kind
    np.testing.assert_allclose(encoder(IMAGES), expected[name], atol=1e-5)
    dl.save_encoder(encoder, tmp_path / "again.keras")
    again = dl.load_encoder(tmp_path / "again.keras")
    np.testing.assert_array_equal(again(IMAGES), encoder(IMAGES))


def test_the_original_encoder_begins_as_it_did_under_the_same_names():
    keras.utils.set_random_seed(3)
    sizes = {"patch_size": 4, "depth": 1, "width": 4, "heads": 2, "mlp_width": 8}
    encoder = dl.models.build_encoder("vit_b32_original", (8, 8, 1), **sizes)
    heads = (batch_norm_mlp((4, 2), name) for name in ("projector", "predictor"))
    model = BYOLModel(encoder, *heads, name="byol")
    now = {v.path: np.ravel(v)[-1] for v in model.variables if "seed_generator" not in v.path}
    then = dict(json.loads((EARLIER / "byol_on_original.json").read_text()))
    assert list(now) == list(then)
    np.testing.assert_allclose(list(now.values()), list(then.values()), atol=1e-5)


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_a_fine_tuned_model_loads(name, expected):
    model = dl.load_model(EARLIER / f"{name}.keras")
    np.testing.assert_allclose(model(IMAGES), expected[name], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("contrastive", ContrastiveModel),
        ("byol", BYOLModel),
        ("twin", BarlowTwinsModel),
        ("simsiam", SimSiamModel),
        ("inpainting", InpaintingModel),
    ],
)
def test_a_self_supervised_model_loads_with_its_loss(name, kind, expected):
    path = EARLIER / f"{name}.keras"
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    assert type(model) is kind
    model.compile("sgd", run_eagerly=True)
    logs = model.evaluate(BATCH, batch_size=3, verbose=0, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(float(expected[name][0]), abs=1e-5)


def test_the_old_name_of_a_class_is_the_class():
    assert TwinModel is BarlowTwinsModel
    assert keras.saving.get_registered_object("deeplens_tf>TwinModel") is BarlowTwinsModel
    # What is saved now has the new name.
    name = keras.saving.get_registered_name(BarlowTwinsModel)
    assert name == "deeplens_tf>BarlowTwinsModel"


def test_a_prepared_folder_opens(tmp_path):
    data = dl.data.open_folder(EARLIER / "prepared", image_size=8, cache=tmp_path)
    assert data.classes == ("axion", "cdm", "no_sub")
    assert (data.count("train"), data.count("validation")) == (27, 9)
    images = np.concatenate(list(dl.data.image_batches(data, "train", 10)))
    assert images.shape == (27, 8, 8, 1)
    assert (images.min(axis=(1, 2, 3)) == 0).all()
    assert (images.max(axis=(1, 2, 3)) == 1).all()
