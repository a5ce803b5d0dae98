"""What holds for every self-supervised method, as the configuration builds it."""

import keras
import numpy as np
import pytest

from deeplens_tf.errors import RequestError
from deeplens_tf.models import ContrastiveModel, register_method
from deeplens_tf.training.methods import build_method, method_settings
from tests.models.pretexts import (
    METHODS,
    arrays,
    assert_file_keeps_everything,
    eager,
    make_batch,
    make_method,
    scores,
    settings,
)
from tests.models.test_collapse import numpy_feature_std
from tests.models.tiny import randomise, tiny_vit

# The others differ from these in nothing that labels could come through.
SOME_SLOW = [
    "byol",
    "inpainting",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("contrastive", "twin", "simsiam")),
]


@pytest.mark.parametrize("method", METHODS)
def test_feature_std_is_that_of_the_features_the_pretext_worked_on(method):
    model, batch = make_method(method), make_batch(16)
    features = arrays(model(batch, training=False)["features"])
    assert features[0].shape == (16, 12)
    expected = np.mean([numpy_feature_std(part) for part in features])
    assert scores(model, batch)["feature_std"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_feature_std_of_a_collapsed_encoder_is_zero(method):
    model, batch = make_method(method), make_batch()
    model.encoder.embedding.projection.kernel.assign(np.zeros((4, 4, 2, 12)))
    # Masks differ between images, and so would the positions that are seen.
    model.encoder.embedding.positions.assign(np.ones((1, 6, 12)))
    model.encoder.norm.beta.assign(np.arange(12.0))
    assert scores(model, batch)["feature_std"] < 1e-3


@pytest.mark.parametrize("method", SOME_SLOW)
def test_labels_do_not_change_what_the_method_learns(method):
    trained, batch = [], make_batch()
    for shift in (0, 1):
        # Clipping: a norm taken over the probe's gradient too would show.
        sgd = keras.optimizers.SGD(0.5, global_clipnorm=0.01)
        model = eager(make_method(method), sgd)
        before = arrays(model.encoder.weights)
        labels = (batch["label"] + shift) % 3
        for _ in range(2):
            model.train_on_batch(batch | {"label": labels})
        trained.append(model)
    for ours, theirs in zip(trained[0].weights, trained[1].weights, strict=True):
        if "probe" not in ours.path:
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    assert (trained[0].probe.kernel.numpy() != trained[1].probe.kernel.numpy()).any()
    after = arrays(trained[0].encoder.weights)
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_every_trainable_variable_has_a_gradient(method):
    # Keras warns of one that has none, and warnings are errors here.
    model, batch = make_method(method, pooling="class_token"), make_batch()
    before = arrays(model.trainable_variables)
    eager(model, keras.optimizers.Adam(0.01)).train_on_batch(batch)
    after = arrays(model.trainable_variables)
    for variable, old, new in zip(model.trainable_variables, before, after, strict=True):
        assert (old != new).any(), variable.path


@pytest.mark.parametrize(
    ("method", "classes"), [*((method, 3) for method in METHODS), ("byol", 0), ("inpainting", 0)]
)
def test_a_file_gives_the_same_model_back(method, classes, tmp_path):
    model, batch = make_method(method, classes, dropout=0.1), make_batch()
    scores(model, batch)  # a model that has seen a batch records its shapes in the file
    other = assert_file_keeps_everything(randomise(model), tmp_path)
    assert (other.probe is not None) == (classes > 0)
    ours, theirs = (keras.tree.flatten(m(batch, training=False)) for m in (model, other))
    for one, another in zip(arrays(ours), arrays(theirs), strict=True):
        np.testing.assert_array_equal(one, another)
    assert {k: v for k, v in other.get_config().items() if not isinstance(v, dict)} == {
        k: v for k, v in model.get_config().items() if not isinstance(v, dict)
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_in_mixed_precision_with_the_loss_in_float32(method):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, batch = make_method(method), make_batch()
        before = arrays(model.encoder.weights)
        eager(model, keras.optimizers.Adam(0.01))
        results = model.train_on_batch(batch, return_dict=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.isfinite(value) for value in results.values())
    assert {variable.dtype for variable in model.weights} <= {"float32", "int32"}
    after = arrays(model.encoder.weights)
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["byol", "inpainting"])
def test_compiled_by_xla_it_takes_the_same_step(method):
    models, batch = [make_method(method), make_method(method)], make_batch()
    for model, compile_it in zip(models, (True, False), strict=True):
        optimizer = keras.optimizers.SGD(0.1)
        model.compile(optimizer, run_eagerly=not compile_it, jit_compile=compile_it)
        model.train_on_batch(batch)
    for ours, theirs in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4, err_msg=ours.path)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("pretrain.options.temperature=0.2", "pretrain.temperature"),
        ("pretrain.options.projection_width=4", "pretrain.projection_width"),
    ],
)
def test_an_option_with_a_key_of_its_own_is_refused(word, key):
    with pytest.raises(ValueError, match=f"set {key} instead"):
        method_settings(settings("contrastive", word))


def test_a_section_of_a_method_is_not_overridden_by_options():
    with pytest.raises(ValueError, match=r"set pretrain\.byol\.beta instead"):
        method_settings(settings("byol", "pretrain.options.beta=0.5"))


def test_an_error_of_a_registered_method_is_a_wrong_request(forgotten_names):
    def build(encoder, probe, total_steps, depth: int = 1):
        raise ValueError("depth must be even")

    register_method("odd", build, ContrastiveModel)
    with pytest.raises(RequestError, match=r"method odd cannot be built: depth must be even"):
        build_method(settings("odd"), tiny_vit(), 0, 1)
