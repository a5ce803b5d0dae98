"""The schema for editors accepts and refuses what the configuration does; jsonschema applies it."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from deeplens_tf.config import CONFIGS, load_config, parse_override
from deeplens_tf.config_schema import config_schema
from deeplens_tf.errors import RequestError

SCHEMA = json.loads(json.dumps(config_schema()))
VALIDATOR = Draft202012Validator(SCHEMA)


def leaves(schema, where=""):
    for name, each in schema["properties"].items():
        if "properties" in each:
            yield from leaves(each, f"{where}{name}.")
        else:
            yield f"{where}{name}", each


def test_it_is_a_schema_and_each_key_of_it_is_described():
    Draft202012Validator.check_schema(SCHEMA)
    assert [name for name, each in leaves(SCHEMA) if not each.get("description")] == []


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_of_the_package_satisfy_it(path):
    VALIDATOR.validate(yaml.safe_load(path.read_text()) or {})


@pytest.mark.parametrize(
    "setting",
    [
        *("seed=0", "seed=-1", "seed=1.5", "seed=true", "seed=2147483648"),
        *("train.epochs=1", "train.epochs=0", "train.epoch=1", "train.epochs=null"),
        *("data.image_size=7", "data.image_size=8", "data.image_size=null"),
        *("data.fit=crop", "data.fit=cut", "data.strict=yes", "data.strict=1"),
        *("data.percentiles=[1, 99]", "data.percentiles=[1]", "data.percentiles=[1, x]"),
        *("data.fits_hdu=1", "data.fits_hdu=SCI", "data.fits_hdu=-1", "data.fits_hdu=[1]"),
        *("data.catalog_columns={file: path, label: null}", "data.catalog_columns={file: 1}"),
        *("optimizer.momentum=0", "optimizer.momentum=1", "optimizer.learning_rate=1e-3"),
        *("optimizer.learning_rate=0", "optimizer.learning_rate=fast", "optimizer.clip_norm=null"),
        *("augment.views=[flip]", "augment.views=[flip, flip]", "augment.views=flip"),
        *("augment.probability={flip: 0.5}", "augment.probability={flip: 2}"),
        *("encoder.options={depth: 3}", "encoder.options=3", "pretrain.byol={beta: 0.9}"),
        *("pretrain.byol=0.9", "augment.rotation.interpolation=nearest"),
    ],
)
def test_it_accepts_what_the_configuration_accepts(setting):
    try:
        load_config("contrastive", [setting])
        accepted = True
    except RequestError:
        accepted = False
    try:
        written = parse_override(setting)
    except RequestError:  # an unknown key
        key, value = setting.split("=", 1)
        section, name = key.split(".")
        written = {section: {name: yaml.safe_load(value)}}
    assert VALIDATOR.is_valid(written) == accepted


def test_names_of_plugins_are_accepted_and_those_of_the_package_are_suggested():
    name = dict(leaves(SCHEMA))["encoder.name"]
    assert VALIDATOR.is_valid({"encoder": {"name": "my_network"}})
    assert {"vit_nano", "resnet50"} <= set(name["anyOf"][0]["enum"])
