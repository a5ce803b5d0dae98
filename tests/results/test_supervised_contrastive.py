"""The supervised contrastive loss of the study, by naive loops from eq. 2 of arXiv:2004.11362."""

import numpy as np
import pytest

import deeplens_tf as dl


def naive_loss(projections, labels, temperature):
    unit = projections / np.linalg.norm(projections, axis=1, keepdims=True)
    losses = []
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        scores = {j: np.exp(unit[i] @ unit[j] / temperature) for j in others}
        positives = [j for j in others if labels[j] == labels[i]]
        logs = [np.log(scores[j] / sum(scores.values())) for j in positives]
        losses.append(-sum(logs) / len(positives))
    return np.array(losses)


@pytest.mark.usefixtures("forgotten_names")
def test_the_loss_is_that_of_naive_loops():
    # Imported here, since the module registers its method.
    from results.supervised_contrastive import supervised_contrastive_loss

    generator = np.random.default_rng(0)
    projections = generator.normal(size=(12, 5)).astype("float32")
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 1, 2])
    found = np.array(supervised_contrastive_loss(projections, labels, 0.1))
    assert found == pytest.approx(naive_loss(projections.astype(float), labels, 0.1), rel=1e-5)


@pytest.mark.usefixtures("forgotten_names")
def test_the_model_minimises_it_and_its_plateau_is_that_of_equal_projections():
    from results.supervised_contrastive import SupervisedContrastiveModel

    encoder = dl.models.build_encoder("vit_nano", (16, 16, 1), patch_size=8)
    model = SupervisedContrastiveModel(encoder, dl.models.projection_head(8), temperature=0.1)
    labels = np.array([0, 1, 0, 1, 1])
    different = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    for views in (different, np.ones_like(different)):
        found = float(model.pretext_loss({"label": labels}, {"projections": tuple(views)}))
        expected = naive_loss(np.concatenate(views).astype(float), np.tile(labels, 2), 0.1).mean()
        assert found == pytest.approx(expected, rel=1e-5)
    assert found == pytest.approx(model.plateau_loss(5), rel=1e-5)
