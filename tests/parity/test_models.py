"""The original's networks with our weights: features, gradients, statistics, the probe's step."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.models.heads import linear_probe
from deeplens_tf.training.optimizers import with_probe_rate
from parity.exchange import below
from tests.parity.differences import largest
from tests.parity.ours import BATCH, MODELS, trainable_of, variables_of

pytestmark = pytest.mark.slow

# Our losses and projections are float32 whatever the policy, which leaves a few 1e-6 in the
# gradients of networks that otherwise run in float64.
FLOAT64 = 5e-6
# float32 rounds at 6e-8, and a hundred layers hand their rounding on; a BatchNorm whose channel
# hardly varies divides by next to nothing. So the scale is how far Keras 2's own float32 is from
# its float64, the whole gradient taken as one vector, and two such errors may meet.
TIMES_KERAS_2S_ROUNDING = 3
PIECES = {
    "vit": "ViT-B/32, contrastive",
    "resnet": "ResNet50, contrastive",
    "byol": "ResNet50, BYOL",
}


@dataclass(frozen=True)
class Found:
    """What our model with the given weights came to, and what the original's did."""

    name: str
    precision: str
    features: np.ndarray
    gradients: dict
    probe_gradients: dict
    statistics: dict
    """Moving statistics after the forward passes of one step."""
    fused_variances: dict
    theirs: Any

    @property
    def piece(self):
        return PIECES[self.name]


@pytest.fixture(scope="module")
def found(request, given, reference):
    """Build one model and take one step; the tests that follow compare parts of it."""
    name, precision = request.param
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield find(name, precision, given(name), reference(f"{name}_{precision}"))
    finally:
        keras.config.set_dtype_policy(before)


def find(name, precision, arrays, theirs):
    model, batch = with_weights(MODELS[name](), arrays), as_batch(below(arrays, "batch"))
    features, before = model.encoder(batch["image"], training=False).numpy(), moving(model)
    gradients = gradients_of(model, batch)
    after = moving(model)
    probe = {part: gradients.pop(f"probe/{part}", None) for part in ("kernel", "bias")}
    fused = {
        path: fused_variance(model, path, before[path], after[path])
        for path in after
        if name == "resnet" and "/top/" not in path and "variance" in path
    }
    return Found(name, precision, features, gradients, probe, after, fused, theirs)


def with_weights(model, arrays):
    variables, weights = variables_of(model), below(arrays, "weights")
    assert set(weights) == set(variables)
    for path, value in weights.items():
        variables[path].assign(value)
    return model


def as_batch(arrays):
    return {
        "view_1": arrays["1"],
        "view_2": arrays["2"],
        "image": arrays["1"],
        "label": arrays["label"],
    }


def gradients_of(model, batch):
    """Return the gradient of the pretext's and the probe's loss for every trained variable."""
    trained = trainable_of(model)
    with tf.GradientTape() as tape:
        outputs = model(batch, training=True)
        loss = model.compute_loss(x=batch, y_pred=outputs)
    found = tape.gradient(loss, [variable.value for variable in trained.values()])
    return {name: part.numpy() for name, part in zip(trained, found, strict=True)}


def of(*names, precisions=("float32", "float64")):
    """Run a test on these models in these precisions, each model being built once."""
    pairs = [(name, precision) for name in names for precision in precisions]
    return pytest.mark.parametrize("found", pairs, indirect=True, ids=map("-".join, pairs))


@of("vit", "resnet")
def test_features(found, differences):
    # A hundred layers in float32 leave 1.5e-6 between two orders of the same additions.
    tolerance = {"float32": 5e-6, "float64": 1e-6}[found.precision]
    kind = f"features, {found.precision}"
    differences.hold(found.piece, kind, found.features, found.theirs["features"], tolerance)


@of(*MODELS, precisions=["float64"])
def test_gradients(found, differences):
    theirs = below(found.theirs, "gradient")
    kind = "gradients by layer, float64"
    differences.hold(found.piece, kind, found.gradients, theirs, FLOAT64)


@of(*MODELS, precisions=["float32"])
def test_gradients_in_float32(found, reference, differences):
    theirs = below(found.theirs, "gradient")
    truth = below(reference(f"{found.name}_float64"), "gradient")
    count, rounding = sum(part.size for part in theirs.values()), distance(theirs, truth)
    kind = "gradient as one vector, float32"
    differences.note(found.piece, f"{kind}: Keras 2's own rounding", count, rounding, "for scale")
    gap = distance(found.gradients, theirs)
    differences.hold_figure(found.piece, kind, count, gap, TIMES_KERAS_2S_ROUNDING * rounding)


def distance(ours, theirs):
    """Return the length of the difference over the length, all arrays as one vector."""
    gap = sum(((np.float64(ours[k]).ravel() - theirs[k].ravel()) ** 2).sum() for k in theirs)
    return float(np.sqrt(gap / sum((np.float64(part) ** 2).sum() for part in theirs.values())))


@of("vit", "resnet")
def test_moving_statistics(found, differences):
    ours, theirs = found.statistics, below(found.theirs, "moved")
    # Keras 2 sends float32 images through its fused kernel, which keeps n/(n-1) times the
    # variance that it normalised by; everything else, and Keras 3, keeps that variance.
    if found.precision == "float32" and found.fused_variances:
        fused = {path: theirs[path] for path in found.fused_variances}
        gap = largest({path: ours[path] for path in fused}, fused)
        count = sum(part.size for part in fused.values())
        differences.note(found.piece, "moving variance after images, n/(n-1)", count, gap)
        ours = ours | found.fused_variances
    # Of numbers that are themselves apart by the rounding of what came before them.
    kind = f"moving statistics, {found.precision}"
    differences.hold(found.piece, kind, ours, theirs, 1e-5)


def moving(model):
    return {path: v.numpy() for path, v in variables_of(model).items() if "/moving_" in path}


def fused_variance(model, path, before, after):
    """Return what Keras 2's fused BatchNorm would have kept after two batches."""
    layer = model.encoder.backbone.get_layer(path.split("/")[1])
    n = BATCH * layer.output.shape[1] * layer.output.shape[2]
    kept = layer.momentum**2 * before
    return kept + (after - kept) * n / (n - 1)


@of("vit")
def test_probe_step(found, given, differences):
    expected, gradients = below(found.theirs, "probe"), found.probe_gradients
    kind = f"gradient, {found.precision}"
    differences.hold("linear probe", kind, gradients, below(expected, "gradient"), 5e-6)
    weights = below(below(given("vit"), "weights"), "probe")
    probe = linear_probe(3)
    probe.build((None, len(weights["kernel"])))
    probe.set_weights([weights["kernel"], weights["bias"]])
    optimizer = with_probe_rate(keras.optimizers.SGD(), 1e-3)
    optimizer.apply([gradients["kernel"], gradients["bias"]], [probe.kernel, probe.bias])
    stepped = {"kernel": probe.kernel.numpy(), "bias": probe.bias.numpy()}
    kind = f"step, {found.precision}"
    differences.hold("linear probe", kind, stepped, below(expected, "stepped"), 5e-6)
