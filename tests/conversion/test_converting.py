"""Weights of the original's encoders are converted, or refused with the arrays that differ."""

import numpy as np
import pytest

from deeplens_tf.conversion.converting import convert
from deeplens_tf.errors import RequestError
from deeplens_tf.models import build_encoder
from tests.conversion.keras2_files import (
    DEPTH,
    HEADS,
    IMAGE_SHAPE,
    MLP_WIDTH,
    PATCH,
    WIDTH,
    plain_resnet_layers,
    resnet_layers,
    vit_layers,
    write,
)
from tests.models.tiny import tiny_images


@pytest.fixture
def layers():
    return vit_layers()


@pytest.fixture
def refused(layers, tmp_path):
    """Write the layers that a test changed and return the reason for refusing them."""

    def reason(**options):
        path = write(tmp_path / "original.h5", layers)
        with pytest.raises(RequestError) as caught:
            convert(path, **{"heads": HEADS, **options})
        assert str(caught.value).startswith(f"{path}: ")
        return str(caught.value)

    return reason


def gelu(x):
    from scipy.special import erf

    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def normed(x, gamma, beta, mean, variance, epsilon):
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def naive_features(images, layers):
    """Features of the original's network, computed in NumPy per image and head."""
    weights = {
        name.removesuffix(":0"): np.float64(array)
        for part in layers.values()
        for name, array in part.items()
    }
    return np.stack([naive_image(np.float64(image), weights) for image in images])


def dense(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def layer_norm(x, weights, name):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return normed(x, weights[f"{name}/gamma"], weights[f"{name}/beta"], mean, variance, 1e-6)


def naive_image(image, weights):
    tokens = [weights["dummy_input/dummy_input"][0, 0]]
    for row in range(0, IMAGE_SHAPE[0], PATCH):
        for column in range(0, IMAGE_SHAPE[1], PATCH):
            patch = image[row : row + PATCH, column : column + PATCH]
            kernel = weights["embedding/kernel"].reshape(-1, WIDTH)
            tokens.append(patch.reshape(-1) @ kernel + weights["embedding/bias"])
    x = np.stack(tokens) + weights["Transformer/posembed_input/pos_embedding"][0]
    for i in range(DEPTH):
        x = naive_block(x, weights, f"Transformer/encoderblock_{i}")
    token = layer_norm(x, weights, "Transformer/encoder_norm")[0]
    return naive_top(np.tanh(dense(token, weights, "pre_logits")), weights)


def naive_block(x, weights, name):
    attended, y = np.zeros_like(x), layer_norm(x, weights, f"{name}/LayerNorm_0")
    parts = [
        dense(y, weights, f"{name}/MultiHeadDotProductAttention_1/{part}")
        for part in ("query", "key", "value")
    ]
    size = WIDTH // HEADS
    for head in range(HEADS):
        query, key, value = (part[:, head * size : (head + 1) * size] for part in parts)
        scores = np.exp(query @ key.T / np.sqrt(size))
        mixed = scores @ value / scores.sum(-1, keepdims=True)
        attended[:, head * size : (head + 1) * size] = mixed
    x = x + dense(attended, weights, f"{name}/MultiHeadDotProductAttention_1/out")
    y = layer_norm(x, weights, f"{name}/LayerNorm_2")
    return x + dense(gelu(dense(y, weights, f"{name}/Dense_0")), weights, f"{name}/Dense_1")


def naive_top(x, weights):
    for i, name in enumerate(("", "_1", "_2")):
        norm = f"batch_normalization{name}"
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        x = normed(x, *(weights[f"{norm}/{part}"] for part in parts), 1e-3)
        if i < 2:
            x = gelu(dense(x, weights, f"dense{name}"))
    return x


def test_a_transformer_computes_the_original_features(layers, tmp_path):
    encoder = convert(write(tmp_path / "original.h5", layers), heads=HEADS)
    images = tiny_images(3, IMAGE_SHAPE)
    assert encoder.image_shape == IMAGE_SHAPE
    np.testing.assert_allclose(encoder(images), naive_features(images, layers), rtol=2e-5)


def test_the_sizes_are_determined_by_the_file(layers, tmp_path):
    options = convert(write(tmp_path / "original.h5", layers), heads=HEADS).options
    assert options["patch_size"] == PATCH
    assert (options["width"], options["depth"], options["heads"]) == (WIDTH, DEPTH, HEADS)
    assert options["mlp_width"] == MLP_WIDTH
    assert options["pooling"] == "class_token"


@pytest.mark.parametrize("first_number", [1, 8])
def test_layers_numbered_by_a_later_notebook_session_are_recognised(first_number, tmp_path):
    # From 8 on, the order of the names as text is not the order of their numbers.
    encoders = [
        convert(write(tmp_path / f"{number}.h5", vit_layers(first_number=number)), heads=HEADS)
        for number in (0, first_number)
    ]
    images = tiny_images(2, IMAGE_SHAPE)
    np.testing.assert_array_equal(encoders[0](images), encoders[1](images))


def test_the_names_of_vit_keras_are_recognised(layers, tmp_path):
    body = layers["model"]
    token = body.pop("dummy_input/dummy_input:0")
    body["class_token/cls:0"] = token
    encoder = convert(write(tmp_path / "original.h5", layers), heads=HEADS)
    np.testing.assert_array_equal(encoder.embedding.token, token)


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 3])
def test_a_resnet_is_rebuilt_weight_for_weight(bands, tmp_path):
    backbone = resnet_weights(bands)
    layers = resnet_layers(backbone, width=4)
    encoder = convert(write(tmp_path / "original.h5", layers), image_size=32)
    assert encoder.image_shape == (32, 32, bands)
    assert encoder.top_width == 4
    assert not encoder.plain_top
    assert_same_backbone(encoder, backbone)
    for i in range(3):
        for kind, numbered in (("dense", "dense"), ("norm", "batch_normalization")):
            stored = layers[f"{numbered}_{i + 9}"].values()
            for value, other in zip(
                encoder.top.get_layer(f"{kind}_{i}").get_weights(), stored, strict=True
            ):
                np.testing.assert_array_equal(value, other)


@pytest.mark.slow
def test_the_resnet_for_regression_has_one_layer_on_top(tmp_path):
    backbone = resnet_weights(bands=3)
    layers = plain_resnet_layers(backbone, width=4)
    encoder = convert(write(tmp_path / "original.h5", layers))
    assert encoder.plain_top
    assert encoder.top_width == 4
    assert_same_backbone(encoder, backbone)
    stored = layers["dense_3"].values()
    for value, other in zip(encoder.top.get_weights(), stored, strict=True):
        np.testing.assert_array_equal(value, other)


def resnet_weights(bands):
    source = build_encoder("resnet50", (64, 64, bands), top_width=4)
    return {variable.path: variable.numpy() for variable in source.backbone.weights}


def assert_same_backbone(encoder, backbone):
    found = {variable.path: variable.numpy() for variable in encoder.backbone.weights}
    assert set(found) == set(backbone)
    for path, value in backbone.items():
        np.testing.assert_array_equal(found[path], value)


def test_missing_arrays_are_named(layers, refused):
    del layers["model"]["Transformer/encoderblock_1/LayerNorm_2/beta:0"]
    assert "it lacks encoderblock_1/LayerNorm_2/beta" in refused()


def test_unknown_arrays_are_named_as_in_the_file(layers, refused):
    layers["head"] = {"head/kernel:0": np.ones((256, 3), "f4"), "head/bias:0": np.ones(3, "f4")}
    assert "it also contains head/head/bias:0, head/head/kernel:0" in refused()


def test_different_shapes_are_named(layers, refused):
    layers["modified_vit_top"]["dense/bias:0"] = np.ones(32, "f4")
    assert "modified_vit_top/dense/bias:0 is (32,) instead of (512,)" in refused()


def test_a_long_list_is_shortened(layers, refused):
    body = layers["model"]
    layers["model"] = {name: body[name] for name in body if "LayerNorm_" not in name}
    assert "encoderblock_0/LayerNorm_2/gamma and 5 more" in refused()


def test_two_arrays_for_one_slot_are_refused(layers, refused):
    layers["other"] = {"embedding/bias:0": np.ones(WIDTH, "f4")}
    assert (
        "both model/embedding/bias:0 and other/embedding/bias:0 match embedding/bias" in refused()
    )


def test_another_network_is_refused(layers, refused):
    layers.clear()
    layers["dense"] = {"dense/kernel:0": np.ones((3, 2), "f4")}
    assert "neither the original's ViT nor its ResNet50: the file contains dense[0]/" in refused()


def test_options_that_contradict_the_file_are_refused(refused):
    assert "--image-size 32: the file has positions for 16 pixels" in refused(image_size=32)
    assert "heads must divide width=12. Received: heads=5" in refused(heads=5)


def test_heads_for_a_resnet_would_be_passed_over(layers, refused):
    layers.clear()
    layers["conv1_conv"] = {"conv1_conv/kernel:0": np.ones((7, 7, 1, 64), "f4")}
    assert f"--heads {HEADS}: a ResNet50 has no attention heads; leave it out" in refused()


def test_positions_that_form_no_square_are_refused(layers, refused):
    name = "Transformer/posembed_input/pos_embedding:0"
    layers["model"][name] = np.ones((1, 7, WIDTH), "f4")
    assert "pos_embedding: 6 patches do not form a square image" in refused()


def test_a_small_file_cannot_request_a_large_network(layers, refused):
    for name in list(layers["model"]):
        if "encoderblock" in name:
            del layers["model"][name]
    for i in range(500):
        name = f"Transformer/encoderblock_{i}/Dense_0/kernel:0"
        layers["model"][name] = np.ones((1, 2000 if i == 0 else 1), "f4")
    assert "too few numbers for 500 blocks of width 12" in refused()


def test_an_empty_kernel_is_refused(layers, refused):
    layers["model"]["embedding/kernel:0"] = np.ones((8, 8, 0, WIDTH), "f4")
    assert "embedding/kernel must have 4 non-empty axes. Received: (8, 8, 0, 12)" in refused()


@pytest.mark.slow
def test_an_image_too_small_for_a_resnet_is_refused(tmp_path):
    path = write(tmp_path / "original.h5", plain_resnet_layers(resnet_weights(bands=1), width=4))
    with pytest.raises(RequestError, match=r"original\.h5: image_shape must have 32 pixels"):
        convert(path, image_size=16)
