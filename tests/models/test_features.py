"""Features are float32 under any precision policy, and an image shape is known."""

import keras
import numpy as np
import pytest

from deeplens_tf.models import InpaintingModel, build_encoder, decoder_for
from deeplens_tf.models.encoders import global_policy
from deeplens_tf.saving.keras_files import load_encoder, save_encoder
from tests.models.tiny import tiny_images, tiny_original, tiny_vit

SHAPE = (32, 32, 1)
POLICIES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")
SMALL = {
    "vit": lambda: tiny_vit(SHAPE),
    "vit with a class token": lambda: tiny_vit(SHAPE, pooling="class_token"),
    "original": lambda: tiny_original(SHAPE),
    "resnet50": lambda: build_encoder("resnet50", SHAPE, top_width=4),
}


def in_policy(policy, build):
    with global_policy(policy):
        return build()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "name",
    [name if name != "resnet50" else pytest.param(name, marks=pytest.mark.slow) for name in SMALL],
)
def test_features_are_float32_and_as_precise_as_the_policy(name, policy):
    encoder, images = in_policy(policy, SMALL[name]), tiny_images(3, SHAPE)
    features = encoder(images)
    assert features.dtype == "float32"
    assert encoder.compute_output_spec(keras.KerasTensor((None, *SHAPE))).dtype == "float32"
    assert keras.Model(inputs := keras.Input(SHAPE), encoder(inputs)).outputs[0].dtype == "float32"
    # Nothing is computed otherwise than before: every value is one of the lower precision.
    lower = keras.ops.cast(features, policy.removeprefix("mixed_"))
    np.testing.assert_array_equal(keras.ops.cast(lower, "float32"), features)


@pytest.mark.parametrize("policy", POLICIES[:2])
def test_a_loaded_encoder_predicts_float32(policy, tmp_path):
    encoder = in_policy(policy, SMALL["original"])
    save_encoder(encoder, tmp_path / "encoder.keras")
    features = load_encoder(tmp_path / "encoder.keras").predict(tiny_images(3, SHAPE), verbose=0)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, encoder.predict(tiny_images(3, SHAPE), verbose=0))


def test_inpaintings_features_are_float32_too():
    def build():
        encoder = tiny_vit(SHAPE)
        return InpaintingModel(encoder, decoder_for(encoder, width=4, depth=1, heads=1))

    model = in_policy("mixed_bfloat16", build)
    order = np.tile(np.arange(64, dtype="int32"), (3, 1))
    outputs = model({"view_1": tiny_images(3, SHAPE), "patch_order": order})
    assert outputs["features"][0].dtype == outputs["patches"].dtype == "float32"


@pytest.mark.parametrize("name", ["vit_nano", "vit_b32_original", "resnet50"])
@pytest.mark.parametrize(
    "shape",
    [
        (None, None, 1),
        (64, 64, None),
        (64, 64),
        (64, 64, 1, 1),
        (64.0, 64, 1),
        (64, 64, 0),
        (64, -64, 1),
        (True, 64, 1),
        ("64", 64, 1),
        "64x",
        64,
        None,
    ],
)
def test_an_image_shape_that_is_not_known_is_refused(name, shape):
    with pytest.raises(ValueError) as caught:
        build_encoder(name, shape)
    assert str(caught.value) == (
        "image_shape must be (height, width, bands), three positive whole numbers. "
        f"Received: image_shape={shape!r}"
    )


def test_an_image_shape_of_numpys_numbers_is_one_of_pythons(tmp_path):
    encoder = build_encoder("vit_nano", list(np.array([16, 24, 2])), depth=1)
    assert encoder.image_shape == (16, 24, 2)
    assert {type(side) for side in encoder.image_shape} == {int}
    save_encoder(encoder, tmp_path / "encoder.keras")
    assert load_encoder(tmp_path / "encoder.keras").image_shape == (16, 24, 2)


@pytest.mark.parametrize("name", ["vit_nano", "vit_b32_original"])
@pytest.mark.parametrize("pooling", ["cls", "mean", ""])
def test_an_unknown_pooling_is_refused(name, pooling):
    with pytest.raises(ValueError, match=r"pooling must be one of average, class_token\. Received"):
        build_encoder(name, (64, 64, 1), pooling=pooling)
