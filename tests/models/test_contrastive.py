"""The contrastive model: what it minimises, what it counts, and what never reaches the encoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.models import ContrastiveModel
from deeplens_tf.models.heads import linear_probe, projection_head
from deeplens_tf.training.methods import build_method
from tests.models.pretexts import make_method, settings
from tests.models.tiny import (
    assert_same_values,
    changed_paths,
    randomise,
    reloaded,
    tiny_images,
    tiny_vit,
    values_of,
)
from tests.test_losses import naive_loss

CLASSES = 3


def make_model(probe=True, seed=0, temperature=0.1, **options):
    keras.utils.set_random_seed(seed)
    encoder, projector = tiny_vit(**options), projection_head(6)
    return ContrastiveModel(
        encoder, projector, temperature, linear_probe(CLASSES) if probe else None
    )


def make_batch(count=8, labels=True):
    names = ("view_1", "view_2", "image")
    batch = {name: tiny_images(count, seed=i) for i, name in enumerate(names)}
    batch["view_2"] = 0.8 * batch["view_1"] + 0.2 * batch["view_2"]  # partners are alike
    if labels:
        batch["label"] = np.arange(count, dtype="int64") % CLASSES
    return batch


def compiled(model, optimizer, probe_rate=None):
    probe_optimizer = keras.optimizers.Adam(probe_rate) if probe_rate else None
    # Eager: a few steps on tiny images take less time than tracing a graph.
    model.compile(optimizer, probe_optimizer=probe_optimizer, run_eagerly=True, jit_compile=False)
    return model


def scores(model, batch):
    compiled(model, "sgd")
    return {
        key: float(value) for key, value in model.test_on_batch(batch, return_dict=True).items()
    }


def projections(model, batch):
    sides = model(batch, training=False)["projections"]
    return [keras.ops.convert_to_numpy(side).astype(float) for side in sides]


def encoder_gradients(model, batch):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=batch, y_pred=model(batch, training=True))
    variables = model.encoder.trainable_variables
    return dict(zip([v.path for v in variables], tape.gradient(loss, variables), strict=True))


def normalised_rows(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_loss_is_the_naive_one_of_the_projections(temperature):
    model, batch = make_model(probe=False, temperature=temperature), make_batch()
    expected = naive_loss(*projections(model, batch), temperature).mean()
    result = scores(model, batch)
    assert result["loss"] == pytest.approx(expected, rel=1e-4)
    assert result["pretext_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [4, 16])
def test_the_plateau_is_the_loss_of_projections_that_are_all_alike(count):
    alike = np.ones((count, 6))
    expected = naive_loss(alike, alike, 0.1).mean()
    assert make_model().plateau_loss(count) == pytest.approx(expected)
    assert make_method("byol").plateau_loss(count) is None


def test_the_projector_is_two_dense_layers_in_numpy():
    model, batch = make_model(), make_batch()
    features = np.asarray(model.encoder(batch["view_1"]), float)
    hidden, out = model.projector.layers
    kernel, bias = (np.asarray(weight, float) for weight in hidden.weights)
    lifted = np.maximum(features @ kernel + bias, 0)
    kernel, bias = (np.asarray(weight, float) for weight in out.weights)
    np.testing.assert_allclose(
        projections(model, batch)[0], lifted @ kernel + bias, rtol=1e-4, atol=1e-6
    )


def normalised_model():
    words = "pretrain.contrastive.projector=batch_norm", "pretrain.temperature=0.4"
    keras.utils.set_random_seed(0)
    return randomise(build_method(settings("contrastive", *words), tiny_vit(), 0, 1))


def test_the_normalised_projector_is_simclrs_in_numpy():
    model, batch = normalised_model(), make_batch()
    dense, norm, _, out = model.projector.layers
    gamma, beta, mean, variance = (np.asarray(weight, float) for weight in norm.weights)
    kernel, last, bias = (np.asarray(each, float) for each in (dense.kernel, *out.weights))
    assert dense.bias is None
    outputs = model(batch, training=True)["projections"]
    for view, projection in zip(("view_1", "view_2"), outputs, strict=True):
        hidden = np.asarray(model.encoder(batch[view]), float) @ kernel
        unit = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + norm.epsilon)
        expected = np.maximum(gamma * unit + beta, 0) @ last + bias
        np.testing.assert_allclose(projection, expected, rtol=1e-3, atol=1e-4)
        # A step moves the statistics twice, by a tenth of what is left to go for each view.
        mean, variance = (
            0.9 * old + 0.1 * new
            for old, new in ((mean, hidden.mean(axis=0)), (variance, hidden.var(axis=0)))
        )
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-4)


def test_a_validation_soon_scores_the_normalised_projections_of_the_training():
    """Twenty steps leave a hundredth of the initial statistics, 0.9 ** 40; of 0.99 two thirds."""
    model, batch = normalised_model(), make_batch()
    trained = [model(batch, training=True)["projections"] for _ in range(20)][-1]
    expected = naive_loss(*(np.asarray(view, float) for view in trained), 0.4).mean()
    assert scores(model, batch)["pretext_loss"] == pytest.approx(expected, rel=0.1)


def test_contrastive_accuracy_counts_both_directions():
    model, batch = make_model(), make_batch(count=32)
    first, second = map(normalised_rows, projections(model, batch))
    similarities = first @ second.T
    rows = similarities.argmax(axis=1) == np.arange(32)
    columns = similarities.argmax(axis=0) == np.arange(32)
    assert rows.sum() != columns.sum()  # else one direction could stand for both
    expected = (rows.mean() + columns.mean()) / 2
    assert scores(model, batch)["contrastive_accuracy"] == pytest.approx(expected)


def test_the_probes_scores_are_those_of_the_image_itself_in_numpy():
    model, batch = make_model(dropout=0.3), make_batch()
    kernel, bias = (np.asarray(weight, float) for weight in model.probe.weights)
    logits = np.asarray(model.encoder(batch["image"], training=False), float) @ kernel + bias
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    losses = -logs[np.arange(8), batch["label"]]
    result = scores(model, batch)
    assert result["probe_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert result["probe_accuracy"] == pytest.approx(
        (logits.argmax(axis=1) == batch["label"]).mean()
    )
    assert result["loss"] == pytest.approx(result["pretext_loss"] + result["probe_loss"], rel=1e-5)


def test_unlabelled_images_do_not_count_for_the_probe():
    model, batch = make_model(), make_batch()
    known = {name: images[:5] for name, images in make_batch().items()}
    batch["label"][5:] = -1
    partly, wholly = scores(model, batch), scores(model, known)
    assert partly["probe_loss"] == pytest.approx(wholly["probe_loss"], rel=1e-5)
    assert partly["probe_accuracy"] == pytest.approx(wholly["probe_accuracy"])


def test_a_batch_without_one_label_has_a_probe_loss_of_zero():
    model, batch = make_model(), make_batch()
    batch["label"][:] = -1
    result = scores(model, batch)
    assert result["probe_loss"] == 0
    assert np.isfinite(result["loss"])


def test_no_gradient_of_the_probe_reaches_the_encoder():
    watched, batch = make_model(), make_batch()
    alone = ContrastiveModel(watched.encoder, watched.projector, watched.temperature)
    with_probe, without = encoder_gradients(watched, batch), encoder_gradients(alone, batch)
    assert max(np.abs(gradient).max() for gradient in without.values()) > 1e-3
    for path, gradient in without.items():
        np.testing.assert_array_equal(with_probe[path], gradient, err_msg=path)


def test_labels_do_not_change_what_the_encoder_learns():
    trained = []
    for shift in (0, 1):
        # SGD with clipping: a norm taken over the probe's gradient too would show.
        sgd = keras.optimizers.SGD(0.5, global_clipnorm=0.01)
        model, batch = compiled(make_model(), sgd, probe_rate=0.02), make_batch()
        before = values_of(model.encoder)
        batch["label"] = (batch["label"] + shift) % CLASSES
        for _ in range(3):
            model.train_on_batch(batch)
        trained.append(model)
    assert_same_values(trained[0].encoder, trained[1].encoder)
    assert_same_values(trained[0].projector, trained[1].projector)
    assert changed_paths(before, trained[-1].encoder)
    assert (trained[0].probe.kernel != trained[1].probe.kernel).numpy().any()


def test_the_probe_learns_at_its_own_rate():
    model, batch = make_model(), make_batch()
    compiled(model, keras.optimizers.Adam(0.003), probe_rate=0.02)
    before = values_of(model)
    model.train_on_batch(batch)
    after = values_of(model)
    # Adam's first step is its rate, whatever the gradient.
    kernels = [path for path in before if path.endswith("kernel")]
    assert sum("probe/" in path for path in kernels) == 1
    for path in kernels:
        step = np.abs(after[path] - before[path]).max()
        rate = 0.02 if "probe/" in path else 0.003
        assert step == pytest.approx(rate, rel=0.02), path


@pytest.mark.parametrize("labels", [True, False])
def test_it_trains_without_a_probe_with_or_without_labels(labels):
    model = compiled(make_model(probe=False), "adam")
    batch = make_batch(labels=labels)
    first = model.train_on_batch(batch, return_dict=True)
    for _ in range(6):
        last = model.train_on_batch(batch, return_dict=True)
    assert set(first) == {"loss", "pretext_loss", "contrastive_accuracy", "feature_std"}
    assert last["loss"] < first["loss"]


def test_the_encoder_is_trained_in_training_mode_and_scored_at_inference():
    model, batch = make_model(probe=False, dropout=0.5), make_batch()
    assert scores(model, batch) == scores(model, batch)
    losses = [
        float(model.compute_loss(x=batch, y_pred=model(batch, training=True))) for _ in range(2)
    ]
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_compiled_by_xla_it_takes_the_same_step():
    models, batch = [make_model(), make_model()], make_batch()
    for model, compile_it in zip(models, (True, False), strict=True):
        optimizers = keras.optimizers.SGD(0.5), keras.optimizers.Adam(0.02)
        model.compile(
            optimizers[0],
            probe_optimizer=optimizers[1],
            run_eagerly=not compile_it,
            jit_compile=compile_it,
        )
        model.train_on_batch(batch)
    compiled_values, eager_values = map(values_of, models)
    for ours, theirs in zip(compiled_values.values(), eager_values.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
def test_it_trains_in_mixed_precision_with_the_loss_in_float32(precision):
    keras.config.set_dtype_policy(precision)
    try:
        model, batch = make_model(), make_batch()
        compiled(model, keras.optimizers.Adam(0.003), probe_rate=0.02)
        assert all(side.dtype == "float32" for side in model(batch)["projections"])
        before = values_of(model.encoder)
        # float16: the first steps are skipped until the scale of the loss fits.
        for _ in range(12):
            assert np.isfinite(model.train_on_batch(batch, return_dict=True)["loss"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert changed_paths(before, model.encoder)
    assert all(np.isfinite(value).all() for value in values_of(model.encoder).values())


@pytest.mark.parametrize("probe", [True, False])
def test_a_file_gives_the_same_model_back(probe, tmp_path):
    model, batch = make_model(probe, temperature=0.3, dropout=0.1), make_batch()
    scores(model, batch)  # a model that has seen a batch records its shapes in the file
    randomise(model)
    other = reloaded(model, tmp_path)
    assert type(other) is ContrastiveModel
    assert other.temperature == 0.3
    assert (other.probe is not None) == probe
    assert_same_values(model, other)
    for ours, theirs in zip(projections(model, batch), projections(other, batch), strict=True):
        np.testing.assert_array_equal(ours, theirs)
