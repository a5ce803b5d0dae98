"""Self-supervised models load from their files, which may come from strangers."""

import json
import re
import resource

import keras
import numpy as np
import pytest

import deeplens_tf as dl
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.models import ContrastiveModel, MassHead, projection_head
from deeplens_tf.saving.allow_list import KERAS, OURS, check_recipe
from deeplens_tf.saving.keras_files import load_fine_tuned
from deeplens_tf.saving.model_parts import NETWORK_NAMES
from tests.hostile.models import members_of
from tests.hostile.pretexts import BYOL, INPAINTING
from tests.models.pretexts import METHODS, make_batch, make_method
from tests.models.tiny import randomise, tiny_images, tiny_vit
from tests.saving.test_earlier_files import EARLIER

ALLOWED_MEGABYTES = 400


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The members of a good file of each of two methods."""
    folder, found = tmp_path_factory.mktemp("good"), {}
    for method in ("byol", "inpainting"):
        make_method(method).save(folder / f"{method}.keras")
        found[method] = members_of(folder / f"{method}.keras")
    return found


def recipe_of(model):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def assert_same_weights(model, other):
    assert [tuple(w.shape) for w in model.weights] == [tuple(w.shape) for w in other.weights]
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_loads_with_every_weight(method, compiled, tmp_path):
    model = randomise(make_method(method, dropout=0.1))
    if compiled:
        model.compile("adam", run_eagerly=True)
        model.train_on_batch(make_batch())
    model.save(tmp_path / "m.keras")
    loaded = dl.load_model(tmp_path / "m.keras")
    assert type(loaded) is type(model)
    assert_same_weights(model, loaded)
    # As after training, labels and views give the same loss.
    for each in (model, loaded):
        each.compile("sgd", run_eagerly=True)
    scores = [each.test_on_batch(make_batch(), return_dict=True) for each in (model, loaded)]
    assert scores[0] == scores[1]


def test_byols_target_and_its_number_of_updates_are_kept(tmp_path):
    model = make_method("byol")
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    for seed in range(3):
        model.train_on_batch(make_batch(seed=seed))
    model.save(tmp_path / "m.keras")
    loaded = dl.load_model(tmp_path / "m.keras")
    assert int(loaded.updates) == int(model.updates) == 3
    moved = 0
    for online, target, stored in zip(
        loaded.projector.weights,
        loaded.target_projector.weights,
        model.target_projector.weights,
        strict=True,
    ):
        np.testing.assert_array_equal(target, stored)
        moved += np.abs(online.numpy() - target.numpy()).max()
    assert moved > 0


@pytest.mark.parametrize("method", METHODS)
def test_load_encoder_gives_the_encoder(method, tmp_path):
    model = make_method(method)
    model.save(tmp_path / "m.keras")
    encoder = dl.load_encoder(tmp_path / "m.keras")
    np.testing.assert_array_equal(encoder(tiny_images()), model.encoder(tiny_images()))


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_mixed_precision_loads(precision, tmp_path):
    keras.config.set_dtype_policy(precision)
    try:
        model = make_method("byol")
        model.save(tmp_path / "m.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    loaded = dl.load_model(tmp_path / "m.keras")
    assert_same_weights(model, loaded)
    assert loaded.encoder.dtype_policy.name == precision


def test_a_model_without_a_probe_and_with_a_plain_layer_loads(tmp_path):
    model = ContrastiveModel(tiny_vit(), keras.layers.Dense(4, name="projector"))
    model.save(tmp_path / "m.keras")
    loaded = dl.load_model(tmp_path / "m.keras")
    assert loaded.probe is None
    assert_same_weights(model, loaded)


@pytest.mark.parametrize("name", ["contrastive", "byol", "twin", "simsiam", "inpainting"])
def test_a_file_of_an_earlier_version_loads(name):
    path = EARLIER / f"{name}.keras"
    assert_same_weights(keras.saving.load_model(path, compile=False), dl.load_model(path))


def test_a_self_supervised_model_is_no_fine_tuned_one(tmp_path):
    make_method("twin").save(tmp_path / "m.keras")
    with pytest.raises(RequestError, match="holds a BarlowTwinsModel, not a fine-tuned model"):
        load_fine_tuned(tmp_path / "m.keras")


@pytest.mark.parametrize("name", ["vit_nano_same_lens", "hf://owner/name"])
def test_the_name_of_an_encoder_is_no_fine_tuned_model(name):
    with pytest.raises(RequestError, match="names an encoder, which predicts nothing: finetune"):
        load_fine_tuned(name)


def test_a_projector_of_other_layers_is_refused(tmp_path):
    projector = keras.Sequential([keras.layers.Dense(4), keras.layers.Dropout(0.1)])
    ContrastiveModel(tiny_vit(), projector).save(tmp_path / "m.keras")
    with pytest.raises(RequestError, match="requests Dropout, which no model of deeplens_tf has"):
        dl.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize("method", METHODS)
def test_a_model_requests_what_it_has_and_a_file_of_half_as_much_is_refused(method):
    model = make_method(method)
    check_recipe(recipe_of(model), 2 * model.count_params())
    with pytest.raises(UnusableFile, match=r"describes a network of .* but the file stores only"):
        check_recipe(recipe_of(model), int(0.95 * 2 * model.count_params()))


@pytest.mark.parametrize(
    ("method", "name"),
    [*(("byol", name) for name in BYOL), *(("inpainting", name) for name in INPAINTING)],
)
def test_a_hostile_file_is_refused_before_it_takes_memory(method, name, good, tmp_path):
    change, line = {"byol": BYOL, "inpainting": INPAINTING}[method][name]
    path = tmp_path / "m.keras"
    path.write_bytes(change(good[method]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (dl.load_model, dl.load_encoder):
        with pytest.raises(RequestError, match=re.escape(line)) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: not a model that can be loaded safely: ")
        assert "\n" not in str(caught.value)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken < ALLOWED_MEGABYTES * 1024


def test_the_structure_is_checked_before_anything_is_built(monkeypatch):
    recipe = recipe_of(make_method("byol"))
    recipe["config"]["projector"]["config"]["layers"].append(recipe["config"]["predictor"])
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", lambda *_, **__: pytest.fail())
    with pytest.raises(UnusableFile, match="requests a projector with layers other than"):
        check_recipe(json.loads(json.dumps(recipe)), 10**12)


def test_the_check_copies_no_target(monkeypatch):
    """Copying would give every variable of a network of any size its values."""
    recipe = recipe_of(make_method("byol"))
    monkeypatch.setattr(
        "deeplens_tf.models.BYOLModel.copy_online_to_target", lambda _: pytest.fail()
    )
    check_recipe(recipe, 10**9)


def test_every_class_that_holds_weights_has_its_places():
    """What a recipe may name anywhere is without weights: initial values and precisions."""
    layers = {name for module, name in KERAS if "initializers" not in module} - {"DTypePolicy"}
    assert layers | OURS == NETWORK_NAMES
    assert MassHead.__name__ in NETWORK_NAMES


def test_the_heads_of_the_package_are_made_of_what_is_allowed():
    names = {type(layer).__name__ for layer in projection_head(4).layers}
    assert names <= NETWORK_NAMES
