"""Raw images to those of a network: the same pixels as a prepared folder, or a clear refusal."""

from dataclasses import replace

import numpy as np
import pytest

import deeplens_tf as dl
from deeplens_tf.preprocessing.preprocessing import Preprocessing

GREY = Preprocessing(16, "resize", 1)
KNOWN = Preprocessing(
    16, "resize", 3, band_names=["g", "r", "i"], pixel_scale_arcsec=0.2, source_scale_arcsec=0.16
)


def images(count=6, size=20, bands=1) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(count, size, size, bands))
    return 1000 + 50 * values


def save(folder, arrays) -> None:
    folder.mkdir(parents=True)
    for i, array in enumerate(arrays):
        np.save(folder / f"{i}.npy", array)


def stored(data) -> dict[str, np.ndarray]:
    """Return the images of a prepared folder by file name."""
    images = [each["image"] for each in data.examples("train").as_numpy_iterator()]
    return dict(zip(data.index("train")["file"], images, strict=True))


@pytest.mark.parametrize(
    ("arrays", "options"),
    [
        (images(), {"fit": "resize"}),
        (images(), {"fit": "crop"}),
        (images(), {"fit": "crop", "bands": 3}),
        (images(bands=3), {"fit": "resize", "band_names": ["g", "r", "i"]}),
        (images(size=41), {"fit": "crop", "pixel_scale_arcsec": 0.04, "resample_to_arcsec": 0.1}),
        (
            np.concatenate([images(bands=2), np.full((6, 20, 20, 1), 255.0)], axis=-1),
            {"fit": "resize", "band_names": ["g", "r", "alpha"]},
        ),
    ],
)
def test_it_repeats_what_preparing_did_bit_for_bit(tmp_path, arrays, options):
    save(tmp_path / "images", arrays)
    data = dl.data.open_folder(
        tmp_path / "images", image_size=16, validation_fraction=0, cache=tmp_path / "c", **options
    )
    how = Preprocessing.from_dict(data.preprocessing.to_dict())
    assert how.image_shape == data.image_shape
    found, expected = how.apply(arrays), stored(data)
    for i, image in enumerate(found):
        np.testing.assert_array_equal(image, expected[f"{i}.npy"])


def test_arrays_in_memory_have_one_too():
    data = dl.data.from_arrays(
        images(bands=2), image_size=10, band_names=("g", "r"), pixel_scale_arcsec=0.1
    )
    how = data.preprocessing
    assert (how.band_names, how.pixel_scale_arcsec) == (("g", "r"), pytest.approx(0.2))
    np.testing.assert_array_equal(how.apply(images(bands=2)), data.images)
    with pytest.raises(ValueError, match="band_names must name 2 bands"):
        dl.data.from_arrays(images(bands=2), band_names=("g",))


def test_grey_images_need_no_axis_of_bands_and_may_differ_in_size():
    raw = images()
    expected = GREY.apply(raw)
    np.testing.assert_array_equal(GREY.apply(raw[..., 0]), expected)
    np.testing.assert_array_equal(GREY.apply(list(raw[..., 0])), expected)
    assert GREY.apply([raw[0], images(size=30)[0]]).shape == (2, 16, 16, 1)
    assert GREY.apply([]).shape == (0, 16, 16, 1)


def test_a_band_that_was_left_out_may_be_given_or_not():
    how = Preprocessing(16, "resize", 2, bands_left_out=(1,))
    raw = images(bands=3)
    np.testing.assert_array_equal(how.apply(raw), how.apply(raw[..., [0, 2]]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, "not finite"), (-1e9, "far from the others"), (1e30, "far from the others")],
)
def test_an_unusable_image_is_named(value, reason):
    raw = images()
    raw[4, 3, 3] = value
    with pytest.raises(ValueError, match=rf"images\[4\] cannot be used: .*{reason}"):
        GREY.apply(raw)


def test_images_without_content_or_of_other_bands_are_named():
    with pytest.raises(ValueError, match=r"images\[1\] cannot be used: constant"):
        GREY.apply([images()[0], np.ones((20, 20))])
    raw = images(bands=3)
    raw[2, ..., 1] = 7
    with pytest.raises(ValueError, match=r"images\[2\] cannot be used: band 2 of 3 is constant"):
        KNOWN.apply(raw)
    with pytest.raises(ValueError, match=r"it has 4 bands, and the network takes 3 \(g, r, i\)"):
        KNOWN.apply(images(bands=4))
    with pytest.raises(ValueError, match=r"images must have the shape .* \(20, 20\)"):
        GREY.apply(images()[0, ..., 0])
    for single in (images()[0], images(bands=3)[0]):
        with pytest.raises(ValueError, match=r"of one image \[image\]\. Received: shape \(20, 20,"):
            GREY.apply(single)
    with pytest.raises(ValueError, match=r"images\[0\] must be real numbers"):
        GREY.apply([np.array([["a"]])])


def test_another_pixel_scale_is_resampled_where_it_is_given():
    how = Preprocessing(16, "crop", 1, pixel_scale_arcsec=0.1, source_scale_arcsec=0.1)
    fine = images(size=40)
    expected = Preprocessing(
        16, "crop", 1, pixel_scale_arcsec=0.1, source_scale_arcsec=0.05, resampled=True
    ).apply(fine)
    np.testing.assert_array_equal(how.apply(fine, pixel_scale_arcsec=0.05), expected)
    with pytest.raises(ValueError, match=r"covers 0\.8 of 1\.6 arcsec"):
        how.apply(fine, pixel_scale_arcsec=0.02)
    with pytest.raises(ValueError, match="pixel_scale_arcsec must be None"):
        GREY.apply(fine, pixel_scale_arcsec=0.05)
    with pytest.raises(ValueError, match="pixel_scale_arcsec must be a positive number"):
        how.apply(fine, pixel_scale_arcsec=0.0)


def test_the_scale_that_is_stated_for_an_image_is_compared_or_resampled_from():
    how = Preprocessing(16, "crop", 1, pixel_scale_arcsec=0.1, source_scale_arcsec=0.1)
    assert how.for_stated(None) == how.for_stated(0.1) == how
    line = r"would be of 0\.05 arcsec, and those of the training images are of 0\.1 .*: --resample"
    with pytest.raises(ValueError, match=line):
        how.for_stated(0.05).apply(images(size=40))
    with pytest.raises(ValueError, match=r"states pixels of 0\.05 arcsec, .* are of 0\.1"):
        Preprocessing(16, "resize", 1, source_scale_arcsec=0.1).for_stated(0.05)
    assert GREY.for_stated(0.05) == GREY  # of an unknown scale
    fine, resampled = images(size=40), replace(how, resampled=True)
    expected = how.apply(fine, pixel_scale_arcsec=0.05)
    np.testing.assert_array_equal(resampled.for_stated(0.05).apply(fine), expected)


def test_resizing_of_another_size_would_change_an_unknown_scale_too():
    data = dl.data.from_arrays(images(size=20), image_size=16)
    how = data.preprocessing
    assert (how.source_side, how.pixel_scale_arcsec) == (20, None)
    assert how.apply(images(size=20)).shape == (6, 16, 16, 1)
    with pytest.raises(ValueError, match="its square of 40 pixels would be resized to 16, and"):
        how.apply(images(size=40))
    other = dl.data.from_arrays(images(size=40), image_size=16).preprocessing
    assert how.differences(other) == [
        "squares of 40 instead of 20 pixels that are resized to 16, without a known pixel scale"
    ]
    known = {"pixel_scale_arcsec": 0.1}  # 40 finer pixels may show the same field
    assert not replace(how, **known).differences(replace(other, **known))


def test_resizing_of_another_size_would_change_a_known_scale():
    how = Preprocessing(16, "resize", 1, pixel_scale_arcsec=0.125, source_scale_arcsec=0.1)
    assert how.apply(images()).shape == (6, 16, 16, 1)
    with pytest.raises(ValueError, match=r"its pixels would be of 0\.25 arcsec, .* 0\.125 arcsec"):
        how.apply(images(size=40))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (KNOWN, []),
        ({"image_size": 32}, ["image_size 32 instead of 16"]),
        ({"band_names": None, "pixel_scale_arcsec": None}, []),
        ({"pixel_scale_arcsec": 0.203}, []),
        ({"pixel_scale_arcsec": 0.205}, ["pixels of 0.205 instead of 0.2 arcsec"]),
        ({"fit": "crop"}, []),  # the pixels have the same scale
        ({"fit": "crop", "pixel_scale_arcsec": None}, ["fit crop instead of resize"]),
        ({"band_names": ("r", "g", "i")}, ["bands r, g, i instead of g, r, i"]),
        ({"bands": 2, "band_names": None}, ["2 bands instead of 3"]),
    ],
)
def test_differences_in_words(other, expected):
    changes = other if isinstance(other, dict) else {}
    values = {key: getattr(KNOWN, key) for key in KNOWN.__dataclass_fields__}
    assert KNOWN.differences(Preprocessing(**(values | changes))) == expected


def test_a_repeated_grey_image_is_as_one_of_three_bands():
    grey = Preprocessing(16, "resize", 1, repeat=3)
    assert grey.image_shape == (16, 16, 3)
    assert grey.differences(Preprocessing(16, "resize", 3)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 5}, r"is of version 5, and this deeplens_tf reads versions 1 to 4"),
        ({"version": 4}, "an unknown or a missing key, selection"),
        ({"version": True}, "is of version True"),
        ({"asinh": 1}, "an unknown or a missing key, asinh"),
        ({"image_size": 10**6}, "no valid image_size"),
        ({"fit": "pad"}, "no valid fit"),
        ({"scaling": "asinh"}, "no valid scaling"),
        ({"repeat": 3}, "no valid repeat"),
        ({"bands_left_out": [2, 1]}, "no valid bands_left_out"),
        ({"band_names": ["g"]}, "no valid band_names"),
        ({"band_names": ["g", "r", 3]}, "no valid band_names"),
        ({"pixel_scale_arcsec": float("inf")}, "no valid pixel_scale_arcsec"),
        ({"pixel_scale_arcsec": "0.1"}, "no valid pixel_scale_arcsec"),
        ({"resampled": 1}, "no valid resampled"),
        ({"resampled": True, "pixel_scale_arcsec": None}, "no valid resampled"),
    ],
)
def test_other_data_are_no_preprocessing(change, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict(KNOWN.to_dict() | change)


@pytest.mark.parametrize("values", [None, [], "min-max", {}])
def test_it_must_be_a_mapping_with_a_version(values):
    with pytest.raises(ValueError, match="preprocessing"):
        Preprocessing.from_dict(values)
