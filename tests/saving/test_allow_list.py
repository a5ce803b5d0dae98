"""How much a recipe requests, against what Keras then allocates."""

import json
import random

import keras
import pytest

from deeplens_tf.errors import UnusableFile
from deeplens_tf.models import DownstreamModel, MassHead, build_encoder
from deeplens_tf.models.heads import classification_head
from deeplens_tf.saving.allow_list import check_recipe

MODELS = [
    ("vit_nano", (16, 16, 1), {}, None),
    ("vit_nano", (16, 16, 1), {"depth": 0}, None),
    ("vit_nano", (16, 16, 1), {}, MassHead(-23.0, 0.5, True)),
    ("vit_nano", (32, 32, 3), {"patch_size": 16, "pooling": "class_token"}, None),
    ("vit_b32_original", (32, 32, 2), {"width": 12, "depth": 1}, classification_head(3)),
    ("resnet50", (32, 32, 1), {"top_width": 64}, classification_head(2000)),
    ("resnet50", (32, 32, 3), {"top_width": 128, "plain_top": True}, None),
]


def recipe_of(model):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


@pytest.mark.parametrize(("name", "image_shape", "options", "head"), MODELS)
def test_a_model_requests_what_it_has_and_a_file_of_half_as_much_is_refused(
    name, image_shape, options, head
):
    model = build_encoder(name, image_shape, **options)
    if head is not None:
        model = DownstreamModel(model, head, ("a", "b", "c"))
    weights = model.count_params()
    check_recipe(recipe_of(model), 2 * weights)
    with pytest.raises(
        UnusableFile, match=r"describes a network of .* weights, but the file stores only"
    ):
        check_recipe(recipe_of(model), int(0.95 * 2 * weights))


def test_a_mixed_policy_is_taken():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        check_recipe(recipe_of(build_encoder("vit_nano", (16, 16, 1))), 10**7)
    finally:
        keras.config.set_dtype_policy("float32")


def nested(part):
    inner = recipe_of(DownstreamModel(build_encoder("vit_nano", (16, 16, 1)), MassHead(-23, 1)))
    outer = json.loads(json.dumps(inner))
    outer["config"][part] = inner
    return outer


def initialised_by_a_network():
    recipe = recipe_of(
        DownstreamModel(build_encoder("vit_nano", (16, 16, 1)), classification_head(3), ("a",))
    )
    recipe["config"]["head"]["config"]["activation"] = recipe["config"]["encoder"]
    return json.loads(json.dumps(recipe))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (nested("encoder"), "a model without a valid encoder"),
        (nested("head"), "a model without a valid head"),
        (initialised_by_a_network(), r"requests a \S*VisionTransformer within another network"),
    ],
)
def test_networks_within_networks_are_refused_before_they_are_built(recipe, message, monkeypatch):
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", lambda *_, **__: pytest.fail())
    with pytest.raises(UnusableFile, match=message):
        check_recipe(recipe, 10**12)


def test_the_check_uses_up_no_random_numbers():
    recipe = recipe_of(build_encoder("vit_nano", (16, 16, 1), dropout=0.1))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    check_recipe(recipe, 10**9)
    assert random.random() == expected


@pytest.mark.parametrize("recipe", [None, [], "x", {}, {"class_name": []}, {"class_name": "Dense"}])
def test_what_is_no_recipe_is_refused(recipe):
    with pytest.raises(UnusableFile):
        check_recipe(recipe, 10**9)
