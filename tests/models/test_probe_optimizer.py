"""The probe is trained apart from the encoder, by whatever optimiser is compiled."""

import contextlib

import keras
import numpy as np
import pytest

from deeplens_tf.models import ContrastiveModel
from deeplens_tf.models.heads import linear_probe
from deeplens_tf.models.probe_optimizer import SeparateProbe, separate_probe
from tests.models.pretexts import make_batch, make_method
from tests.models.tiny import assert_same_values, values_of

optimizers = keras.optimizers


def multi():
    adam = optimizers.Adam(0.01, global_clipnorm=0.1)
    map_ = optimizers.OptimizerMap(adam, {".*projector.*": optimizers.SGD(0.1, clipnorm=0.1)})
    return optimizers.MultiOptimizer(map_)


OPTIMIZERS = {
    "name": lambda: "adam",
    "clipped": lambda: optimizers.Adam(0.01, global_clipnorm=1e-3),
    "clipped_each": lambda: optimizers.SGD(0.1, clipvalue=1e-3),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1, global_clipnorm=0.01)),
    "static_scale": lambda: optimizers.SGD(0.1, global_clipnorm=0.01, loss_scale_factor=64.0),
    "several": multi,
    "accumulating": lambda: optimizers.SGD(
        0.1, global_clipnorm=0.01, gradient_accumulation_steps=2
    ),
}


def trained(optimizer, shift=0, probe=True, **options):
    model, batch = make_method("contrastive"), make_batch()
    if not probe:
        model = ContrastiveModel(model.encoder, model.projector, model.temperature)
    model.compile(optimizer(), run_eagerly=True, **options)
    before = values_of(model.encoder)
    for _ in range(4):
        model.train_on_batch(batch | {"label": (batch["label"] + shift) % 3})
    assert any((before[path] != value).any() for path, value in values_of(model.encoder).items())
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_encoder_is_the_same_for_any_labels_and_without_a_probe(name):
    first, second = (trained(OPTIMIZERS[name], shift) for shift in (0, 1))
    alone = trained(OPTIMIZERS[name], probe=False)
    for other in (second, alone):
        assert_same_values(first.encoder, other.encoder)
        assert_same_values(first.projector, other.projector)
    assert (first.probe.kernel != second.probe.kernel).numpy().any()


def test_each_has_its_own_rate_whatever_the_probe_is_called():
    probe, head = keras.layers.Dense(2, name="anything"), keras.layers.Dense(2, name="probe")
    probe.build((None, 3))
    head.build((None, 3))
    optimizer = separate_probe(optimizers.SGD(0.5), probe, optimizers.Adam(0.125))
    variables = [probe.kernel, head.kernel]
    before = [variable.numpy() for variable in variables]
    optimizer.apply([np.full((3, 2), 0.5, "float32")] * 2, variables)
    steps = [old - new.numpy() for old, new in zip(before, variables, strict=True)]
    np.testing.assert_allclose(steps[0], 0.125, rtol=1e-4)  # Adam's first step is its rate
    np.testing.assert_allclose(steps[1], 0.5 * 0.5, rtol=1e-6)


def test_callbacks_read_and_set_both_rates():
    model = trained(lambda: optimizers.SGD(0.5), probe_optimizer=optimizers.Adam(0.0625))
    # Keras calls it once for each optimiser, with that one's rate.
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    batch = make_batch()
    model.fit(batch, epochs=2, verbose=0, callbacks=[scheduler])
    assert float(model.optimizer.learning_rate) == 0.125
    assert float(model.optimizer.probe_optimizer.learning_rate) == 0.015625


def test_a_saved_model_continues_with_both_optimizers(tmp_path):
    model = trained(lambda: optimizers.Adam(0.01), probe_optimizer=optimizers.SGD(0.3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, SeparateProbe)
    for each in (model, loaded):
        each.train_on_batch(make_batch(seed=1))
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    assert float(loaded.optimizer.probe_optimizer.learning_rate) == pytest.approx(0.3)


@pytest.mark.parametrize("probe_optimizer", ["sgd", optimizers.SGD(0.1)])
def test_an_optimizer_for_a_probe_that_is_not_there_is_refused(probe_optimizer):
    with pytest.raises(ValueError, match="probe_optimizer must be None"):
        trained(lambda: "sgd", probe=False, probe_optimizer=probe_optimizer)


@pytest.mark.parametrize("scope", [None, "model"])
def test_a_probe_is_found_with_and_without_the_models_name_in_its_path(scope):
    with keras.name_scope(scope) if scope else contextlib.nullcontext():
        probe = linear_probe(2)
        probe.build((None, 3))
    before = probe.kernel.numpy()
    optimizer = separate_probe(optimizers.SGD(0.5), probe, optimizers.SGD(0.25))
    optimizer.apply([np.ones((3, 2), "float32")], [probe.kernel])
    np.testing.assert_allclose(before - probe.kernel.numpy(), 0.25, rtol=1e-5)


def by_function():
    sgd, adam = optimizers.SGD(0.1), optimizers.Adam(0.01)
    return optimizers.MultiOptimizer(lambda variable: sgd if "proj" in variable.path else adam)


def test_several_optimizers_chosen_by_a_function_have_a_copy_for_the_probe():
    model = trained(by_function)
    assert isinstance(model.optimizer.probe_optimizer, optimizers.Adam)
    assert model.optimizer.probe_optimizer not in model.optimizer.optimizers[1:]


def test_a_second_compile_may_change_the_probes_optimizer():
    model = trained(lambda: "adam")
    first = model.optimizer
    model.compile(first)
    assert model.optimizer is first
    model.compile(optimizers.Adam(0.01), probe_optimizer=optimizers.SGD(0.3))
    model.compile(model.optimizer, probe_optimizer=optimizers.SGD(0.125), run_eagerly=True)
    model.train_on_batch(make_batch())
    assert float(model.optimizer.probe_optimizer.learning_rate) == 0.125
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_the_probes_copy_keeps_what_does_not_decay():
    plain = optimizers.AdamW(0.1, weight_decay=0.5)
    plain.exclude_from_weight_decay(var_names=["bias"])
    model = trained(lambda: plain, shift=0)
    copy = model.optimizer.probe_optimizer
    assert copy is not plain
    assert [copy._use_weight_decay(v) for v in model.probe.trainable_variables] == [True, False]


@pytest.mark.parametrize("wrap", [optimizers.LossScaleOptimizer, lambda sgd: multi()])
def test_a_probe_optimizer_that_wraps_others_is_refused(wrap):
    with pytest.raises(ValueError, match="probe_optimizer must be one that wraps no other"):
        trained(lambda: "sgd", probe_optimizer=wrap(optimizers.SGD()))
