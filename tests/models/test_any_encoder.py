"""Any Keras model from an image to a vector is an encoder."""

import keras
import numpy as np
import pytest

import deeplens_tf as dl
from deeplens_tf.data.array_data import from_arrays
from deeplens_tf.models.encoders import copy_of, feature_shape, image_shape_of
from deeplens_tf.saving.keras_files import require_loadable
from tests.models.pretexts import eager
from tests.models.tiny import tiny_vit

SIDE, BANDS = 32, 3
layers = keras.layers


def functional():
    images = keras.Input((SIDE, SIDE, BANDS))
    maps = layers.Conv2D(4, 5, strides=4, use_bias=False)(images)
    maps = layers.ReLU()(layers.BatchNormalization()(maps))
    return keras.Model(images, layers.GlobalAveragePooling2D()(maps))


def sequential():
    return keras.Sequential([keras.Input((SIDE, SIDE, BANDS)), layers.Flatten(), layers.Dense(5)])


def application():
    return keras.applications.MobileNetV2(
        (SIDE, SIDE, BANDS), alpha=0.35, weights=None, include_top=False, pooling="avg"
    )


def from_keras_hub():
    hub = pytest.importorskip("keras_hub")
    tokens = hub.models.ViTBackbone(
        image_shape=(SIDE, SIDE, BANDS),
        patch_size=(8, 8),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    images = keras.Input((SIDE, SIDE, BANDS))
    return keras.Model(images, layers.GlobalAveragePooling1D()(tokens(images)))


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width, self.image_shape = width, (SIDE, SIDE, BANDS)
        self.dense = layers.Dense(width)

    def build(self, input_shape=None):
        self.dense.build((None, SIDE * SIDE * BANDS))
        self.built = True

    def call(self, images):
        return self.dense(keras.ops.reshape(images, (-1, SIDE * SIDE * BANDS)))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Ordinary(keras.Model):
    """A subclass that says nothing of its shapes, as Keras's guides write them."""

    def __init__(self):
        super().__init__()
        self.image_shape = (SIDE, SIDE, BANDS)
        self.flatten, self.dense = layers.Flatten(), layers.Dense(4)

    def call(self, images):
        return self.dense(self.flatten(images))


def ordinary():
    model = Ordinary()
    model(np.zeros((1, SIDE, SIDE, BANDS), "float32"))
    return model


ENCODERS = {
    "ordinary": ordinary,
    "functional": functional,
    "sequential": sequential,
    "subclassed": Subclassed,
    "application": application,
    "keras_hub": from_keras_hub,
}


def head(name):
    return dl.models.batch_norm_mlp((6, 4), name)


METHODS = {
    "contrastive": lambda encoder: dl.models.ContrastiveModel(encoder, head("projector")),
    "byol": lambda encoder: dl.models.BYOLModel(encoder, head("projector"), head("predictor")),
    "twin": lambda encoder: dl.models.BarlowTwinsModel(encoder, head("projector")),
    "simsiam": lambda encoder: dl.models.SimSiamModel(
        encoder, head("projector"), head("predictor")
    ),
}


def batch():
    generator = np.random.default_rng(0)
    names = ("view_1", "view_2", "image")
    return {name: generator.random((6, SIDE, SIDE, BANDS), np.float32) for name in names}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ENCODERS)
def test_it_is_trained_by_every_method(name, method):
    encoder = ENCODERS[name]()
    if (name, method) == ("ordinary", "byol"):  # its target needs a copy
        with pytest.raises(ValueError, match="must have a get_config that from_config can"):
            METHODS[method](encoder)
        return
    model = eager(METHODS[method](encoder), keras.optimizers.SGD(0.1))
    before = [weight.numpy() for weight in encoder.trainable_weights]
    scores = model.train_on_batch(batch(), return_dict=True)
    assert np.isfinite(float(scores["loss"]))
    after = [weight.numpy() for weight in encoder.trainable_weights]
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["functional", "sequential", "subclassed"])
def test_byols_target_is_a_copy_that_follows(name):
    model = eager(METHODS["byol"](ENCODERS[name]()), keras.optimizers.SGD(0.1))
    target, online = model.target_encoder, model.encoder
    assert target is not online
    features = online(batch()["image"], training=False)
    np.testing.assert_array_equal(target(batch()["image"], training=False), features)
    begun = [weight.numpy() for weight in online.trainable_weights]
    model.train_on_batch(batch())
    moved = [weight for weight in target.weights if not weight.path.endswith(("mean", "variance"))]
    ours = [weight for weight in online.weights if not weight.path.endswith(("mean", "variance"))]
    for start, followed, new in zip(begun, moved, ours, strict=True):
        expected = 0.99 * start + 0.01 * new.numpy()
        np.testing.assert_allclose(followed.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["functional", "subclassed"])
def test_a_probe_measures_it_next_to_its_untrained_control(name):
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = 0.01 * generator.random((60, SIDE, SIDE, BANDS))
    images[labels == 1, : SIDE // 2] += 1
    images[labels == 0, SIDE // 2 :] += 1
    data = from_arrays(images, labels)
    encoder = ENCODERS[name]()
    if not encoder.built:
        encoder.build()
    scores = dl.evaluation.probe(encoder, data)
    assert scores["macro_auc"] > 0.8
    assert "macro_auc" in scores["control"]


def without_a_size():
    images = keras.Input((None, None, 3))
    return keras.Model(images, layers.GlobalAveragePooling2D()(images))


def two_inputs():
    first, second = (keras.Input((8, 8, 1), name=name) for name in ("a", "b"))
    return keras.Model([first, second], layers.Flatten()(first + second))


def maps():
    images = keras.Input((8, 8, 1))
    return keras.Model(images, layers.Conv2D(3, 3)(images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (without_a_size, r"must take images of a known \(height, width, bands\)"),
        (two_inputs, r"must take images of a known \(height, width, bands\)"),
        (maps, r"one feature vector per image.* pooling layer. Received: .*\(None, 6, 6, 3\)"),
        (lambda: layers.Dense(3), "encoder must be a Keras model. Received: encoder=<Dense"),
        (lambda: "resnet50", "encoder must be a Keras model. Received: encoder='resnet50'"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_encoder_is_refused(make, message, method):
    with pytest.raises(ValueError, match=message):
        METHODS[method](make())


class Forgetful(Subclassed):
    def get_config(self):
        return {"name": self.name}


class Unwilling(Subclassed):
    def get_config(self):
        raise NotImplementedError("no configuration")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Forgetful(3), "describes it completely: a copy made from it has other weights"),
        (lambda: Unwilling(3), "must have a get_config that from_config can rebuild it from"),
    ],
)
def test_byol_refuses_an_encoder_that_cannot_be_copied(make, message):
    with pytest.raises(ValueError, match=message):
        METHODS["byol"](make())


def test_shapes_are_those_of_the_input_or_the_attribute():
    assert image_shape_of(functional()) == image_shape_of(Subclassed()) == (SIDE, SIDE, BANDS)
    assert feature_shape(functional()) == (None, 4)
    assert copy_of(functional(), "other").name == "other"


def test_inpainting_needs_a_transformer():
    with pytest.raises(ValueError, match="must be a VisionTransformer for inpainting"):
        dl.models.decoder_for(functional(), 8, 1, 2)


def test_an_encoder_that_is_not_registered_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="Received: Functional; see register_encoder"):
        dl.save_encoder(functional(), tmp_path / "encoder.keras")


def test_a_registered_encoder_is_saved_and_read(tmp_path, forgotten_names):
    def build(image_shape, width: int = 4):
        images = keras.Input(image_shape)
        return keras.Model(images, layers.Dense(width)(layers.Flatten()(images)))

    dl.models.register_encoder("flat", build)
    encoder = dl.models.build_encoder("flat", (8, 8, 1), width=3)
    dl.save_encoder(encoder, tmp_path / "encoder.keras")
    loaded = dl.load_encoder(tmp_path / "encoder.keras")
    images = np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), encoder(images))
    assert loaded.get_config() == encoder.get_config()
    assert loaded.options == {"width": 3}


class Stateful:
    """Builds another network each time."""

    def __init__(self):
        self.width = 2

    def __call__(self, image_shape):
        self.width += 1
        images = keras.Input(image_shape)
        return keras.Model(images, layers.Dense(self.width)(layers.Flatten()(images)))


def test_an_encoder_that_does_not_load_is_refused_before_the_training(forgotten_names):
    dl.models.register_encoder("stateful", Stateful())
    encoder = dl.models.build_encoder("stateful", (8, 8, 1))
    with pytest.raises(ValueError, match=r"loaded safely|other weights"):
        require_loadable(encoder)
    require_loadable(tiny_vit())
    dl.models.register_encoder("steady", lambda image_shape: sequential())
    require_loadable(dl.models.build_encoder("steady", (SIDE, SIDE, BANDS)))


def test_a_saved_self_supervised_model_keeps_a_registered_encoder(tmp_path, forgotten_names):
    dl.models.register_encoder("steady", lambda image_shape: sequential())
    model = METHODS["byol"](dl.models.build_encoder("steady", (SIDE, SIDE, BANDS)))
    model.save(tmp_path / "model.keras")
    loaded = dl.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda image_shape: maps(), "one feature vector per image"),
        (lambda image_shape: tiny_vit(), r"must return a model for images of \(8, 8, 1\)"),
        (lambda image_shape: 3, "encoder must be a Keras model"),
    ],
)
def test_what_a_registered_function_returns_is_checked(build, message, forgotten_names):
    dl.models.register_encoder("wrong", build)
    with pytest.raises(ValueError, match=message):
        dl.models.build_encoder("wrong", (8, 8, 1))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_features_are_float32_under_any_policy(policy, forgotten_names):
    def build(image_shape):
        images = keras.Input(image_shape)
        return keras.Model(images, layers.Dense(3)(layers.Flatten()(images)))

    dl.models.register_encoder("flat", build)
    keras.config.set_dtype_policy(policy)
    try:
        encoder = dl.models.build_encoder("flat", (8, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert encoder.predict(np.zeros((2, 8, 8, 1)), verbose=0).dtype == np.float32
    assert encoder.network.layers[-1].compute_dtype == policy.removeprefix("mixed_")
