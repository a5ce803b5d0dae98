"""The cards of the shipped encoders, and the score that they publish, repeated on other images."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import deeplens_tf as dl
from deeplens_tf.files.shipped import card_head, shipped_encoders
from deeplens_tf.simulation import CLASSES
from results.ship import card_again

SEED, TEST_IMAGES = 4242, 300  # of neither the training nor the published test images; of a class


@pytest.mark.parametrize("name", sorted(shipped_encoders()))
def test_the_card_is_that_of_the_folder_and_the_table(name):
    path = shipped_encoders()[name]
    assert path.read_text(encoding="utf-8") == card_again(path), "run python -m results.ship"


def images_of(folder, count, split, noise, lens_prior):
    """Raw images and class indices of a simulation of its own."""
    how = {"noise": noise, "lens_prior": lens_prior}
    dl.simulation.simulate(folder, count, seed=SEED, split=split, **how)
    place = folder.with_name(folder.name + "_test") if split == "test" else folder
    paths = [sorted((place / name).glob("*.npy")) for name in CLASSES]
    images = np.stack([dl.data.read_image(path)[0] for each in paths for path in each])
    return images, np.repeat(np.arange(len(CLASSES)), count)


def macro_auc(labels, probabilities):
    """The macro AUC, and its standard error (DeLong et al. 1988) from one influence per image."""
    influence = np.zeros(len(labels))
    for index, score in enumerate(probabilities.T):
        positive = labels == index
        ours, theirs = score[positive], score[~positive]
        wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
        influence[positive] += (wins.mean(axis=1) - wins.mean()) / len(ours)
        influence[~positive] += (wins.mean(axis=0) - wins.mean()) / len(theirs)
    area = roc_auc_score(labels, probabilities, multi_class="ovr")
    return area, np.sqrt(np.square(influence).sum()) / len(CLASSES)


def probed(encoder, train, test):
    """The macro AUC, with its error, of a logistic regression on frozen features."""
    scaler = StandardScaler().fit(features := encoder.features(train[0]))
    model = LogisticRegression(max_iter=5000).fit(scaler.transform(features), train[1])
    probabilities = model.predict_proba(scaler.transform(encoder.features(test[0])))
    return macro_auc(test[1], probabilities)


@pytest.mark.parametrize("name", sorted(shipped_encoders()))
def test_the_probe_has_the_published_score(name, tmp_path):
    """The interval is widened by 1.96 standard errors of this test, which has fewer images.

    The draw of the labels and that of the published test images are not part of the widening.
    """
    head = card_head(shipped_encoders()[name])
    published = head["probe"]
    labels = published["labels"] // len(CLASSES)
    how = head["noise"], head["lens_prior"]
    train = images_of(tmp_path / "lenses", labels, "train", *how)
    test = images_of(tmp_path / "lenses", TEST_IMAGES, "test", *how)

    encoder = dl.load_encoder(name)
    area, error = probed(encoder, train, test)
    assert published["low"] - 1.96 * error <= area <= published["high"] + 1.96 * error

    untrained = dl.models.build_encoder("vit_nano", encoder.image_shape, patch_size=4)
    untrained.preprocessing = encoder.preprocessing
    area, error = probed(untrained, train, test)
    assert area + 1.96 * error < published["low"]
