"""Digests of images against their definition, number by number."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from deeplens_tf.data.content import content_digest

TINY, LARGE = 2.0**-126, float(np.finfo(np.float32).max)


def rounded(value):
    """The nearest number of 24 significant bits, of two the even one, by exact fractions."""
    if value == 0 or not np.isfinite(value):
        return value + 0.0
    scale = Fraction(2) ** (24 - np.frexp(value)[1].item())
    try:
        return float(round(Fraction(value) * scale) / scale)  # Python rounds halves to even
    except OverflowError:
        return np.copysign(np.inf, value)


def expected_digest(image):
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.array([rounded(v) for v in image.ravel().tolist()], "<f8").tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    "values",
    [
        (1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-25, -0.0, 0.0, 1 / 3, -2e-20),
        (TINY, 1.0),
        (TINY - 2.0**-150, 1.0),  # has 24 bits, float32 has no such number
        (TINY + 2.0**-152, -TINY, 5e-324, 1e-310),
        (LARGE, -LARGE, 1.0),
        (LARGE * (1 + 2.0**-26), LARGE * (1 + 2.0**-24), 1e300, -1.7976931348623157e308),
        (float("inf"), -float("inf"), 1.0),
    ],
)
def test_a_digest_is_that_of_the_values_rounded_to_24_bits(values):
    image = np.random.default_rng(0).normal(size=(9, 8, 1)) * 1e-5
    image.flat[: len(values)] = values
    assert content_digest(image) == expected_digest(image)


def test_an_undefined_value_has_a_digest_of_its_own():
    image = np.ones((8, 8, 1))
    image[3, 3] = np.nan
    values = np.where(np.isnan(image), image, 1.0)
    digest = hashlib.sha256(repr(image.shape).encode() + values.astype("<f8").tobytes())
    assert content_digest(image) == digest.hexdigest()


def test_the_bits_of_an_undefined_value_do_not_matter():
    image = np.array([[[1.0], [np.nan]], [[2.0], [np.nan]]])
    other = image.copy()
    other.view(np.uint64)[0, 1] |= np.uint64(1 << 63 | 1)  # as inf - inf is on some processors
    assert content_digest(other) == content_digest(image)
    assert content_digest(other.astype(np.float32)) == content_digest(image)
