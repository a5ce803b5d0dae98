"""How much a recipe requests, against what Keras then allocates."""

import json

import keras
import pytest

from deeplens_tf.errors import UnusableFile
from deeplens_tf.models import DownstreamModel, MassHead, build_encoder
from deeplens_tf.models.heads import classification_head
from deeplens_tf.saving.allow_list import check_recipe

MODELS = [
    ("vit_nano", (16, 16, 1), {}, None),
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


@pytest.mark.parametrize("recipe", [None, [], "x", {}, {"class_name": []}, {"class_name": "Dense"}])
def test_what_is_no_recipe_is_refused(recipe):
    with pytest.raises(UnusableFile):
        check_recipe(recipe, 10**9)
