"""The vision transformer against a forward pass in NumPy and closed forms."""

import keras
import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from deeplens_tf.models import ENCODERS, build_encoder
from deeplens_tf.models.transformer_block import TransformerBlock
from deeplens_tf.models.vit import VARIANTS
from tests.models.tiny import (
    assert_same_values,
    randomise,
    reloaded,
    tiny_images,
    tiny_original,
    tiny_vit,
    values_of,
)


def parameter_count(
    patch_size,
    width,
    depth,
    mlp_width,
    image_shape,
    pooling="average",
    original_top=False,
    **_,
):
    """The number of all variables, moving statistics included, in closed form."""
    height, image_width, bands = image_shape
    token = int(pooling == "class_token")
    tokens = height * image_width // patch_size**2 + token
    embedding = (patch_size**2 * bands + 1) * width + tokens * width + token * width
    attention = 4 * (width + 1) * width
    mlp = (width + 1) * mlp_width + (mlp_width + 1) * width
    norm = 2 * width
    total = embedding + depth * (attention + mlp + 2 * norm) + norm
    if original_top:
        total += (width + 1) * width + 4 * width
        total += (width + 1) * 512 + 4 * 512 + 513 * 256 + 4 * 256
    return total


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def layer_norm(x, weights, name):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def batch_norm(x, weights, name):
    variance = weights[f"{name}/moving_variance"] + 1e-3
    scaled = (x - weights[f"{name}/moving_mean"]) / np.sqrt(variance)
    return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def dense(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def attention(x, weights, name):
    """Scaled dot-product attention, one head after the other."""
    total = weights[f"{name}/attention_output/bias"]
    for head in range(weights[f"{name}/query/kernel"].shape[1]):
        query, key, value = (
            x @ weights[f"{name}/{part}/kernel"][:, head] + weights[f"{name}/{part}/bias"][head]
            for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1]))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ value
        total = total + mixed @ weights[f"{name}/attention_output/kernel"][head]
    return total


def block(x, weights, name, attention_scale=1.0, mlp_scale=1.0):
    normed = layer_norm(x, weights, f"{name}attention_norm")
    x = x + attention_scale * attention(normed, weights, f"{name}attention")
    normed = layer_norm(x, weights, f"{name}mlp_norm")
    hidden = gelu(dense(normed, weights, f"{name}mlp_in"))
    return x + mlp_scale * dense(hidden, weights, f"{name}mlp_out")


def numpy_weights(encoder):
    """The network's variables in float64, by their paths within it."""
    return {
        path.split(f"{encoder.name}/", 1)[-1]: value.astype(float)
        for path, value in values_of(encoder).items()
    }


def numpy_tokens(images, weights):
    """The embedded tokens in float64."""
    kernel = weights["embedding/projection/kernel"]  # (side, side, bands, width)
    count, side, width = len(images), kernel.shape[0], kernel.shape[-1]
    patches = [
        images[:, row : row + side, column : column + side].reshape(count, -1)
        for row in range(0, images.shape[1], side)
        for column in range(0, images.shape[2], side)
    ]
    x = np.stack(patches, axis=1) @ kernel.reshape(-1, width)
    x = x + weights["embedding/projection/bias"]
    if "embedding/class_token" in weights:
        token = np.broadcast_to(weights["embedding/class_token"], (count, 1, width))
        x = np.concatenate([token, x], axis=1)
    return x + weights["embedding/positions"]


def numpy_features(images, encoder):
    """The network's output in float64, at inference."""
    weights = numpy_weights(encoder)
    x = numpy_tokens(images, weights)
    for i in range(encoder.options["depth"]):
        x = block(x, weights, f"block_{i}/")
    x = layer_norm(x, weights, "norm")
    x = x[:, 0] if "embedding/class_token" in weights else x.mean(axis=1)
    if "top/representation/kernel" not in weights:
        return x
    x = batch_norm(np.tanh(dense(x, weights, "top/representation")), weights, "top/norm_0")
    x = batch_norm(gelu(dense(x, weights, "top/dense_1")), weights, "top/norm_1")
    return batch_norm(gelu(dense(x, weights, "top/dense_2")), weights, "top/norm_2")


@pytest.mark.parametrize(
    "make",
    [
        tiny_vit,
        lambda: tiny_vit(pooling="class_token"),
        lambda: tiny_vit((8, 8, 1), heads=1, depth=3, dropout=0.4, stochastic_depth=0.4),
        tiny_original,
    ],
)
def test_the_output_is_numpys(make):
    encoder = make()
    generator = np.random.default_rng(1)
    for variable in encoder.trainable_variables:
        variable.assign(variable + generator.normal(0, 0.15, variable.shape))
    for variable in encoder.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(generator.uniform(0.2, 1, variable.shape))
    images = tiny_images(4, encoder.image_shape)
    features = keras.ops.convert_to_numpy(encoder(images, training=False))
    expected = numpy_features(images.astype(float), encoder)
    assert np.ptp(expected, axis=0).max() > 0.05  # the images are told apart
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["vit_nano", "vit_tiny"])
@pytest.mark.parametrize("options", [{}, {"pooling": "class_token", "patch_size": 16}])
def test_a_variants_parameters_are_as_many_as_the_formula_says(name, options):
    encoder = build_encoder(name, (64, 32, 3), **options)
    expected = parameter_count(**{**VARIANTS[name], **options}, image_shape=(64, 32, 3))
    assert encoder.count_params() == expected


@pytest.mark.slow
def test_the_originals_network_is_a_vit_b32_under_its_top():
    encoder = build_encoder("vit_b32_original", (64, 64, 3))
    assert encoder.embedding.positions.shape == (1, 5, 768)  # four tokens and the class's
    assert sum(block.count_params() for block in encoder.blocks) == 85_054_464  # ViT-B's
    expected = parameter_count(
        **VARIANTS["vit_b32_original"], image_shape=(64, 64, 3), original_top=True
    )
    assert encoder.count_params() == expected
    assert encoder.compute_output_shape((None, 64, 64, 3)) == (None, 256)
    images = tiny_images(1, (64, 64, 3))
    np.testing.assert_allclose(
        encoder(images, training=False), numpy_features(images.astype(float), encoder), atol=2e-4
    )


def test_the_spread_of_the_positions_is_the_one_asked_for():
    for stddev in (0.02, 0.06):
        encoder = tiny_vit((64, 64, 1), width=48, position_stddev=stddev)
        assert np.std(encoder.embedding.positions) == pytest.approx(stddev, rel=0.05)


@pytest.mark.parametrize(
    ("make", "width"), [(tiny_vit, 12), (lambda: tiny_vit(pooling="class_token"), 12),
                        (tiny_original, 256)]
)  # fmt: skip
def test_the_output_shape_is_the_announced_one(make, width):
    encoder = make()
    assert encoder(tiny_images(3)).shape == (3, width)
    assert encoder.compute_output_shape((None, 12, 8, 2)) == (None, width)


@pytest.mark.parametrize("bands", [1, 4])
def test_every_band_counts(bands):
    encoder = tiny_vit((8, 8, bands))
    image = tiny_images(1, (8, 8, bands))
    before = encoder(image)
    for band in range(bands):
        changed = image.copy()
        changed[..., band] += 0.5
        assert np.abs(encoder(changed) - before).max() > 1e-4


def test_a_patch_that_does_not_divide_names_the_sides_that_do():
    with pytest.raises(ValueError) as caught:
        build_encoder("vit_nano", (12, 18, 1))
    assert str(caught.value) == (
        "patch_size must divide the image of 12 x 18 pixels, as 2, 3, 6 do. Received: patch_size=8"
    )


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match=r"heads must divide width=12\. Received: heads=5"):
        tiny_vit(heads=5)


def test_an_unknown_encoder_names_the_known():
    message = rf"name must be one of {', '.join(ENCODERS)} .* Received: name='vit'; did you mean"
    with pytest.raises(ValueError, match=message):
        build_encoder("vit", (64, 64, 1))


def test_an_option_that_the_encoder_lacks_is_named():
    with pytest.raises(
        ValueError, match="top_width is not an option of vit_nano, whose options are"
    ):
        build_encoder("vit_nano", (64, 64, 1), top_width=8)


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"stochastic_depth": 0.5}])
def test_what_is_dropped_is_dropped_in_training_alone(rates):
    encoder, plain = tiny_vit(**rates), tiny_vit()
    for variable, value in zip(plain.weights, encoder.weights, strict=True):
        variable.assign(value)
    images = tiny_images(16)
    at_inference = encoder(images, training=False)
    np.testing.assert_array_equal(at_inference, encoder(images, training=False))
    np.testing.assert_array_equal(at_inference, plain(images, training=False))
    first, second = encoder(images, training=True), encoder(images, training=True)
    assert np.abs(first - at_inference).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3


def test_without_rates_training_changes_nothing():
    encoder, images = tiny_vit(), tiny_images()
    np.testing.assert_array_equal(encoder(images, training=True), encoder(images, training=False))


def test_stochastic_depth_drops_an_examples_branch_as_a_whole():
    layer = TransformerBlock(heads=2, mlp_width=12, stochastic_depth=0.5, name="block")
    tokens = np.random.default_rng(0).normal(size=(64, 5, 8)).astype("float32")
    layer.build(tokens.shape)
    for variable in layer.trainable_variables:
        variable.assign(variable + 0.1)
    outputs = layer(tokens, training=True)
    weights = {
        path.removeprefix("block/"): value.astype(float) for path, value in values_of(layer).items()
    }
    # What is kept of a branch is doubled, so that its mean stays.
    outcomes = [block(tokens.astype(float), weights, "", a, b) for a in (0, 2) for b in (0, 2)]
    errors = np.array([np.abs(outputs - outcome).max(axis=(1, 2)) for outcome in outcomes])
    assert errors.min(axis=0).max() < 1e-4
    counts = np.bincount(errors.argmin(axis=0), minlength=4)
    assert counts.min() >= 6  # 16 expected of each


def test_the_rate_of_skipping_rises_linearly_to_the_last_block():
    encoder = tiny_vit(depth=5, stochastic_depth=0.4)
    np.testing.assert_allclose([b.skip.rate for b in encoder.blocks], [0, 0.1, 0.2, 0.3, 0.4])
    assert [b.skip.rate for b in tiny_vit(depth=1, stochastic_depth=0.4).blocks] == [0]


@pytest.mark.parametrize(
    "make",
    [tiny_vit, tiny_original, lambda: tiny_vit(dropout=0.1, stochastic_depth=0.2, depth=3)],
)
def test_a_file_gives_the_same_network_back(make, tmp_path):
    encoder = randomise(make())
    other = reloaded(encoder, tmp_path)
    assert_same_values(encoder, other)
    assert {k: v for k, v in other.get_config().items() if k != "image_shape"} == {
        k: v for k, v in encoder.get_config().items() if k != "image_shape"
    }
    assert tuple(other.image_shape) == encoder.image_shape
    images = tiny_images()
    np.testing.assert_array_equal(encoder(images), other(images))


def test_the_tokens_of_each_block_lead_to_the_features():
    encoder, images = tiny_vit(depth=3), tiny_images(4)
    tokens = encoder.block_tokens(images)
    assert [part.shape for part in tokens] == [(4, 6, 12)] * 3
    expected = encoder.embedding(images)
    for block, part in zip(encoder.blocks, tokens, strict=True):
        expected = block(expected)
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(encoder.pool(encoder.norm(tokens[-1])), encoder(images))


@pytest.mark.parametrize("pooling", ["average", "class_token"])
def test_positions_are_resampled_for_another_image_size(pooling):
    encoder = randomise(tiny_vit(pooling=pooling))
    first = int(pooling == "class_token")
    larger = encoder.with_image_size(24, 16)
    assert larger(tiny_images(2, (24, 16, 2))).shape == (2, 12)
    grid = np.asarray(encoder.embedding.positions)[0, first:].reshape(3, 2, 12)
    # Pixel centres of the finer grid, at half a fine pixel from the border of a coarse one.
    places = np.meshgrid(
        (np.arange(6) + 0.5) / 2 - 0.5, (np.arange(4) + 0.5) / 2 - 0.5, indexing="ij"
    )
    expected = [
        ndimage.map_coordinates(grid[..., k], places, order=1, mode="nearest") for k in range(12)
    ]
    found = np.asarray(larger.embedding.positions)
    np.testing.assert_allclose(
        found[0, first:].reshape(6, 4, 12), np.stack(expected, axis=-1), atol=1e-5
    )
    np.testing.assert_array_equal(found[:, :first], encoder.embedding.positions[:, :first])
    for ours, theirs in zip(encoder.weights, larger.weights, strict=True):
        if ours is not encoder.embedding.positions:
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_the_same_size_gives_the_same_network_and_a_wrong_size_an_error():
    encoder, images = randomise(tiny_vit()), tiny_images()
    np.testing.assert_allclose(encoder.with_image_size(12, 8)(images), encoder(images), atol=1e-6)
    with pytest.raises(ValueError, match="patch_size must divide the image of 13 x 8 pixels"):
        encoder.with_image_size(13, 8)


def test_an_unknown_pooling_is_named():
    with pytest.raises(
        ValueError, match=r"pooling must be one of average, class_token\. Received: "
    ):
        tiny_vit(pooling="max")
