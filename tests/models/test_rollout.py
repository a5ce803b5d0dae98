"""Attention roll-out against NumPy in float64 from the weights, and closed forms."""

import numpy as np
import pytest

from deeplens_tf.models.rollout import patch_shares, rollout
from tests.models.test_attention import HEADS, TOKENS, layers, tokens
from tests.models.test_vit import block, layer_norm, numpy_tokens, numpy_weights
from tests.models.tiny import (
    dense_encoder,
    tiny_images,
    tiny_original,
    tiny_vit,
)


def unlike(encoder):
    """Give every variable values under which tokens attend unevenly."""
    generator = np.random.default_rng(1)
    for variable in encoder.trainable_variables:
        variable.assign(variable + generator.normal(0, 0.4, variable.shape))
    return encoder


def numpy_attention(x, weights, name):
    """Softmax of q k / sqrt(d), one head and one token at a time: (images, heads, tokens, same)."""
    found = []
    for head in range(weights[f"{name}/query/kernel"].shape[1]):
        query, key = (
            x @ weights[f"{name}/{part}/kernel"][:, head] + weights[f"{name}/{part}/bias"][head]
            for part in ("query", "key")
        )
        scores = np.einsum("nid,njd->nij", query, key) / np.sqrt(query.shape[-1])
        found.append(np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True))
    return np.stack(found, axis=1)


def numpy_attention_of_blocks(encoder, images):
    weights = numpy_weights(encoder)
    x, found = numpy_tokens(images.astype(float), weights), []
    for i in range(encoder.options["depth"]):
        normed = layer_norm(x, weights, f"block_{i}/attention_norm")
        found.append(numpy_attention(normed, weights, f"block_{i}/attention"))
        x = block(x, weights, f"block_{i}/")
    return found


def numpy_rollout(attention):
    """Eq. 1 as it is written, an image at a time, the last block's matrix on the left."""
    images = []
    for k in range(len(attention[0])):
        product = np.eye(attention[0].shape[-1])
        for each in attention:
            mixed = 0.5 * each[k].mean(axis=0) + 0.5 * np.eye(len(product))
            product = mixed / mixed.sum(axis=1, keepdims=True) @ product
        images.append(product)
    return np.stack(images)


@pytest.mark.parametrize(
    "make", [tiny_vit, lambda: tiny_vit(pooling="class_token", depth=3), tiny_original]
)
def test_attention_and_rollout_are_those_of_the_weights(make):
    encoder, images = unlike(make()), tiny_images(3)
    transformer = getattr(encoder, "transformer", encoder)
    expected = numpy_attention_of_blocks(encoder, images)
    found = transformer.block_attention(images)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, atol=2e-5)
    product = numpy_rollout(expected)
    np.testing.assert_allclose(rollout(found), product, atol=2e-5)
    first = transformer.pooling == "class_token"
    shares = product[:, 0, 1:] if first else product.mean(axis=1)
    shares = (shares / shares.sum(axis=1, keepdims=True)).reshape(3, 3, 2)  # 12 x 8, patches of 4
    assert shares.std() > 0.01
    np.testing.assert_allclose(patch_shares(encoder, images), shares, atol=2e-5)


def test_the_shares_times_the_values_are_what_the_forward_pass_adds():
    _, layer = layers()
    x = np.asarray(tokens(), "float64")
    kernel, bias = (np.asarray(part, "float64") for part in layer.value_dense.weights)
    out, out_bias = (np.asarray(part, "float64") for part in layer.output_dense.weights)
    shares = np.asarray(layer.shares(tokens()), "float64")
    assert shares.shape == (len(x), HEADS, TOKENS, TOKENS)
    values = np.einsum("nti,ihd->nhtd", x, kernel) + bias[:, None]
    expected = np.einsum("nhst,nhtd,hdo->nso", shares, values, out) + out_bias
    np.testing.assert_allclose(layer(tokens()), expected, atol=1e-5)


def test_uniform_attention_rolls_out_to_a_uniform_share():
    encoder = tiny_vit(pooling="average", depth=3)
    for part in encoder.blocks:  # no query: every score is 0
        for variable in part.attention.query_dense.weights:
            variable.assign(0 * variable)
    np.testing.assert_allclose(patch_shares(encoder, tiny_images()), 1 / 6, rtol=1e-6)
    uniform = np.full((1, 2, 5, 5), 0.2)
    kept = 0.5**3  # by the skip connections of three blocks
    expected = kept * np.eye(5) + (1 - kept) * 0.2
    np.testing.assert_allclose(rollout([uniform] * 3)[0], expected, rtol=1e-6)


def test_half_precision_has_the_shares_of_a_whole_image():
    encoder = unlike(tiny_vit(dtype="mixed_bfloat16"))
    found = np.asarray(patch_shares(encoder, tiny_images()))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, rtol=1e-6)


def test_a_network_without_known_attention_is_referred_to_occlusion():
    with pytest.raises(ValueError, match=r"occlusion explains any network\. Received: functional"):
        patch_shares(dense_encoder(), tiny_images())
