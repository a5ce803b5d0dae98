"""Errors about arguments become errors about the configuration's keys."""

import pytest

from deeplens_tf.config import Config, load_config
from deeplens_tf.configuration_keys import KEYS, configuration_keys, with_keys
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.dataclass_parsing import all_keys
from deeplens_tf.errors import RequestError
from deeplens_tf.models import build_encoder
from deeplens_tf.training.methods import build_method


@pytest.mark.parametrize(
    ("message", "translated"),
    [
        (
            "patch_size must divide the image of 12 x 18 pixels. Received: patch_size=8",
            "encoder.patch_size must divide the image of 12 x 18 pixels. "
            "Received: encoder.patch_size=8",
        ),
        ("name must be one of a, b. Received: name='c'", "encoder.name must be one of a, b. "
         "Received: encoder.name='c'"),
        ("an encoder of any name. Received: x=1", "an encoder of any name. Received: x=1"),
    ],
)  # fmt: skip
def test_arguments_are_replaced_and_words_are_not(message, translated):
    assert with_keys(message) == translated


def test_every_key_exists():
    assert set(KEYS.values()) <= set(all_keys(Config))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encoder.patch_size=7"], "encoder.patch_size must divide the image of 64 x 64 pixels"),
        (["encoder.name=vit"], "encoder.name must be one of vit_nano, "),
        (["encoder.top_width=4"], "encoder.top_width is not an option of vit_nano"),
        (["encoder.name=resnet50", "data.image_size=16"], "data.image_size must have 32 pixels"),
        (["pretrain.keep_tokens=0.5", "encoder.name=resnet50"],
         r"pretrain\.keep_tokens must be 1\.0 .* Received: pretrain\.keep_tokens=0\.5"),
        (["pretrain.method=inpainting", "pretrain.inpainting.mask_ratio=0.001"],
         r"Received: pretrain\.inpainting\.mask_ratio=0\.001"),
        (["pretrain.method=inpainting", "pretrain.inpainting.decoder_heads=3"],
         "pretrain.inpainting.decoder_heads must divide pretrain.inpainting.decoder_width=64"),
        (["pretrain.method=inpainting", "encoder.name=vit_b32_original", "encoder.patch_size=16"],
         "encoder.name must be a VisionTransformer"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_by_its_key(words, message):
    with pytest.raises(RequestError, match=message), configuration_keys():
        config = with_folder_settings(load_config("defaults", ["data.path=none", *words]))
        shape = (config.data.image_size, config.data.image_size, 1)
        encoder = build_encoder(config.encoder.name, shape, **config.encoder.arguments())
        build_method(config.pretrain, encoder, 3, 10)


def test_other_errors_stay_what_they_are():
    with pytest.raises(ValueError, match="from a library") as caught, configuration_keys():
        raise ValueError("from a library")
    assert not isinstance(caught.value, RequestError)
