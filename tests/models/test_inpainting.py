"""Inpainting: what the encoder sees, what counts, and how pictures are cut and compared."""

import keras
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from deeplens_tf.models import InpaintingModel, build_encoder
from deeplens_tf.models.inpainting import decoder_for
from deeplens_tf.models.patch_decoder import PatchDecoder
from deeplens_tf.models.patches import choose, patchify, unpatchify
from deeplens_tf.models.structural_similarity import ssim_map
from tests.models.pretexts import PATCHES, arrays, make_batch, make_method, scores
from tests.models.tiny import IMAGE_SHAPE, randomise, tiny_images, tiny_original, tiny_vit

VISIBLE = 3  # of PATCHES, at the ratio in pretexts.SMALL
COLUMNS = IMAGE_SHAPE[1] // 4


def numpy_patch(image, place):
    row, column = 4 * (place // COLUMNS), 4 * (place % COLUMNS)
    return image[row : row + 4, column : column + 4]


def with_noise_in(batch, places_of):
    """The batch with other pixels in the patches that `places_of` picks from each order."""
    images = batch["view_1"].copy()
    for image, order in zip(images, batch["patch_order"], strict=True):
        for place in places_of(order):
            numpy_patch(image, place)[:] = np.random.default_rng(place).random((4, 4, 2))
    return batch | {"view_1": images}


def tokens_of(model, batch):
    return arrays([model.encode_visible(batch["view_1"], batch["patch_order"])])[0]


def numpy_dropped(order):
    """True at the pixels of the dropped patches of one image, shape (height, width, bands)."""
    mask = np.zeros(IMAGE_SHAPE, bool)
    for place in order[VISIBLE:]:
        numpy_patch(mask, place)[:] = True
    return mask


def numpy_ssim(first, second, **options):
    return structural_similarity(
        first,
        second,
        data_range=1.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        **options,
    )


def test_patches_are_cut_row_by_row():
    images = tiny_images(3)
    patches = keras.ops.convert_to_numpy(patchify(images, 4))
    assert patches.shape == (3, PATCHES, 4 * 4 * 2)
    for image, cut in zip(images, patches, strict=True):
        for place in range(PATCHES):
            np.testing.assert_array_equal(cut[place], numpy_patch(image, place).ravel())


@pytest.mark.parametrize(("shape", "size"), [((12, 8, 2), 4), ((6, 9, 1), 3), ((5, 5, 3), 1)])
def test_patches_go_together_again(shape, size):
    images = tiny_images(2, shape)
    np.testing.assert_array_equal(unpatchify(patchify(images, size), shape, size), images)


def test_each_image_has_its_own_patches_chosen():
    patches = np.random.default_rng(0).random((4, 6, 5), np.float32)
    places = np.array([[0, 5], [3, 1], [2, 2], [5, 0]], "int32")
    expected = [[patch[i] for i in row] for patch, row in zip(patches, places, strict=True)]
    np.testing.assert_array_equal(choose(patches, places), expected)


@pytest.mark.parametrize("pooling", ["average", "class_token"])
def test_dropped_patches_never_reach_the_encoder_and_each_seen_one_does(pooling):
    model, batch = make_method("inpainting", pooling=pooling), make_batch()
    tokens = tokens_of(model, batch)
    assert tokens.shape == (8, VISIBLE + (pooling == "class_token"), 12)
    other = with_noise_in(batch, lambda order: order[VISIBLE:])
    assert (other["view_1"] != batch["view_1"]).any()
    np.testing.assert_array_equal(tokens_of(model, other), tokens)
    for i in range(VISIBLE):
        changed = with_noise_in(batch, lambda order, i=i: order[i : i + 1])
        differ = (tokens_of(model, changed) != tokens).any(axis=(1, 2))
        assert differ.all()


def test_seen_patches_keep_the_position_of_their_place():
    model, batch = make_method("inpainting"), make_batch()
    swapped = batch["patch_order"].copy()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]
    tokens = tokens_of(model, batch)
    others = tokens_of(model, batch | {"patch_order": swapped})
    np.testing.assert_allclose(others[:, [1, 0, 2]], tokens, atol=1e-5)


def test_a_decoder_without_blocks_puts_each_token_in_its_place():
    keras.utils.set_random_seed(0)
    decoder = PatchDecoder(PATCHES, 5, width=7, depth=0, heads=1)
    decoder.build((None, None, 4))
    randomise(decoder)
    generator = np.random.default_rng(0)
    tokens = generator.normal(size=(1, 2, 4)).astype("float32")
    order = np.array([[4, 1, 0, 5, 3, 2]], "int32")
    out = arrays([decoder(tokens, order)])[0]
    assert out.shape == (1, PATCHES, 5)
    changed = tokens.copy()
    changed[0, 0] += 1
    moved = (arrays([decoder(changed, order)])[0] != out).any(axis=2)[0]
    np.testing.assert_array_equal(np.flatnonzero(moved), [4])


def test_the_loss_is_the_mean_squared_error_of_the_dropped_pixels():
    model, batch = make_method("inpainting"), make_batch()
    predicted = arrays([model(batch, training=False)["patches"]])[0].reshape(8, PATCHES, 4, 4, 2)
    errors = [
        (predicted[i, place] - numpy_patch(batch["view_1"][i], place)) ** 2
        for i, order in enumerate(batch["patch_order"])
        for place in order[VISIBLE:]
    ]
    result = scores(model, batch)
    assert result["pretext_loss"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert result["masked_mse"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_what_is_predicted_of_seen_patches_does_not_count():
    model, batch = make_method("inpainting"), make_batch()
    outputs = model(batch, training=False)
    patches = arrays([outputs["patches"]])[0].astype("float32")
    loss = float(model.pretext_loss(batch, outputs))
    for i, order in enumerate(batch["patch_order"]):
        patches[i, order[:VISIBLE]] += 9
    assert float(model.pretext_loss(batch, outputs | {"patches": patches})) == loss
    patches[0, batch["patch_order"][0, -1]] += 9
    assert float(model.pretext_loss(batch, outputs | {"patches": patches})) > loss


@pytest.mark.parametrize("shape", [(12, 8, 2), (5, 5, 1), (40, 33, 3)])
def test_structural_similarity_is_scikit_images(shape):
    first = tiny_images(2, shape)
    second = np.clip(first + 0.2 * tiny_images(2, shape, seed=1), 0, 1)
    expected = [
        numpy_padded_map(*(pair.astype(float) for pair in both))
        for both in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(ssim_map(first, second), expected, atol=1e-4)


def numpy_padded_map(first, second):
    """scikit-image's map; it wants images larger than its window, and mirrors as ours does."""
    margins = [(6, 6), (6, 6), (0, 0)]
    padded = [np.pad(image, margins, "symmetric") for image in (first, second)]
    return numpy_ssim(*padded, full=True)[1][6:-6, 6:-6]


def test_equal_images_are_wholly_similar():
    images = tiny_images(2)
    np.testing.assert_allclose(ssim_map(images, images), 1, atol=1e-5)


def test_masked_ssim_is_that_of_the_inpainted_image_over_the_dropped_pixels():
    model, batch = make_method("inpainting"), make_batch()
    _, inpainted = arrays(model.inpaint(batch))
    similarities = [
        numpy_padded_map(image.astype(float), restored)[numpy_dropped(order)]
        for image, restored, order in zip(
            batch["view_1"], inpainted, batch["patch_order"], strict=True
        )
    ]
    expected = np.mean(np.concatenate(similarities))
    assert scores(model, batch)["masked_ssim"] == pytest.approx(expected, abs=1e-3)


def test_inpainting_keeps_what_was_seen_and_fills_in_what_was_not():
    model, batch = make_method("inpainting"), make_batch()
    masked, inpainted = arrays(model.inpaint(batch))
    predicted = arrays([model(batch, training=False)["patches"]])[0]
    restored = arrays([unpatchify(predicted.astype("float32"), IMAGE_SHAPE, 4)])[0]
    dropped = np.array([numpy_dropped(order) for order in batch["patch_order"]])
    np.testing.assert_array_equal(masked, np.where(dropped, 0, batch["view_1"]))
    np.testing.assert_array_equal(inpainted, np.where(dropped, restored, batch["view_1"]))


def test_the_probe_sees_the_whole_image():
    model, batch = make_method("inpainting"), make_batch()
    other = with_noise_in(batch, lambda order: order)
    assert scores(model, batch)["probe_loss"] == scores(model, other)["probe_loss"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_encoder("resnet50", (32, 32, 1)), "Received: encoder=resnet50, a ResNet50"),
        (tiny_original, "Received: encoder=tiny, a OriginalViT"),
    ],
)
def test_other_encoders_are_refused(make, message):
    encoder = make()
    with pytest.raises(ValueError, match=message):
        decoder_for(encoder, 8, 1, 2)
    with pytest.raises(ValueError, match=message):
        InpaintingModel(encoder, keras.layers.Dense(3))


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"heads must divide width=8\. Received: heads=3"):
        decoder_for(tiny_vit(), 8, 1, 3)


@pytest.mark.parametrize("ratio", [0.05, 0.95])
def test_a_mask_of_nothing_or_of_everything_is_refused(ratio):
    encoder = tiny_vit()
    with pytest.raises(ValueError, match=f"here 6; .* Received: mask_ratio={ratio}, "):
        InpaintingModel(encoder, decoder_for(encoder, 8, 1, 2), ratio)
