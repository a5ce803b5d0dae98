"""Probes of any encoder, without a run: against scikit-learn, and what is refused."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from deeplens_tf.data import from_arrays, open_folder
from deeplens_tf.data.label_selection import label_subset
from deeplens_tf.evaluation import probe
from deeplens_tf.probes.sklearn_probes import RIDGE_PENALTIES
from tests.conftest import CLASSES, blob_image
from tests.models.tiny import tiny_vit, values_of

SHAPE = (16, 16, 1)


def blobs(count, seed=0):
    """Noisy images of shape (count, 16, 16), each scaled to [0, 1], and their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=count)
    images = np.stack([blob_image(generator, label) for label in labels])
    images += generator.normal(0, 0.7, images.shape)
    images -= images.min(axis=(1, 2), keepdims=True)
    return images / images.max(axis=(1, 2), keepdims=True), labels


def random_encoder(seed=1):
    keras.utils.set_random_seed(seed)
    return tiny_vit(image_shape=SHAPE)


@pytest.fixture(scope="module")
def labelled():
    """Data of 90 images of three classes, 45 of them in the test split."""
    images, labels = blobs(90)
    names = [CLASSES[label] for label in labels]
    test = np.arange(90) % 2 == 1
    return from_arrays(images, names, test=test, validation_fraction=0), images, labels, test


def features_by_hand(encoder, images, test):
    features = encoder.predict(images[..., None].astype("float32"), verbose=0)
    scaler = StandardScaler().fit(features[~test])
    return scaler.transform(features[~test]), scaler.transform(features[test])


def macro_auc_by_hand(encoder, images, labels, test, model):
    train, scored = features_by_hand(encoder, images, test)
    probabilities = model.fit(train, labels[~test]).predict_proba(scored)
    return roc_auc_score(labels[test], probabilities, multi_class="ovr")


@pytest.mark.parametrize(
    ("kind", "model"),
    [("linear", LogisticRegression(max_iter=5000)), ("knn", KNeighborsClassifier(20))],
)
def test_encoder_and_control_score_as_scikit_learn_fitted_by_hand(labelled, kind, model):
    data, *arrays = labelled
    encoder = random_encoder()
    keras.utils.set_random_seed(7)
    control = type(encoder).from_config(encoder.get_config())
    control.build()
    keras.utils.set_random_seed(7)
    metrics = probe(encoder, data, kind=kind)
    for network, found in ((encoder, metrics), (control, metrics["control"])):
        expected = macro_auc_by_hand(network, *arrays, model)
        assert found["macro_auc"] == pytest.approx(expected, abs=1e-3)
        assert (found["split"], found["head"], found["n_train"]) == ("test", "classification", 45)
    assert metrics["classes"] == list(CLASSES)
    low, high = metrics["intervals_95"]["accuracy"]
    assert low <= metrics["accuracy"] <= high
    # Otherwise the comparison would hold for any network.
    assert metrics["macro_auc"] != metrics["control"]["macro_auc"]


def test_masses_are_predicted_where_there_are_no_classes():
    images, labels = blobs(80)
    log10_mass = labels * 0.5 - 24 + np.random.default_rng(2).normal(0, 0.1, 80)
    log10_mass[::10] = np.nan
    test = np.arange(80) % 2 == 1
    data = from_arrays(images, log10_mass=log10_mass, test=test, validation_fraction=0)
    encoder = random_encoder()
    metrics = probe(encoder, data)
    known = ~np.isnan(log10_mass)
    train, scored = features_by_hand(encoder, images[known], test[known])
    model = RidgeCV(RIDGE_PENALTIES).fit(train, log10_mass[known & ~test])
    expected = r2_score(log10_mass[known & test], model.predict(scored))
    assert metrics["r2"] == pytest.approx(expected, abs=1e-3)
    assert (metrics["head"], metrics["n_train"], metrics["n_test"]) == ("regression", 32, 40)


def test_a_fraction_of_the_labels_is_that_of_a_fine_tuning(labelled):
    data, images, labels, test = labelled
    encoder = random_encoder()
    metrics = probe(encoder, data, fraction=0.4, seed=3)
    kept = np.ones(90, bool)
    kept[~test] = label_subset(data.index("train"), 0.4, seed=3)
    model = LogisticRegression(max_iter=5000)
    expected = macro_auc_by_hand(encoder, images[kept], labels[kept], test[kept], model)
    assert metrics["n_train"] == kept[~test].sum() < 45
    assert metrics["macro_auc"] == pytest.approx(expected, abs=1e-3)


def test_a_prepared_folder_without_a_test_split_is_scored_on_validation(
    blobs_folder, tmp_path, capsys
):
    (tmp_path / "blobs").symlink_to(blobs_folder)
    data = open_folder(
        tmp_path / "blobs", image_size=16, validation_fraction=0.25, cache=tmp_path / "cache"
    )
    metrics = probe(random_encoder(), data)
    assert (metrics["split"], metrics["n_train"], metrics["n_test"]) == ("validation", 45, 15)


def test_any_keras_model_with_an_image_shape_is_probed_and_not_changed(labelled):
    inputs = keras.Input(SHAPE)
    encoder = keras.Model(inputs, keras.layers.Dense(8)(keras.layers.Flatten()(inputs)))
    encoder.image_shape = SHAPE
    before = values_of(encoder)
    metrics = probe(encoder, labelled[0])
    assert metrics["macro_auc"] > 0.6
    for path, value in values_of(encoder).items():
        np.testing.assert_array_equal(value, before[path])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "mass"}, "head must be one of classification, regression. Received: head='mass'"),
        ({"kind": "forest"}, "kind must be one of linear, knn. Received: kind='forest'"),
        ({"split": "train"}, "split must be one of test, validation. Received: split='train'"),
        ({"split": "validation"}, "data must have images in its validation split"),
        ({"fraction": 0}, "fraction must be above 0 and at most 1. Received: fraction=0"),
        ({"head": "regression"}, "data must have labels for head='regression'.*and only 0 of"),
    ],
)
def test_arguments_that_cannot_work_are_refused(labelled, options, message):
    with pytest.raises(ValueError, match=message):
        probe(random_encoder(), labelled[0], **options)


def test_an_encoder_of_other_images_or_without_finite_features_is_refused(labelled):
    with pytest.raises(ValueError, match=r"images of the data, \(16, 16, 1\).*12, 8, 2"):
        probe(tiny_vit(), labelled[0])
    encoder = random_encoder()
    encoder.trainable_variables[0].assign(np.full(encoder.trainable_variables[0].shape, np.nan))
    with pytest.raises(ValueError, match=r"encoder must return finite features.*45 of 45 images"):
        probe(encoder, labelled[0])
