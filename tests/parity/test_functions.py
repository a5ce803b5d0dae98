"""GELU, rotation, losses, heads and dropout, on arrays that the reference drew."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.augment import rotate
from deeplens_tf.losses import byol_loss, contrastive_loss
from deeplens_tf.models import ContrastiveModel
from deeplens_tf.models.heads import projection_head
from deeplens_tf.models.transformer_block import TransformerBlock
from parity.exchange import below
from tests.models.tiny import tiny_vit
from tests.parity.ours import classification_task, regression_task

FLOAT32 = 1e-6


def cases(arrays):
    return {
        case: below(arrays, case)
        for case in sorted({name.split("/")[0] for name in arrays if "/" in name})
    }


def with_gradient(function, *inputs):
    """Return a function's value and its gradient for each input."""
    inputs = [tf.constant(part) for part in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
        total = tf.reduce_sum(outputs)
    return outputs.numpy(), [part.numpy() for part in tape.gradient(total, inputs)]


def test_gelu(reference, differences):
    ours, theirs = {}, {}
    for case, arrays in cases(reference("gelu")).items():
        outputs, (gradient,) = with_gradient(keras.activations.gelu, arrays["inputs"])
        ours |= {f"forward/{case}": outputs, f"gradient/{case}": gradient}
        theirs |= {f"forward/{case}": arrays["outputs"], f"gradient/{case}": arrays["gradient"]}
    hold_both(differences, "GELU, Addons'", ours, theirs, FLOAT32)


def test_rotation(reference, differences):
    # The two stacks' cosines may differ in the last bit: 6e-8 of 64 pixels moves the point that
    # is read by 4e-6 pixels, and neighbouring pixels of these images differ by up to 1.
    tolerance = 1e-5
    arrays = reference("rotation")
    angles = arrays["angles"]
    turned, gradients, addons, keras_2, theirs = {}, {}, {}, {}, {}
    for case, values in cases(arrays).items():
        weigh = values["weights"]
        _, (gradients[case],) = with_gradient(
            lambda images, weigh=weigh: rotate(images, angles) * weigh, values["images"]
        )
        turned[case] = rotate(values["images"], angles).numpy()
        addons[case], keras_2[case] = values["addons"], values["keras"]
        theirs[case] = values["gradient"]
    differences.hold("rotation, Addons'", "forward", turned, addons, tolerance)
    differences.hold("rotation, Addons'", "gradient", gradients, theirs, tolerance)
    # RandomRotation's angle is a product of float32, half a turn being 1.4e-7 too large or small.
    differences.hold("rotation, RandomRotation's", "forward", turned, keras_2, 3e-5)


def test_info_nce(reference, differences):
    ours, theirs = {}, {}
    for case, arrays in cases(reference("losses")).items():
        temperature = float(arrays["temperature"])
        losses, _ = with_gradient(
            lambda a, b, t=temperature: contrastive_loss(a, b, t), arrays["first"], arrays["second"]
        )
        _, gradient = with_gradient(
            lambda a, b, t=temperature: tf.reduce_mean(contrastive_loss(a, b, t)),
            arrays["first"],
            arrays["second"],
        )
        ours |= {f"forward/{case}": losses, f"gradient/{case}": np.stack(gradient)}
        theirs |= {
            f"forward/{case}": arrays["info_nce"],
            f"gradient/{case}": arrays["info_nce_gradient"],
        }
    hold_both(differences, "symmetric InfoNCE", ours, theirs, FLOAT32)


def test_byol_loss(reference, differences):
    ours, theirs = {}, {}
    for case, arrays in cases(reference("losses")).items():
        loss, gradient = with_gradient(byol_loss, arrays["first"], arrays["second"])
        ours |= {f"forward/{case}": loss, f"gradient/{case}": np.stack(gradient)}
        theirs |= {f"forward/{case}": arrays["byol"], f"gradient/{case}": arrays["byol_gradient"]}
    hold_both(differences, "BYOL loss", ours, theirs, FLOAT32)


def test_contrastive_accuracy(reference, differences):
    ours, theirs = [], []
    for arrays in cases(reference("accuracy")).values():
        model = ContrastiveModel(tiny_vit(), projection_head(4), 0.1)
        model.pretext_loss({}, {"projections": (arrays["first"], arrays["second"])})
        ours.append(float(model.accuracy_tracker.result()))
        theirs.append(arrays["accuracy"])
    assert all(0.1 < accuracy < 0.9 for accuracy in theirs)
    differences.hold("contrastive accuracy", "both directions", ours, theirs, FLOAT32)


def test_dropout(reference, differences):
    """Of 6,000 draws the mean spread is known to 0.3 %; leaving one dropout out makes 5 %."""
    arrays, at_once, draws = reference("dropout"), 2_000, 6_000
    tokens = np.repeat(arrays["tokens"][None], at_once, axis=0)
    keras.utils.set_random_seed(0)
    block = original_block(tokens.shape, below(arrays, "weights"))
    outputs = [block(tokens, training=True).numpy() for _ in range(draws // at_once)]
    spread = np.concatenate(outputs).std(axis=0, dtype=np.float64)
    gap = abs(spread.mean() / arrays["spread"].mean() - 1)
    differences.hold_figure("dropout in a block", "mean spread", spread.size, gap, 1e-2)


def original_block(shape, weights):
    """Return a block of the original's, of another width, with the reference's weights."""
    block = TransformerBlock(heads=12, mlp_width=3072, dropout=0.1, name="block")
    block.build(shape)
    variables = {v.path.removeprefix("block/"): v for v in block.weights}
    variables = {path: v for path, v in variables.items() if "seed_generator" not in path}
    assert set(variables) == set(weights)
    for path, variable in variables.items():
        variable.assign(weights[path].reshape(variable.shape))
    return block


@pytest.mark.parametrize("name", ["class", "mass"])
def test_head(name, reference, differences):
    piece = {"class": "class probabilities", "mass": "log10 mass"}[name]
    ours, theirs = {}, {}
    for case, arrays in cases(reference("heads")).items():
        expected = below(arrays, name)
        found = head_step(name, arrays, expected)
        ours |= {f"{key}/{case}": value for key, value in found.items()}
        theirs |= {f"{key}/{case}": expected[key] for key in found}
    for compared in ("outputs", "loss", "gradient"):
        differences.hold(
            piece, compared, *(starting(part, compared) for part in (ours, theirs)), FLOAT32
        )


def head_step(name, arrays, weights):
    """Return a head's outputs, its loss and gradients as fine-tuning takes them.

    Head, targets and loss are those of the task, the weights the reference's.
    """
    task = {"class": classification_task, "mass": regression_task}[name]()
    features = tf.constant(arrays["features"])
    model = keras.Sequential([keras.Input(features.shape[1:]), task.head])
    model.compile(loss=task.loss)
    model.set_weights([weights["kernel"], weights["bias"]])
    with tf.GradientTape() as tape:
        outputs = model(features, training=True)
        loss = model.compute_loss(x=features, y=targets(name, task, arrays), y_pred=outputs)
    kernel, bias = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return {"outputs": outputs, "loss": loss, "kernel_gradient": kernel, "bias_gradient": bias}


def targets(name, task, arrays):
    """Return the targets that the task makes of examples with these labels or masses."""
    if name == "class":
        return task.target("train")({"label": arrays["labels"].argmax(axis=1)})
    return task.target("train")({"mass_ev": 10.0 ** np.float64(arrays["masses"][:, 0])})


def hold_both(differences, piece, ours, theirs, tolerance):
    for compared in ("forward", "gradient"):
        pair = (starting(part, compared) for part in (ours, theirs))
        differences.hold(piece, compared, *pair, tolerance)


def starting(arrays, word):
    """Return the arrays whose quantity has this word, each on its own scale."""
    return {
        f"{name}/": array for name, array in arrays.items() if word in name.split("/")[0].split("_")
    }
