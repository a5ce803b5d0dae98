"""Weight decay shrinks kernels only, also after saving, loading and copying."""

import keras
import numpy as np
import pytest

from deeplens_tf.models import SelectiveAdamW, SelectiveSGD, WarmUpSchedule
from tests.models.tiny import tiny_original

RATE, DECAY = 0.01, 0.5
OPTIMIZERS = {
    "adamw": lambda: SelectiveAdamW(RATE, DECAY, global_clipnorm=1.0),
    "adamw with a schedule": lambda: SelectiveAdamW(WarmUpSchedule(RATE), DECAY),
    "sgd": lambda: SelectiveSGD(RATE, DECAY, momentum=0.9),
}


def loaded(model, path):
    model.optimizer.build(model.trainable_variables)
    model.save(path)
    return keras.saving.load_model(path)


def copied(model, path):
    optimizer = model.optimizer
    model.compile(type(optimizer).from_config(optimizer.get_config()))
    return model


@pytest.mark.parametrize("way", [lambda model, path: model, loaded, copied])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_without_gradient_shrinks_kernels_and_spares_all_else(name, way, tmp_path):
    model = tiny_original()
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape, "float32"))
    model.compile(OPTIMIZERS[name](), "mse")
    model = way(model, tmp_path / "model.keras")
    variables = model.trainable_variables
    model.optimizer.apply([np.zeros(each.shape, "float32") for each in variables], variables)
    kernels = [each for each in variables if each.path.endswith("kernel")]
    assert len(kernels) == 1 + 2 * 6 + 3  # the patches', six a block, the top's
    assert len(variables) > 2 * len(kernels)
    for variable in variables:
        expected = 1 - RATE * DECAY if variable.path.endswith("kernel") else 1
        np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=variable.path)


def test_sgd_decays_apart_from_its_momentum():
    """Decoupled: w <- w (1 - rate decay) + m with m <- momentum m - rate gradient, in float64."""
    optimizer = SelectiveSGD(RATE, DECAY, momentum=0.9)
    kernel = keras.Variable(np.ones(1, "float32"), name="kernel")
    weight, moved = 1.0, 0.0
    for gradient in (3.0, -1.0, 2.0):
        optimizer.apply([np.array([gradient], "float32")], [kernel])
        moved = 0.9 * moved - RATE * gradient
        weight = weight * (1 - RATE * DECAY) + moved
    np.testing.assert_allclose(kernel, weight, rtol=1e-6)


@pytest.mark.parametrize(
    ("own", "kerass"),
    [
        (SelectiveAdamW(RATE, DECAY), keras.optimizers.AdamW(RATE, DECAY)),
        (SelectiveSGD(RATE), keras.optimizers.SGD(RATE)),
        (SelectiveSGD(RATE, momentum=0.5), keras.optimizers.SGD(RATE, momentum=0.5)),
    ],
)
def test_variables_have_the_names_and_the_order_of_kerass(own, kerass):
    """By which checkpoints of earlier versions are restored."""
    variables = [keras.Variable(np.ones(2, "float32"), name=name) for name in ("kernel", "bias")]
    for optimizer in (own, kerass):
        optimizer.build(variables)
    names = [
        [f"{each.path.split('/')[0].rstrip('_0123456789')}/{each.name}" for each in it.variables]
        for it in (own, kerass)
    ]
    assert names[0] == names[1]


def test_the_excluded_names_can_be_chosen_and_are_stored():
    optimizer = SelectiveSGD(RATE, DECAY, not_decayed=["kernel"])
    restored = SelectiveSGD.from_config(optimizer.get_config())
    assert restored.not_decayed == ("kernel",)
    kernel, bias = (keras.Variable(np.ones(1, "float32"), name=n) for n in ("kernel", "bias"))
    restored.apply([np.zeros(1, "float32")] * 2, [kernel, bias])
    np.testing.assert_allclose([float(kernel[0]), float(bias[0])], [1, 1 - RATE * DECAY])


def test_variables_that_are_not_excluded_by_name_are_refused():
    kernel = keras.Variable(np.ones(1, "float32"), name="kernel")
    with pytest.raises(ValueError, match=r"var_list must be left out.*Received: var_list="):
        SelectiveAdamW(RATE, DECAY).exclude_from_weight_decay(var_list=[kernel])
