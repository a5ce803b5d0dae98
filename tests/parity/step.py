"""One step of our model with the given weights, beside what the original's stack made of it."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.losses import byol_loss, contrastive_loss
from deeplens_tf.models import DownstreamModel
from parity.exchange import below
from tests.parity.ours import BATCH, MODELS, trainable_of, variables_of

PIECES = {
    "vit": "ViT-B/32, contrastive",
    "resnet": "ResNet50, contrastive",
    "byol": "ResNet50, BYOL",
    "regression": "ResNet50, regression",
}


@dataclass(frozen=True)
class Step:
    """What our model with the given weights came to, and what the original's did."""

    name: str
    precision: str
    initial: dict
    """Root mean square of each variable, before the given weights replaced it."""
    features: np.ndarray
    losses: dict
    gradients: dict
    probe_gradients: dict
    before: dict
    """Moving statistics before the forward passes of the step."""
    after: dict
    fused: dict
    """Of the backbone's moving variances, by path: numbers averaged over, share kept a batch."""
    theirs: Any

    @property
    def piece(self):
        return PIECES[self.name]

    def as_fused(self, statistics):
        """Return what Keras 2's fused BatchNorm keeps: n/(n-1) times the variance of n numbers."""
        batches, kept = 1 if self.name == "regression" else 2, {}
        for path, (n, momentum) in self.fused.items():
            old = momentum**batches * self.before[path]
            kept[path] = old + (statistics[path] - old) * n / (n - 1)
        return {**statistics, **kept}


def take(name, precision, arrays, theirs):
    """Build a model in this precision and take one step with it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return _take(name, precision, arrays, theirs)
    finally:
        keras.config.set_dtype_policy(before)


def _take(name, precision, arrays, theirs):
    model = MODELS[name]()
    initial = {path: rms(variable.numpy()) for path, variable in variables_of(model).items()}
    with_weights(model, below(arrays, "weights"))
    batch = below(arrays, "batch")
    before, features = moving(model), model.encoder(batch["1"], training=False).numpy()
    losses, gradients = _losses_and_gradients(model, batch)
    probe = {part: gradients.pop(f"probe/{part}", None) for part in ("kernel", "bias")}
    parts = (initial, features, losses, gradients, probe, before, moving(model), fused(model))
    return Step(name, precision, *parts, theirs)


def rms(array):
    return np.sqrt(np.mean(np.float64(array) ** 2))


def with_weights(model, weights):
    variables = variables_of(model)
    assert set(weights) == set(variables)
    for path, value in weights.items():
        variables[path].assign(value)
    return model


def moving(model):
    return {path: v.numpy() for path, v in variables_of(model).items() if "/moving_" in path}


def fused(model):
    """Return, for each moving variance of images, over how many numbers and how it is taken."""
    return {
        f"{part}/{layer.name}/moving_variance": (
            BATCH * layer.output.shape[1] * layer.output.shape[2],
            layer.momentum,
        )
        for part in ("encoder", "target_encoder")
        if hasattr(getattr(model, part, None), "backbone")
        for layer in getattr(model, part).backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }


def _losses_and_gradients(model, batch):
    """Return the losses and their gradient for every trained variable, as `fit` takes them."""
    trained = trainable_of(model)
    with tf.GradientTape() as tape:
        if isinstance(model, DownstreamModel):
            losses = _supervised(model, batch)
        else:
            losses = _self_supervised(model, batch)
        loss = losses.pop("total")
    found = tape.gradient(loss, [variable.value for variable in trained.values()])
    return losses, {name: part.numpy() for name, part in zip(trained, found, strict=True)}


def _supervised(model, batch):
    images, masses = batch["1"], batch["mass"][:, None]
    predicted = model(images, training=True)
    total = model.compute_loss(x=images, y=masses, y_pred=predicted)
    return {"total": total, "each": model.loss(masses, predicted).numpy(), "mean": total.numpy()}


def _self_supervised(model, batch):
    views = {"view_1": batch["1"], "view_2": batch["2"]}
    x = {**views, "image": batch["1"], "label": batch["label"]}
    model.probe_on = "image"  # as the original_* configurations
    outputs = model(x, training=True)
    losses = {"total": model.compute_loss(x=x, y_pred=outputs)}
    losses |= {"each": _of_each(model, outputs), "mean": model.pretext_loss_tracker.result()}
    if model.probe is not None:
        losses["probe"] = model.probe_loss_tracker.result()
        losses["accuracy"] = model.accuracy_tracker.result()
    np.testing.assert_allclose(losses["total"], losses["mean"] + losses.get("probe", 0), rtol=1e-6)
    return {name: loss if name == "total" else np.asarray(loss) for name, loss in losses.items()}


def _of_each(model, outputs):
    """Return the pretext's loss of each example, the loss of BYOL in both directions."""
    if "targets" not in outputs:
        return contrastive_loss(*outputs["projections"], model.temperature)
    pairs = zip(outputs["predictions"], reversed(outputs["targets"]), strict=True)
    rows = ((p[i : i + 1], z[i : i + 1]) for p, z in pairs for i in range(BATCH))
    return np.stack([byol_loss(p, z).numpy() for p, z in rows])
