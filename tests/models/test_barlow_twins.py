"""The twin network: its loss is taken on both views' projections, and it comes down."""

import keras
import pytest

from deeplens_tf.models import BarlowTwinsModel
from deeplens_tf.models.heads import batch_norm_mlp
from tests.models.pretexts import arrays, eager, make_batch, make_method, scores, settings
from tests.models.tiny import tiny_vit
from tests.test_losses_of_methods import naive_barlow_twins


@pytest.mark.parametrize("weight", [5e-3, 0.3])
def test_the_loss_is_the_naive_one_of_the_projections(weight):
    keras.utils.set_random_seed(0)
    model, batch = (
        BarlowTwinsModel(tiny_vit(), batch_norm_mlp((8, 5), "projector"), weight),
        make_batch(),
    )
    projections = arrays(model(batch, training=False)["projections"])
    expected = naive_barlow_twins(*projections, weight)
    assert scores(model, batch)["pretext_loss"] == pytest.approx(expected, rel=2e-2)


def test_the_configured_projector_has_three_layers_and_no_norm_at_its_end():
    model = make_method("twin")
    kernels = [w.shape for w in model.projector.trainable_weights if w.name == "kernel"]
    assert kernels == [(12, 6), (6, 6), (6, 6)]
    assert model.off_diagonal_weight == settings("twin").twin.off_diagonal_weight == 5e-3
    assert model.projector.layers[-1].name == "out"


@pytest.mark.slow
def test_it_learns():
    model, batch = eager(make_method("twin", 0), keras.optimizers.Adam(0.01)), make_batch()
    losses = [model.train_on_batch(batch, return_dict=True)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
