"""A user's keras.json changes no number of a model, and the library none of its settings."""

import keras
import numpy as np
import pytest

from deeplens_tf import losses
from deeplens_tf.models import DownstreamModel, ResNet50, classification_head, register_encoder
from deeplens_tf.models.registered_encoder import RegisteredEncoder
from tests.models.pretexts import METHODS, make_batch, make_method
from tests.models.tiny import reloaded, tiny_images, tiny_original, tiny_vit

SQUARE = (32, 32, 3)


def settings():
    config = keras.config
    return (
        config.image_data_format(),
        config.floatx(),
        config.epsilon(),
        config.dtype_policy().name,
    )


def set_all(data_format, floatx, epsilon, policy):
    keras.config.set_image_data_format(data_format)
    keras.config.set_floatx(floatx)
    keras.config.set_epsilon(epsilon)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def as_in():
    """Call a function with the settings that a keras.json gives; those must be unchanged after."""
    usual = settings()

    def call(build, *given):
        set_all(*given)
        try:
            return build()
        finally:
            found = settings()
            set_all(*usual)
            assert found == given

    yield call
    set_all(*usual)


PLAIN = ("channels_last", "float32", 1e-7, "float32")
# Keras has a policy of the same name where only floatx is set.
OTHER = ("channels_first", "float16", 1e-2, "float16")
DOUBLE = ("channels_last", "float64", 1e-7, "float64")


def user_network(image_shape):
    images = keras.Input(image_shape)
    features = keras.layers.Conv2D(3, 3, activation="relu")(images)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(features))


def registered():
    encoder = RegisteredEncoder("theirs", SQUARE)
    encoder.build()
    return encoder


ENCODERS = {
    "vit": lambda: tiny_vit(SQUARE, dropout=0.2),
    "original": lambda: tiny_original(SQUARE),
    "resnet50": lambda: ResNet50(SQUARE, top_width=4),
    "registered": registered,
}


def trained(name, folder=None):
    """Outputs of an encoder with a head: before, as read from a file, and after two steps."""
    keras.utils.set_random_seed(0)
    head = classification_head(2)
    model = DownstreamModel(ENCODERS[name](), head, ("a", "b"))
    images = tiny_images(4, SQUARE)
    read = reloaded(model, folder)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    outputs = [model(images), model.encoder(images), read(images)]
    found = model.train_on_batch(images, np.array([0, 1, 0, 1]), return_dict=True)
    after = (*found.values(), model(images), *model.get_weights())
    return [np.asarray(each) for each in (*outputs, *after)]


@pytest.mark.parametrize(
    ("name", "other"), [*((name, OTHER) for name in ENCODERS), ("vit", DOUBLE)]
)
def test_an_encoder_is_the_same_under_any_keras_json(as_in, tmp_path, name, other, forgotten_names):
    register_encoder("theirs", user_network)
    first, second = (as_in(lambda: trained(name, tmp_path), *given) for given in (PLAIN, other))
    for ours, theirs in zip(first, second, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def steps(method):
    """Metrics of a few steps of a method, and the weights after them."""
    model = make_method(method)
    model.compile(optimizer="adam", run_eagerly=True)
    for seed in range(2):
        found = model.train_on_batch(make_batch(seed=seed), return_dict=True)
    return found, model.get_weights()


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_the_same_under_any_keras_json(as_in, method):
    (found, weights), (same, others) = (
        as_in(lambda: steps(method), *given) for given in (PLAIN, OTHER)
    )
    assert {k: float(v) for k, v in found.items()} == {k: float(v) for k, v in same.items()}
    for ours, theirs in zip(weights, others, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_loss_does_not_depend_on_epsilon(as_in):
    # So short that the default of another epsilon would not have normalised them.
    vectors = np.random.default_rng(0).normal(0, 1e-3, (2, 4, 3)).astype("float32")
    first, second = (
        as_in(lambda: np.asarray(losses.contrastive_loss(*vectors)), *given)
        for given in (PLAIN, OTHER)
    )
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=-1, keepdims=True)
    logits = unit[0] @ unit[1].T / 0.1
    expected = [np.log(np.exp(each).sum(1)) - np.diag(each) for each in (logits, logits.T)]
    np.testing.assert_allclose(first, np.mean(expected, axis=0), rtol=1e-4)
    np.testing.assert_array_equal(first, second)


def test_a_policy_that_the_process_sets_is_respected(as_in):
    def build():
        return tiny_vit().compute_dtype, make_method("byol").encoder.compute_dtype

    for given in (("channels_first", "float16", 1e-7, "mixed_bfloat16"), (*PLAIN[:3], "float64")):
        expected = "bfloat16" if given[3] == "mixed_bfloat16" else "float64"
        assert as_in(build, *given) == (expected, expected)
    assert tiny_vit(dtype="float64").compute_dtype == "float64"


def test_settings_are_restored_after_an_error(as_in):
    def build():
        with pytest.raises(ValueError, match="patch_size must divide"):
            tiny_vit((9, 9, 1))

    as_in(build, *OTHER)
