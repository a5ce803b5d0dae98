"""A part or a number that does not fit is refused when the model is made, not when it trains."""

import keras
import numpy as np
import pytest

from deeplens_tf.losses import barlow_twins_loss, byol_loss, contrastive_loss, simsiam_loss
from deeplens_tf.models import BarlowTwinsModel, BYOLModel, ContrastiveModel, SimSiamModel
from deeplens_tf.models.heads import batch_norm_mlp, linear_probe, projection_head
from tests.models.tiny import tiny_vit


def long_predictor(model):
    return model(tiny_vit(), batch_norm_mlp((8, 4), "projector"), batch_norm_mlp((8, 5), "p"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: long_predictor(BYOLModel), "as many numbers as the projector, 4. Received: 5"),
        (lambda: long_predictor(SimSiamModel), "as many numbers as the projector, 4. Received: 5"),
        (
            lambda: BarlowTwinsModel(tiny_vit(), projection_head(4), -1.0),
            "off_diagonal_weight must be at least 0. Received: off_diagonal_weight=-1.0",
        ),
        (
            lambda: ContrastiveModel(tiny_vit(), projection_head(4), "0.1"),
            "temperature must be positive. Received: temperature='0.1'",
        ),
        (lambda: ContrastiveModel("vit_nano", projection_head(4)), "Received: encoder='vit_nano'"),
        (lambda: ContrastiveModel(tiny_vit(), 4), "projector must be a Keras layer. Received: "),
        (
            lambda: BYOLModel(tiny_vit(), projection_head(4), projection_head(4), total_steps=0),
            "total_steps must be at least 1 or None. Received: total_steps=0",
        ),
        (
            lambda: BYOLModel(tiny_vit(), projection_head(4), None),
            "predictor must be a Keras layer",
        ),
        (
            lambda: SimSiamModel(tiny_vit(), projection_head(4), None),
            "predictor must be a Keras layer. Received: predictor=None",
        ),
        (
            lambda: ContrastiveModel(tiny_vit(), projection_head(4), probe="linear"),
            "probe must be a Keras layer or None. Received: probe='linear'",
        ),
        (lambda: batch_norm_mlp((), "projector"), "widths must contain that of the output"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_received(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("loss", [contrastive_loss, byol_loss, simsiam_loss, barlow_twins_loss])
@pytest.mark.parametrize("shape", [(1, 4), (8, 1), (7, 4)])
def test_views_of_two_shapes_are_refused_and_not_broadcast(loss, shape):
    with pytest.raises(ValueError, match="both views must have the same shape"):
        loss(keras.ops.ones((8, 4)), keras.ops.ones(shape))


@pytest.mark.parametrize(
    ("lacking", "probe"), [("view_2", None), ("label", linear_probe(3)), ("image", linear_probe(3))]
)
def test_a_batch_that_lacks_a_part_is_refused(lacking, probe):
    model = ContrastiveModel(tiny_vit(), projection_head(4), probe=probe)
    model.compile(optimizer="sgd", run_eagerly=True)
    images = np.zeros((2, *model.encoder.image_shape), "float32")
    batch = {"view_1": images, "view_2": images, "image": images, "label": np.zeros(2, "int64")}
    del batch[lacking]
    with pytest.raises(ValueError, match=f"a batch must contain {lacking}"):
        model.train_on_batch(batch)
