"""What the stages print."""

import numpy as np

from deeplens_tf.terminal import counted


def test_a_noun_agrees_with_its_number():
    for numbers in ((0, 1, 2), np.arange(3)):
        assert [counted(n, "image") for n in numbers] == ["0 images", "1 image", "2 images"]
