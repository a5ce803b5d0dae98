"""The original's encoders on images, and in batches, of another size than those of the step."""

import pytest

from parity.exchange import below
from tests.parity.ours import ENCODERS, OBLONG_SHAPE, encoder_of, encoder_variables

pytestmark = pytest.mark.slow

PIECES = {
    "vit": "ViT-B/32",
    "resnet": "ResNet50 of width 256",
    "byol": "ResNet50 of width 128",
    "regression": "ResNet50 under one Dense",
}


@pytest.mark.parametrize("name", list(ENCODERS))
def test_images_and_a_batch_of_another_size(name, given, reference, differences):
    encoder, arrays = encoder_of(name, OBLONG_SHAPE), given(name)
    weights = below(arrays, "weights/encoder") | below(arrays, "oblong/weights")
    variables = encoder_variables(encoder)
    for path, value in weights.items():
        variables[f"encoder/{path}"].assign(value)
    assert len(weights) == len(variables)
    features = encoder(arrays["oblong/images"], training=False)
    theirs = reference(f"{name}_float32")["oblong"]
    differences.hold(PIECES[name], "features of three images, 96 x 64", features, theirs, 5e-6)
