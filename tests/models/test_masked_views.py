"""Masked views: each is encoded from a part of its patches, chosen by the order in the batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplens_tf as dl
from deeplens_tf.errors import RequestError
from deeplens_tf.models import ContrastiveModel, JointEmbeddingModel, VisionTransformer
from deeplens_tf.models.heads import projection_head
from deeplens_tf.training.methods import build_method, method_settings
from tests.models.pretexts import CLASSES, PATCHES, arrays, eager, make_batch, scores, settings
from tests.models.pretexts import make_method as plain_method
from tests.models.tiny import randomise, reloaded, tiny_images, tiny_original, tiny_vit

MASKING = ("contrastive", "byol", "twin", "simsiam")
KEPT = 3  # of PATCHES, at a share of 0.5
COLUMNS = 2  # of patches in an image
ORDERS = {"view_1": "patch_order_1", "view_2": "patch_order_2"}


def make_method(method, share=0.5, encoder=None):
    keras.utils.set_random_seed(0)
    config = settings(method, f"pretrain.keep_tokens={share}")
    return build_method(config, encoder or tiny_vit(), CLASSES, total_steps=10)


def masked_batch(count=8, seed=0):
    generator = np.random.default_rng([seed, 1])
    batch = make_batch(count, seed)
    del batch["patch_order"]
    for order in ORDERS.values():
        rows = [generator.permutation(PATCHES) for _ in range(count)]
        batch[order] = np.array(rows, "int32")
    return batch


def patch_of(image, place):
    row, column = 4 * (place // COLUMNS), 4 * (place % COLUMNS)
    return image[row : row + 4, column : column + 4]


def with_noise(batch, places_of):
    """The batch with other pixels in the patches that `places_of` picks from each order."""
    generator, changed = np.random.default_rng(7), dict(batch)
    for view, order in ORDERS.items():
        changed[view] = batch[view].copy()
        for image, places in zip(changed[view], batch[order], strict=True):
            for place in places_of(places):
                patch_of(image, place)[:] = generator.random((4, 4, 2))
    return changed


def hand_made_tokens(vit, image, places):
    """The tokens of chosen patches of an image: its pixels times the kernel, and its position."""
    kernel, bias = (weight.numpy().astype(float) for weight in vit.embedding.projection.weights)
    positions = vit.embedding.positions.numpy()[0].astype(float)
    first = int(vit.pooling == "class_token")
    tokens = [vit.embedding.token.numpy()[0, 0] + positions[0]] if first else []
    for place in places:
        pixels = patch_of(image, place).ravel().astype(float)
        token = pixels @ kernel.reshape(pixels.size, -1) + bias
        tokens.append(token + positions[first + place])
    return np.array(tokens, "float32")


def naive_features(encoder, images, kept):
    """Each image by itself, through the encoder's own blocks and what is on top of them."""
    vit = getattr(encoder, "transformer", encoder)
    features = []
    for image, places in zip(images, kept, strict=True):
        tokens = vit.transform(hand_made_tokens(vit, image, places)[None], training=False).numpy()
        pooled = tokens[:, 0] if vit.pooling == "class_token" else tokens.mean(axis=1)
        features.append(encoder.top(pooled, training=False) if vit is not encoder else pooled)
    return np.concatenate(features)


def make_encoder(kind):
    encoder = tiny_original() if kind == "original" else tiny_vit(pooling=kind)
    return randomise(encoder)


@pytest.mark.parametrize("kind", ["average", "class_token", "original"])
@pytest.mark.parametrize("count", [1, KEPT, PATCHES])
def test_features_are_those_of_tokens_chosen_by_hand(kind, count):
    encoder, images = make_encoder(kind), tiny_images(4)
    kept = np.array([np.random.default_rng(i).permutation(PATCHES)[:count] for i in range(4)])
    found = encoder.encode_kept(images, kept, training=False)
    np.testing.assert_allclose(found, naive_features(encoder, images, kept), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["average", "class_token", "original"])
def test_all_patches_in_any_order_are_the_whole_image(kind):
    encoder, images = make_encoder(kind), tiny_images(4)
    kept = np.array([np.random.default_rng(i).permutation(PATCHES) for i in range(4)])
    found = encoder.encode_kept(images, kept, training=False)
    np.testing.assert_allclose(found, encoder(images, training=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("share", "kept"), [(0.01, 1), (0.3, 2), (0.5, 3), (0.99, 6)])
def test_each_view_keeps_the_first_patches_of_its_own_order(share, kept):
    model, batch = make_method("contrastive", share), masked_batch()
    assert (model.kept, model.patch_count) == (kept, PATCHES)
    found = model(batch, training=False)["features"]
    for features, (view, order) in zip(found, ORDERS.items(), strict=True):
        expected = naive_features(model.encoder, batch[view], batch[order][:, :kept])
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", MASKING)
def test_no_output_depends_on_dropped_patches(method):
    model, batch = make_method(method), masked_batch()
    other = with_noise(batch, lambda order: order[KEPT:])
    assert all((other[view] != batch[view]).any() for view in ORDERS)
    outputs, others = (model(each, training=False) for each in (batch, other))
    for name, parts in outputs.items():
        for part, again in zip(parts, others[name], strict=True):
            np.testing.assert_array_equal(part, again, err_msg=name)
    assert scores(model, batch) == scores(model, other)  # the probe sees the whole image
    seen = model(with_noise(batch, lambda order: order[:1]), training=False)
    for name, parts in outputs.items():
        for part, again in zip(parts, seen[name], strict=True):
            assert (np.asarray(part) != np.asarray(again)).any(axis=1).all(), name


def test_byols_target_sees_the_patches_that_the_online_network_sees():
    model, batch = make_method("byol"), masked_batch()
    outputs = model(batch, training=False)  # the target begins as a copy
    for target, projection in zip(outputs["targets"], outputs["projections"], strict=True):
        np.testing.assert_array_equal(target, projection)


@pytest.mark.parametrize("method", MASKING)
def test_a_share_of_one_changes_no_bit(method):
    model, batch = make_method(method, 1.0), make_batch()
    assert (model.keep_tokens, model.patch_count) == (1.0, 0)
    for view, features in zip(ORDERS, model(batch, training=True)["features"], strict=True):
        np.testing.assert_array_equal(features, model.encoder(batch[view], training=True))


@pytest.mark.parametrize("kind", ["average", "class_token"])
def test_gradients_reach_the_positions_of_kept_patches_only(kind):
    model, batch = make_method("contrastive", encoder=tiny_vit(pooling=kind)), masked_batch()
    for order in ORDERS.values():
        batch[order][:] = [5, 0, 3, 1, 2, 4]
    positions = model.encoder.embedding.positions
    with tf.GradientTape() as tape:
        outputs = model(batch, training=True)
        loss = model.pretext_loss(batch, outputs)
    moved = np.abs(arrays([tape.gradient(loss, positions.value)])[0][0]).max(axis=1) > 0
    class_token = [True] if kind == "class_token" else []
    assert moved.tolist() == [*class_token, True, False, False, True, False, True]


def test_a_step_compiled_by_xla_is_that_of_plain_python():
    results = []
    for options in ({"run_eagerly": True}, {"jit_compile": True}):
        model = make_method("byol")
        model.compile(keras.optimizers.SGD(0.1), **options)
        logs = model.train_on_batch(masked_batch(), return_dict=True)
        results.append((logs, arrays(model.encoder.trainable_variables)))
    (logs, ours), (others, theirs) = results
    assert logs == pytest.approx(others, rel=1e-4)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", MASKING)
def test_a_file_keeps_the_share(method, tmp_path):
    model = make_method(method, 0.3)
    assert reloaded(model, tmp_path).keep_tokens == 0.3
    config = model.get_config()
    del config["keep_tokens"]  # as files of earlier versions
    assert type(model).from_config(config).keep_tokens == 1.0


def foreign():
    images = keras.Input((12, 8, 2))
    return keras.Model(images, keras.layers.Dense(4)(keras.layers.Flatten()(images)))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (lambda: dl.models.build_encoder("resnet50", (32, 32, 1)), "and resnet50, a ResNet50"),
        (foreign, "a Functional"),
    ],
)
def test_an_encoder_without_patch_tokens_is_refused(encoder, message):
    encoder = encoder()
    with pytest.raises(ValueError, match=rf"keep_tokens must be 1\.0 for an .* {message}"):
        ContrastiveModel(encoder, projection_head(4), keep_tokens=0.5)
    with pytest.raises(RequestError, match=rf"^pretrain\.keep_tokens must be 1\.0 .* {message}"):
        make_method("byol", encoder=encoder)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_share_out_of_bounds_is_refused(share):
    with pytest.raises(ValueError, match=r"keep_tokens must be above 0 and at most 1\. Received"):
        ContrastiveModel(tiny_vit(), projection_head(4), keep_tokens=share)


def test_inpainting_refuses_a_share():
    config = settings("inpainting", "pretrain.keep_tokens=0.5")
    with pytest.raises(RequestError, match=r"pretrain\.keep_tokens must be 1\.0 .*=inpainting"):
        method_settings(config)


class OwnPass(JointEmbeddingModel):
    """Encodes its views by itself."""

    def call(self, batch, training=None):
        return {"features": (self.encoder(batch["view_1"]),)}

    def pretext_loss(self, batch, outputs):
        return keras.ops.mean(outputs["features"][0])


def test_a_method_with_a_pass_of_its_own_must_say_that_it_masks():
    with pytest.raises(ValueError, match=r"OwnPass has a call of its own, .*masks_views = True"):
        OwnPass(tiny_vit(), projection_head(4), keep_tokens=0.5)


@pytest.mark.parametrize("method", ["contrastive", "inpainting", "own"])
def test_masks_that_a_model_does_not_use_are_refused(method):
    model = OwnPass(tiny_vit(), projection_head(4)) if method == "own" else plain_method(method)
    batch = masked_batch() | {"patch_order": make_batch()["patch_order"]}
    with pytest.raises(ValueError, match=r"keep_tokens must be below 1 .* patch_order_1, patch_or"):
        eager(model).train_on_batch(batch)


def test_a_masked_model_refuses_a_batch_without_the_orders_of_its_patches():
    model, batch = eager(make_method("contrastive")), masked_batch()
    with pytest.raises(ValueError, match="a batch must contain patch_order_1"):
        model.train_on_batch(make_batch())
    other = batch | {"patch_order_2": batch["patch_order_2"][:, :5]}
    with pytest.raises(ValueError, match=r"patch_order_2 must be .* the 6 patches .*\(8, 5\)"):
        model.train_on_batch(other)


@pytest.mark.parametrize(
    ("shape", "patch", "patches"), [((12, 8, 2), 4, 6), ((64, 64, 1), 8, 64), ((6, 9, 3), 3, 6)]
)
def test_the_number_of_patches(shape, patch, patches):
    encoder = VisionTransformer(shape, patch, width=4, depth=1, heads=1, mlp_width=4)
    assert encoder.patch_count == patches
