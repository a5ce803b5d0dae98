"""Files that Keras 2 wrote at full size, converted: our own weights come back."""

import pytest

from deeplens_tf.conversion.converting import convert
from parity.exchange import below
from tests.parity.ours import encoder_variables

pytestmark = pytest.mark.slow

PIECES = {
    "vit": "ViT-B/32, converted",
    "resnet": "ResNet50 of width 256, converted",
    "byol": "ResNet50 of width 128, converted",
    "regression": "ResNet50 under one Dense, converted",
}


@pytest.mark.parametrize("name", list(PIECES))
def test_a_file_of_keras_2_is_converted(name, parity_folder, given, reference, differences):
    encoder = convert(parity_folder / "reference" / f"{name}.h5")
    expected, arrays = reference(f"{name}_float32"), given(name)
    weights = {
        path: value
        for path, value in below(arrays, "weights").items()
        if path.startswith("encoder/")
    }
    # The file was written after a forward pass in training, which moves these.
    weights |= {p: v for p, v in below(expected, "moved").items() if p.startswith("encoder/")}
    ours = {path: variable.numpy() for path, variable in encoder_variables(encoder).items()}
    differences.hold(PIECES[name], "weights", ours, weights, 0.0)
    features = encoder(below(arrays, "batch")["1"], training=False)
    differences.hold(PIECES[name], "features", features, expected["features_of_file"], 5e-6)
