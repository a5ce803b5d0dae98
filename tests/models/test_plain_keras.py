"""Keras's own arguments and layers: each is used as Keras uses it, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.models import BYOLModel, ContrastiveModel
from deeplens_tf.models.heads import batch_norm_mlp, linear_probe, projection_head
from tests.models.pretexts import METHODS, arrays, eager, make_batch, make_method
from tests.models.tiny import IMAGE_SHAPE, tiny_vit
from tests.test_losses import naive_loss

WEIGHT, ACTIVITY = 0.01, 0.02


def regularised_encoder():
    images = keras.Input(IMAGE_SHAPE)
    features = keras.layers.Dense(
        4,
        kernel_regularizer=keras.regularizers.L2(WEIGHT),
        activity_regularizer=keras.regularizers.L2(ACTIVITY),
    )(keras.layers.Flatten()(images))
    return keras.Model(images, features)


def penalties(model, batch):
    """The regularisers' losses in NumPy: of the kernel once, of the activities for each view."""
    kernel, bias = arrays(model.encoder.weights)
    weights = WEIGHT * (kernel**2).sum()
    views = [batch[view].reshape(len(batch[view]), -1) for view in ("view_1", "view_2")]
    # Keras divides an activity regulariser by the size of the batch.
    activities = [ACTIVITY * ((view @ kernel + bias) ** 2).sum() / len(view) for view in views]
    return weights, activities


@pytest.mark.parametrize("probe", [False, True])
def test_the_regularisers_of_an_encoder_are_part_of_the_loss(probe):
    keras.utils.set_random_seed(0)
    head = linear_probe(3) if probe else None
    model = ContrastiveModel(regularised_encoder(), projection_head(6), probe=head)
    batch = make_batch()
    weights, activities = penalties(model, batch)
    found = eager(model).test_on_batch(batch, return_dict=True)
    rest = float(found["pretext_loss"]) + float(found.get("probe_loss", 0))
    assert float(found["loss"]) - rest == pytest.approx(weights + sum(activities), rel=1e-4)


def test_byols_target_adds_no_regularisation():
    keras.utils.set_random_seed(0)
    heads = (batch_norm_mlp((8, 4), name) for name in ("projector", "predictor"))
    model, batch = BYOLModel(regularised_encoder(), *heads), make_batch()
    weights, activities = penalties(model, batch)
    found = eager(model).test_on_batch(batch, return_dict=True)
    extra = float(found["loss"]) - float(found["pretext_loss"])
    assert extra == pytest.approx(weights + sum(activities), rel=1e-4)


def test_a_step_of_a_regulariser_is_the_closed_form():
    keras.utils.set_random_seed(0)
    plain = ContrastiveModel(tiny_vit(), projection_head(6))
    kernel = plain.encoder.embedding.projection.kernel
    steps = []
    for penalty in (None, keras.regularizers.L2(0.5)):
        kernel.regularizer = penalty
        with tf.GradientTape() as tape:
            loss = plain.compute_loss(x=make_batch(), y_pred=plain(make_batch(), training=True))
        steps.append(tape.gradient(loss, kernel.value).numpy())
    np.testing.assert_allclose(steps[1] - steps[0], 2 * 0.5 * kernel.numpy(), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"loss": "mse"},
        {"metrics": ["accuracy"]},
        {"weighted_metrics": ["mse"]},
        {"loss_weights": 2},
    ],
)
def test_a_loss_or_metric_of_ones_own_is_refused(method, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be left out.* Received: {name}="):
        make_method(method).compile(optimizer="sgd", **arguments)


@pytest.mark.parametrize(
    "extra", [{"y": np.zeros(8)}, {"sample_weight": np.ones(8)}, {"class_weight": {0: 2.0}}]
)
def test_targets_and_weights_beside_the_batch_are_refused(extra):
    model = eager(make_method("contrastive"))
    with pytest.raises(ValueError, match=f"{next(iter(extra))} must be left out"):
        model.fit(make_batch(), verbose=0, **extra)
    with pytest.raises(ValueError, match=f"{next(iter(extra))} must be left out"):
        model.train_on_batch(make_batch(), **extra)


def test_a_dataset_of_pairs_of_views_is_refused():
    views = tf.data.Dataset.from_tensors((make_batch()["view_1"], make_batch()["view_2"]))
    for run_eagerly in (True, False):
        model = make_method("contrastive")
        model.compile(optimizer="sgd", run_eagerly=run_eagerly)
        with pytest.raises(ValueError, match="a batch must be a dict with view_1, view_2"):
            model.fit(views, verbose=0, shuffle=False)


def test_labels_of_another_shape_are_refused_and_not_broadcast():
    model, batch = eager(make_method("contrastive")), make_batch()
    with pytest.raises(ValueError, match=r"label must have the shape \(batch,\). Received: .*8, 1"):
        model.train_on_batch(batch | {"label": batch["label"][:, None]})


def test_a_probe_with_layers_of_its_own_is_trained_in_training_mode():
    probe = keras.Sequential([keras.layers.BatchNormalization(), linear_probe(3)])
    model = eager(ContrastiveModel(tiny_vit(), projection_head(6), probe=probe))
    model.train_on_batch(make_batch())
    mean = probe.layers[0].moving_mean.numpy()
    features = np.asarray(model.encoder(make_batch()["image"]))
    assert np.abs(mean).max() > 0
    model.test_on_batch(make_batch())
    np.testing.assert_array_equal(probe.layers[0].moving_mean.numpy(), mean)
    assert np.isfinite(features).all()


def last_batches(method, sizes):
    batches = [make_batch(count, seed=seed) for seed, count in enumerate(sizes)]
    model = eager(make_method(method))
    single = [model.test_on_batch(batch, return_dict=True) for batch in batches]
    spec = {key: tf.TensorSpec((None, *v.shape[1:]), v.dtype) for key, v in batches[0].items()}
    stream = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=spec)
    stream = stream.apply(tf.data.experimental.assert_cardinality(len(sizes)))
    return single, model.evaluate(stream, verbose=0, return_dict=True)


@pytest.mark.parametrize("method", METHODS)
def test_the_means_of_an_epoch_weigh_each_batch_by_its_size(method):
    sizes = (8, 2)
    single, found = last_batches(method, sizes)
    for name in set(found) - {"contrastive_accuracy", "probe_accuracy"}:
        expected = np.average([float(scores[name]) for scores in single], weights=sizes)
        assert found[name] == pytest.approx(expected, rel=1e-4), name


def test_the_probes_loss_weighs_each_batch_by_its_labels():
    model, batches = eager(make_method("contrastive")), [make_batch(8, seed=i) for i in range(2)]
    batches[1]["label"][2:] = -1
    single = [float(model.test_on_batch(b, return_dict=True)["probe_loss"]) for b in batches]
    stacked = {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}
    found = model.evaluate(stacked, batch_size=8, verbose=0, return_dict=True)["probe_loss"]
    assert found == pytest.approx(np.average(single, weights=(8, 2)), rel=1e-4)


def test_a_last_batch_of_one_image_does_not_count_as_much_as_a_full_one():
    model, batch = eager(make_method("contrastive", classes=0)), make_batch(9)
    found = model.evaluate(batch, batch_size=8, verbose=0, return_dict=True)["pretext_loss"]
    parts = [{key: rows[part] for key, rows in batch.items()} for part in (slice(8), slice(8, 9))]
    losses = [naive_loss(*arrays(model(part)["projections"]), 0.1).mean() for part in parts]
    assert losses[1] == pytest.approx(0, abs=1e-6)
    assert found == pytest.approx(8 / 9 * losses[0], rel=1e-4)
