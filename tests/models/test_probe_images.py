"""The images whose features train the online probe: those of view 1, or the image itself."""

import keras
import numpy as np
import pytest

from tests.models.pretexts import CLASSES, make_batch, make_method

RATE = 0.5


def compiled(method, probe_on):
    model = make_method(method)
    sgd = keras.optimizers.SGD
    model.compile(sgd(0.1), probe_optimizer=sgd(RATE), probe_on=probe_on, run_eagerly=True)
    return model


def probe_step(model, features, labels):
    """Return the probe's kernel after a step of gradient descent on a softmax regression."""
    kernel, bias = (np.asarray(weight, "float64") for weight in model.probe.weights)
    logits = np.asarray(features, "float64") @ kernel + bias
    odds = np.exp(logits)
    errors = odds / odds.sum(1, keepdims=True) - np.eye(CLASSES)[labels]
    return kernel - RATE * np.asarray(features, "float64").T @ errors / len(labels)


@pytest.mark.parametrize("method", ["contrastive", "byol", "inpainting"])
@pytest.mark.parametrize("probe_on", ["view_1", "image"])
def test_a_step_trains_the_probe_on_the_chosen_features(method, probe_on):
    model, batch = compiled(method, probe_on), make_batch()
    seen = model(batch, training=True)["features"][0]
    image = model.encoder(batch["image"], training=False)
    assert np.abs(seen - image).max() > 0.01
    expected = probe_step(model, seen if probe_on == "view_1" else image, batch["label"])
    model.train_on_batch(batch)
    np.testing.assert_allclose(model.probe.kernel, expected, atol=1e-5)


@pytest.mark.parametrize("probe_on, passes", [("view_1", 2), ("image", 3)])
def test_a_view_takes_no_pass_more(probe_on, passes, monkeypatch):
    model, calls = compiled("contrastive", probe_on), []
    real = type(model.encoder).call
    monkeypatch.setattr(
        type(model.encoder),
        "call",
        lambda self, *given, **options: calls.append(1) or real(self, *given, **options),
    )
    model.train_on_batch(make_batch())
    assert len(calls) == passes


def test_a_validation_scores_the_probe_on_the_image():
    batch = make_batch()
    of_view, of_image = (
        compiled("contrastive", on).test_on_batch(batch, return_dict=True)["probe_loss"]
        for on in ("view_1", "image")
    )
    others = {**batch, "view_1": batch["view_1"][::-1]}
    model = compiled("contrastive", "view_1")
    assert of_view == of_image == model.test_on_batch(others, return_dict=True)["probe_loss"]


def test_a_file_keeps_the_choice(tmp_path):
    model = compiled("contrastive", "image")
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").probe_on == "image"


def test_a_file_of_an_earlier_version_was_trained_on_the_image():
    model = compiled("contrastive", "view_1")
    config = model.get_compile_config()
    assert config.pop("probe_on") == "view_1"
    model.compile_from_config(config)
    assert model.probe_on == "image"


def test_a_file_of_a_model_that_is_not_compiled_stays_so(tmp_path):
    make_method("contrastive").save(tmp_path / "model.keras")
    assert not keras.saving.load_model(tmp_path / "model.keras").compiled


def test_other_images_are_refused():
    with pytest.raises(ValueError, match=r"probe_on must be view_1 or image\. Received: .*view_2"):
        make_method("contrastive").compile(probe_on="view_2")
