"""SimSiam: crossed, averaged, and still where the gradient must not go."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.pretexts import arrays, eager, make_batch, make_method, scores
from tests.models.tiny import randomise
from tests.test_losses_of_methods import naive_mean_cosine


def test_the_loss_is_the_mean_of_both_crossings():
    model, batch = randomise(make_method("simsiam")), make_batch()
    outputs = model(batch, training=False)
    (p1, p2), (z1, z2) = arrays(outputs["predictions"]), arrays(outputs["projections"])
    crossings = [-naive_mean_cosine(p, z) for p, z in ((p1, z2), (p2, z1))]
    assert abs(crossings[0] - crossings[1]) > 1e-6
    assert scores(model, batch)["pretext_loss"] == pytest.approx(np.mean(crossings), abs=1e-5)


def test_the_gradient_comes_through_the_predictor_only():
    model, batch = make_method("simsiam", 0), make_batch()
    # A predictor that says the same of everything lets no gradient through.
    model.predictor.layers[0].kernel.assign(np.zeros((6, 4)))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=batch, y_pred=model(batch, training=True))
    for gradient in tape.gradient(loss, model.projector.trainable_variables):
        np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_the_configured_heads_are_the_papers_in_small():
    model = make_method("simsiam")
    kernels = [
        [w.shape for w in head.trainable_weights if w.name == "kernel"]
        for head in (model.projector, model.predictor)
    ]
    assert kernels == [[(12, 6), (6, 6), (6, 6)], [(6, 4), (4, 6)]]
    assert model.projector.layers[-1].name == "norm_out"
    assert model.predictor.layers[-1].name == "out"


@pytest.mark.slow
def test_it_learns():
    model, batch = eager(make_method("simsiam", 0), keras.optimizers.Adam(0.01)), make_batch()
    batch["view_2"] = batch["view_1"]
    losses = [model.train_on_batch(batch, return_dict=True)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
