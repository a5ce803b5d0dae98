"""Configurations: layers, round trips, and one line for each error."""

import dataclasses
import typing
from dataclasses import fields, is_dataclass

import pytest
import yaml

from deeplens_tf.config import (
    CONFIGS,
    MAX_CONFIG_BYTES,
    AugmentConfig,
    Config,
    EncoderConfig,
    find_config,
    load_config,
    save_config,
)
from deeplens_tf.dataclass_parsing import all_keys, to_plain
from deeplens_tf.errors import RequestError

SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def refusal(*overrides, name="defaults", **options):
    with pytest.raises(RequestError) as caught:
        load_config(name, overrides, **options)
    return str(caught.value)


@pytest.fixture
def write_yaml(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def sections(kind):
    """Return the dataclass `kind` and all dataclasses in it."""
    found = [kind]
    for hint in typing.get_type_hints(kind).values():
        found += sections(hint) if is_dataclass(hint) else []
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_loads(name):
    assert isinstance(load_config(name), Config)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_configuration_sets_the_keys_that_it_lists(name):
    listed = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) or {}
    loaded = to_plain(load_config(name))

    def assert_within(part, complete):
        for key, value in part.items():
            if isinstance(value, dict):
                assert_within(value, complete[key])
            else:
                assert complete[key] == value

    assert_within(listed, loaded)


@pytest.mark.parametrize(
    ("name", "projector"),
    [
        ("defaults", "plain"),
        ("contrastive", "batch_norm"),
        ("original_contrastive_noise", "plain"),
        ("original_contrastive_rotation", "plain"),
    ],
)
def test_the_projection_head_is_the_originals_unless_another_is_named(name, projector, write_yaml):
    assert load_config(name).pretrain.contrastive.projector == projector
    # A run of an earlier version goes on with the head that it has, whatever started it.
    stored = to_plain(load_config(name))
    del stored["pretrain"]["contrastive"]
    loaded = load_config(write_yaml(yaml.safe_dump(stored)))
    assert loaded.pretrain.contrastive.projector == "plain"


def test_defaults_yaml_is_complete():
    defaults = yaml.safe_load((CONFIGS / "defaults.yaml").read_text())

    def keys(mapping, where=""):
        for key, value in mapping.items():
            yield where + key
            if isinstance(value, dict):
                yield from keys(value, f"{where}{key}.")

    assert sorted(keys(defaults)) == sorted(all_keys(Config))


@pytest.mark.parametrize(
    "kind",
    [kind for kind in sections(Config) if kind is not AugmentConfig],
    ids=lambda kind: kind.__name__,
)
def test_no_dataclass_has_a_default(kind):
    for field in fields(kind):
        assert field.default is dataclasses.MISSING, field.name
        assert field.default_factory is dataclasses.MISSING, field.name


def test_augmentations_in_python_have_the_defaults_of_the_file():
    section = yaml.safe_load((CONFIGS / "defaults.yaml").read_text())["augment"]
    assert to_plain(AugmentConfig()) == section
    assert to_plain(AugmentConfig(views=("flip",))) == {**section, "views": ["flip"]}
    assert (
        AugmentConfig(views=("crop",)) == load_config("defaults", ["augment.views=[crop]"]).augment
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_saved_configuration_loads_unchanged(name, tmp_path):
    config = load_config(name, ["seed=7", "data.path='true'", "optimizer.learning_rate=1e-05"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_a_saved_configuration_is_complete_and_needs_no_defaults(tmp_path, monkeypatch):
    config = load_config("contrastive", ["data.path=bilder/ä ö", "train.epochs=3"])
    save_config(config, tmp_path / "config.yaml")
    (tmp_path / "defaults.yaml").write_text("{}")
    monkeypatch.setattr("deeplens_tf.config.CONFIGS", tmp_path)
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_later_layers_win(write_yaml):
    base = {
        "data": {"path": "base", "image_size": 32, "bands": 3},
        "train": {"epochs": 91, "batch_size": 92},
        "seed": 1,
    }
    file = write_yaml("{data: {image_size: 40}, train: {batch_size: 93}, seed: 2}")
    config = load_config(file, ["seed=3", "data.path=set"], base=base)
    assert config.data.bands == 3  # base over defaults
    assert config.train.epochs == 91
    assert config.data.image_size == 40  # file over base
    assert config.train.batch_size == 93
    assert config.seed == 3  # --set over file
    assert config.data.path == "set"
    assert config.data.cache == "runs/cache"  # defaults under all
    assert load_config(file, ["data.path=set"], "given", base).data.path == "given"
    shipped = load_config("original_baseline", ["encoder.top_width=8"], base=base)
    assert shipped.data.image_size == 32  # base over the package's own file
    assert (shipped.encoder.name, shipped.encoder.top_width) == ("resnet50", 8)


def test_the_last_of_two_equal_overrides_wins():
    assert load_config("defaults", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("data", [None, ""])
def test_without_a_data_folder_that_of_the_configuration_is_used(data):
    assert load_config("defaults", ["data.path=here"], data).data.path == "here"


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("optimizer.learning_rate=1e-3", lambda c: c.optimizer.learning_rate, 0.001),
        ("optimizer.learning_rate=1", lambda c: c.optimizer.learning_rate, 1.0),
        ("optimizer.clip_norm=null", lambda c: c.optimizer.clip_norm, None),
        ("optimizer.clip_norm=", lambda c: c.optimizer.clip_norm, None),
        ("augment.views=[rotation, crop]", lambda c: c.augment.views, ("rotation", "crop")),
        ("augment.views=[]", lambda c: c.augment.views, ()),
        ("augment.flip.vertical=false", lambda c: c.augment.flip.vertical, False),
        ("augment.flip={vertical: false}", lambda c: c.augment.flip.horizontal, True),
        ("data.path=a=b", lambda c: c.data.path, "a=b"),
        ("data.bands=3", lambda c: c.data.bands, 3),
        ("finetune.encoder=none", lambda c: c.finetune.encoder, "none"),
    ],
)
def test_set_takes_yaml_values(override, read, value):
    assert read(load_config("defaults", [override])) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "--set epochs: write it as key=value"),
        ("epochs=3", "unknown configuration key epochs: did you mean train.epochs?"),
        ("trian.epochs=3", "unknown configuration key trian.epochs: did you mean train.epochs?"),
        ("sed=3", "unknown configuration key sed: did you mean seed?"),
        (
            "augment.rotation.degree=3",
            "unknown configuration key augment.rotation.degree: "
            "did you mean augment.rotation.degrees?",
        ),
        (
            "augment={rotation: {degreees: 3}}",
            "unknown configuration key augment.rotation.degreees: "
            "did you mean augment.rotation.degrees?",
        ),
        ("train=3", "train must be a mapping, not 3"),
        ("train.epochs=many", "train.epochs must be a whole number, not 'many'"),
        ("train.epochs=0", "train.epochs must be at least 1 and at most 2147483647, not 0"),
        ("seed=-1", "seed must be at least 0 and at most 2147483647, not -1"),
        ("data.image_size=4", "data.image_size must be at least 8 and at most 4096, not 4"),
        ("data.validation_fraction=1", "data.validation_fraction must be at least 0 and at most"),
        ("finetune.fraction=0", "finetune.fraction must be above 0 and at most 1, not 0.0"),
        ("pretrain.temperature=0", "pretrain.temperature must be above 0, not 0.0"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay must be at least 0, not -1.0"),
        ("optimizer.momentum=1", "optimizer.momentum must be at least 0 and below 1, not 1.0"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate must be a number, not 'fast'"),
        ("encoder.patch_size=8.5", "encoder.patch_size must be a whole number, not 8.5"),
        ("augment.views=flip", "augment.views must be a list such as [a, b], not 'flip'"),
        ("augment.views=[flop]", "augment.views[0] must be one of flip, rot90, rotation"),
        ("augment.views=[flip, flip]", "augment.views must be a list without repetitions"),
        ("augment.flip.vertical=1", "augment.flip.vertical must be true or false, not 1"),
        ("data.path=2024-01-01", "data.path must be text, not datetime.date(2024, 1, 1)"),
        ("data.path=[", "--set data.path=[: not YAML: "),
        ("data.path=2024-99-99", "--set data.path=2024-99-99: not YAML: "),
        (f"seed={'9' * 5000}", "--set seed=9999"),
        (f"data.path={'[' * 5000}", "--set data.path=[[[["),
        ("data.path=!!python/name:os.system", "--set data.path=!!python/name:os.system: not YAML"),
    ],
    ids=lambda text: text[:40],
)
def test_a_wrong_override_is_refused_by_name(override, message):
    refused = refusal(override)
    assert refused.startswith(message)
    assert len(refused) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trane: {epochs: 3}", "unknown configuration key trane: did you mean train?"),
        ("train: {epoch: 3}", "unknown configuration key train.epoch: did you mean train.epochs?"),
        ("1: 2", "unknown configuration key 1: "),
        ("train:", "train must be a mapping, not None"),
        ("train: {epochs: '3'}", "train.epochs must be a whole number, not '3'"),
    ],
)
def test_a_wrong_file_is_refused_by_its_key(write_yaml, text, message):
    assert refusal(name=write_yaml(text)).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "a configuration is a mapping of keys, not ['a']"),
        ("a: [", "not YAML: "),
        (b"a: \xff\xfe", "not YAML: "),
        (b"\x00\x01\x02", "not YAML: "),
        ("seed: !!python/object/apply:os.getpid []", "not YAML: "),
        ("#" * (MAX_CONFIG_BYTES + 1), "larger than 100000 bytes, the limit for a configuration"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_named(write_yaml, text, message):
    path = write_yaml(text)
    assert refusal(name=path).startswith(f"{path}: {message}")


def test_an_empty_file_changes_nothing(write_yaml):
    assert load_config(write_yaml("# nothing\n")) == load_config("defaults")


@pytest.mark.parametrize("name", ["contrastiv", "no/such.yaml", "../configs/defaults"])
def test_an_unknown_configuration_lists_the_known_ones(name):
    refused = refusal(name=name)
    assert refused.startswith(f"no configuration {name!r}: ")
    assert ", ".join(SHIPPED) in refused


def test_a_shipped_name_wins_over_a_file_and_a_path_over_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contrastive").write_text("seed: 99")
    assert find_config("contrastive") == CONFIGS / "contrastive.yaml"
    assert load_config("./contrastive").seed == 99


def test_the_options_of_an_encoder_are_those_that_are_set():
    encoder = load_config("defaults", ["encoder.patch_size=4", "encoder.dropout=0"]).encoder
    assert isinstance(encoder, EncoderConfig)
    assert encoder.arguments() == {"patch_size": 4, "dropout": 0.0}
