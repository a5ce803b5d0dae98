"""Small networks with random weights, and what it takes to compare two of them."""

import keras
import numpy as np

from deeplens_tf.models import OriginalViT
from deeplens_tf.models.vit import VARIANTS, VisionTransformer

IMAGE_SHAPE = (12, 8, 2)
SIZES = {"patch_size": 4, "width": 12, "depth": 2, "heads": 3, "mlp_width": 20}


def tiny_vit(image_shape=IMAGE_SHAPE, **options):
    encoder = VisionTransformer(image_shape, **{**SIZES, **options}, name="tiny")
    encoder.build()
    return encoder


def tiny_original(image_shape=IMAGE_SHAPE, **options):
    """The original's network in all but its sizes."""
    options = {**VARIANTS["vit_b32_original"], **SIZES, **options}
    encoder = OriginalViT(image_shape, **options, name="tiny")
    encoder.build()
    return encoder


def dense_encoder():
    """One layer, of which a graph is soon traced."""
    image = keras.Input(IMAGE_SHAPE)
    features = keras.layers.Dense(12, "tanh")(keras.layers.Flatten()(image))
    return keras.Model(image, features)


def tiny_images(count=5, image_shape=IMAGE_SHAPE, seed=0):
    return np.random.default_rng(seed).random((count, *image_shape), np.float32)


def randomise(model, seed=0):
    """Give every variable values of its own, so that none can be forgotten unnoticed."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            # Positive: some of them are variances.
            variable.assign(generator.uniform(0.05, 0.4, variable.shape))
    return model


def values_of(model):
    """All values of a model by path, but for the state of its random generators."""
    return {
        variable.path: variable.numpy()
        for variable in model.variables
        if "seed_generator" not in variable.path
    }


def reloaded(model, folder):
    """Save a model and read the file back as a stranger's: in safe mode, uncompiled."""
    path = folder / "model.keras"
    model.save(path)
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def assert_same_values(model, other):
    """Compare variable by variable; of the paths only the last name is a variable's own."""
    values, others = values_of(model), values_of(other)
    assert len(values) == len(others) > 0
    for (path, value), (other_path, other_value) in zip(
        values.items(), others.items(), strict=True
    ):
        assert path.split("/")[-1] == other_path.split("/")[-1]
        np.testing.assert_array_equal(other_value, value, err_msg=path)


def changed_paths(before, model):
    """Paths of the variables whose values are no longer those of `before`."""
    after = values_of(model)
    return {path for path, value in before.items() if (after[path] != value).any()}
