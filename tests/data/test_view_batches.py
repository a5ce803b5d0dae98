"""`view_batches` under Keras's own `fit`: each epoch has its views, however it is trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplens_tf as dl
from deeplens_tf.data.batches import image_batches, view_batches
from deeplens_tf.models import ContrastiveModel
from deeplens_tf.models.heads import linear_probe, projection_head

COUNT, SIDE, BATCH, STEPS = 30, 8, 6, 4  # 24 images are trained on
AUGMENT = dl.augment.Augment(["flip", "brightness"])


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).normal(size=(COUNT, SIDE, SIDE)).astype("float32")
    return dl.data.from_arrays(images, np.arange(COUNT) % 3, validation_fraction=0.2, seed=3)


def compiled(record=None, **options):
    """A tiny model without dropout; `record` gets each batch that a step is made with."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 1))
    features = keras.layers.Dense(6, "tanh")(keras.layers.Flatten()(image))
    model = ContrastiveModel(
        keras.Model(image, features), projection_head(4), probe=linear_probe(3)
    )
    model.compile(keras.optimizers.SGD(0.1), **{"run_eagerly": True, **options})
    if record is not None:
        step = model.train_step

        def recorded(batch):
            record.append({name: np.array(values) for name, values in batch.items()})
            return step(batch)

        model.train_step = recorded
    return model


def fit(model, batches, epochs=1, **options):
    return model.fit(batches, epochs=epochs, shuffle=False, verbose=0, **options)


def assert_same_weights(model, expected, tolerance=0.0):
    for found, wanted in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_allclose(
            found.numpy(), wanted.numpy(), rtol=0, atol=tolerance, err_msg=wanted.path
        )


@pytest.fixture(scope="module")
def uninterrupted(data):
    """What three epochs of one `fit` lead to."""
    model = compiled()
    fit(model, view_batches(data, AUGMENT, BATCH), epochs=3)
    return model


def test_each_epoch_of_fit_has_the_views_of_its_number_and_each_index(data):
    stored, shown = np.concatenate([*image_batches(data, "train", 5)]), []
    batches = view_batches(data, AUGMENT, BATCH)
    assert batches.cardinality() == STEPS
    fit(compiled(shown), batches, epochs=3)
    assert len(shown) == 3 * STEPS
    for epoch in range(3):
        steps = shown[epoch * STEPS :][:STEPS]
        images, first, second = (
            np.concatenate([step[name] for step in steps]) for name in ("image", "view_1", "view_2")
        )
        apart = np.abs(images[:, None] - stored[None]).max(axis=(2, 3, 4))
        indices = apart.argmin(axis=1)
        assert sorted(indices) == list(range(24))
        for i, (image, *views) in enumerate(zip(images, first, second, strict=True)):
            index = tf.constant([indices[i]], tf.int64)
            expected = AUGMENT.two_views(image[None], index, data.seed, epoch)
            for view, wanted in zip(views, expected, strict=True):
                np.testing.assert_allclose(view, wanted[0], atol=1e-6)
    views = [step["view_1"] for step in shown]
    assert len({view.tobytes() for view in views}) == len(views)


def test_a_first_epoch_continues_an_interrupted_training_exactly(data, uninterrupted, tmp_path):
    model = compiled()
    fit(model, view_batches(data, AUGMENT, BATCH), epochs=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    fit(loaded, view_batches(data, AUGMENT, BATCH, first_epoch=2))
    assert_same_weights(loaded, uninterrupted)
    # The number decides, not the fact that it is another dataset.
    fit(model, view_batches(data, AUGMENT, BATCH))
    assert (model.encoder.weights[0].numpy() != loaded.encoder.weights[0].numpy()).any()


def test_another_fit_goes_on_with_later_epochs(data, uninterrupted):
    model, batches = compiled(), view_batches(data, AUGMENT, BATCH)
    for epochs in (1, 2):
        fit(model, batches, epochs=epochs)
    assert_same_weights(model, uninterrupted)


def test_a_peek_and_a_validation_change_no_view(data, uninterrupted):
    model, batches = compiled(), view_batches(data, AUGMENT, BATCH)
    next(iter(batches))
    validation = view_batches(data, AUGMENT, 3, split="validation")
    history = fit(model, batches, epochs=3, validation_data=validation).history
    assert_same_weights(model, uninterrupted)
    assert len(history["val_pretext_loss"]) == 3
    again = [model.evaluate(validation, verbose=0) for _ in range(2)]
    assert again[0] == again[1]  # validation has the same views each time


@pytest.mark.parametrize("steps", [3, 10])
def test_several_steps_per_execution_take_the_same_batches(data, uninterrupted, steps):
    model = compiled(run_eagerly=False, steps_per_execution=steps)
    validation = view_batches(data, AUGMENT, 3, split="validation")
    fit(model, view_batches(data, AUGMENT, BATCH), epochs=3, validation_data=validation)
    assert_same_weights(model, uninterrupted, 1e-6)


def test_epochs_of_a_part_of_the_batches_take_the_next_ones(data):
    shown, whole = [], []
    fit(compiled(shown), view_batches(data, AUGMENT, BATCH), epochs=2)
    fit(compiled(whole), view_batches(data, AUGMENT, BATCH), epochs=2, steps_per_epoch=2)
    for found, expected in zip(whole, shown[:STEPS], strict=True):
        np.testing.assert_array_equal(found["view_2"], expected["view_2"])


def test_a_list_for_a_second_view_is_refused_where_there_is_none(data):
    augment = dl.augment.Augment(["flip"], view_2=["brightness"])
    with pytest.raises(ValueError, match=r"view_2 must be null .* where one view is made"):
        view_batches(data, augment, BATCH, patches=4)


@pytest.mark.parametrize("wrong", [{"patches": -1}, {"patches": 2.5}, {"first_epoch": -1}])
def test_numbers_that_count_nothing_are_refused(data, wrong):
    with pytest.raises(ValueError, match="must be whole numbers of at least 0"):
        view_batches(data, AUGMENT, BATCH, **wrong)
