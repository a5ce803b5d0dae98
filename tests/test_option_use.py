"""A `--set` that a stage would pass over is refused, for every key and every stage."""

import itertools
import re
import shlex

import pytest

from deeplens_tf import evaluate, finetune, prepare, pretrain, registry
from deeplens_tf.config import Config, load_config
from deeplens_tf.dataclass_parsing import all_keys
from deeplens_tf.errors import RequestError
from deeplens_tf.option_use import (
    CONFIGURED_STAGES,
    FINETUNE,
    PROBE,
    USES,
    WITH_PROJECTION,
    WITH_TEMPERATURE,
    load_stage_config,
    passed_over,
)
from deeplens_tf.runs.new_run import create_run
from tests.conftest import REPOSITORY

SECTIONS = {key.rsplit(".", 1)[0] for key in all_keys(Config) if "." in key}
LEAVES = [key for key in all_keys(Config) if key not in SECTIONS]
# What every stage may be told, since no result depends on it.
HARMLESS = ("data.strict", "data.cache", "data.in_memory", "checkpoint.")
# Used by each stage with the package's own configuration for it, apart from those above.
USED = {
    "prepare": ("seed", "data."),
    "prepare --preview": ("seed", "data.", "augment.", "pretrain.positives"),
    "pretrain": (
        "seed",
        "data.",
        "augment.",
        "encoder.",
        "pretrain.",
        "optimizer.",
        "train.",
        "logging.",
    ),
    "finetune": (
        "seed",
        "data.",
        "augment.",
        "encoder.",
        "finetune.",
        "optimizer.",
        "train.",
        "logging.",
    ),
    "evaluate": ("seed", "data.", "logging.wandb", "logging.mlflow"),
    "evaluate --probe": (
        *("seed", "data.", "finetune.fraction", "finetune.target"),
        *("logging.wandb", "logging.mlflow"),
    ),
}
NOISES = ("gaussian_noise", "background_noise", "jitter")
OF_SCALE = ("percentiles", "asinh_softening", "nan_fill")
# Passed over although their section is used: with min-max scaling, contrastive, flip and rot90,
# classification, and random weights in pretraining.
CONDITIONAL = {
    "prepare": ("data.bands", "other_bands", *OF_SCALE),
    "prepare --preview": ("rotation", *NOISES, "crop", "brightness", "other_bands", *OF_SCALE),
    "pretrain": (
        *("rotation", *NOISES, "crop", "brightness", *OF_SCALE),
        *("neighbours", "byol", "twin", "simsiam", "inpainting", "other_bands"),
    ),
    "finetune": (
        *("rotation", *NOISES, "crop", "brightness", "likelihood", "standardise"),
        *("target", "log10", "target_unit", *OF_SCALE),
    ),
    "evaluate": ("other_bands", *OF_SCALE),
    "evaluate --probe": ("log10", "target_unit", *OF_SCALE),
}


def config_for(stage, *overrides):
    return load_config("finetune" if stage == "finetune" else "defaults", overrides)


def is_expected(stage, key):
    """Return whether a stage uses a key, by the lists above."""
    if key.startswith(HARMLESS):
        return True
    off = CONDITIONAL.get(stage, ())
    return key.startswith(USED[stage]) and key not in off and not set(key.split(".")) & set(off)


def test_every_key_has_an_entry_and_no_entry_is_of_another():
    assert set(USES) == set(LEAVES)
    assert {stage for use in USES.values() for stage in use.stages} <= set(CONFIGURED_STAGES)


@pytest.mark.parametrize("stage", CONFIGURED_STAGES)
@pytest.mark.parametrize("key", LEAVES)
def test_a_stage_uses_a_key_or_passes_it_over(stage, key):
    assert (passed_over(key, stage, config_for(stage)) is None) == is_expected(stage, key)


def test_the_shared_settings_are_those_that_the_methods_take():
    for key, names in (
        ("temperature", WITH_TEMPERATURE),
        ("projection_width", WITH_PROJECTION),
        ("keep_tokens", WITH_PROJECTION),
    ):
        have = {
            name
            for name in registry.methods.built_in
            if key in registry.methods.entry(name).options
        }
        assert have == set(names)


@pytest.mark.parametrize(
    ("stage", "overrides", "line"),
    [
        ("pretrain", ["pretrain.byol.beta=0.9"], r"pretrain uses it only where .*method is byol"),
        ("pretrain", ["pretrain.method=byol", "pretrain.byol.beta=0.9"], None),
        ("pretrain", ["pretrain.method=byol", "pretrain.temperature=0.5"], "is contrastive; leave"),
        ("pretrain", ["pretrain.neighbours.every_epochs=2"], r"pretrain\.negatives is neighbours"),
        (
            "pretrain",
            ["pretrain.negatives=neighbours", "pretrain.neighbours.every_epochs=2"],
            None,
        ),
        (
            "pretrain",
            ["pretrain.method=byol", "pretrain.negatives=neighbours"],
            r"negatives: .* only where pretrain\.method is contrastive",
        ),
        ("pretrain", ["pretrain.method=inpainting", "pretrain.projection_width=8"], "or simsiam"),
        ("pretrain", ["pretrain.method=inpainting", "pretrain.keep_tokens=0.5"], "or simsiam"),
        ("pretrain", ["finetune.freeze=true"], "pretrain does not use it, only finetune; leave"),
        ("pretrain", ["finetune.fraction=0.5"], r"only where pretrain\.probe_every_epochs is set"),
        ("pretrain", ["pretrain.probe_every_epochs=1", "finetune.fraction=0.5"], None),
        ("pretrain", ["augment.rotation.degrees=30"], r"view_2 contains rotation; leave it out"),
        ("pretrain", ["augment.view_2=[rotation]", "augment.rotation.degrees=30"], None),
        ("pretrain", ["augment.rotation={degrees: 30}"], r"augment\.rotation\.degrees: pretrain"),
        ("pretrain", ["augment.views=[rot90]", "augment.flip.vertical=false"], "contains flip"),
        (
            "pretrain",
            ["optimizer.schedule=constant", "optimizer.schedule_epochs=9"],
            "BYOL's momentum is cosine",
        ),
        (
            "pretrain",
            ["pretrain.method=byol", "optimizer.schedule=constant", "optimizer.schedule_epochs=9"],
            None,
        ),
        ("finetune", ["optimizer.schedule=constant", "optimizer.schedule_epochs=9"], "is cosine"),
        ("finetune", ["pretrain.temperature=0.5"], "finetune does not use it, only pretrain"),
        ("finetune", ["finetune.likelihood=gaussian"], r"only where finetune\.head is regression"),
        ("finetune", ["finetune.head=regression", "finetune.likelihood=gaussian"], None),
        ("finetune", ["finetune.head=regression", "finetune.class_weight=none"], "classification"),
        ("finetune", ["finetune.target=z"], r"only where finetune\.head is regression"),
        ("finetune", ["finetune.head=regression", "finetune.log10=true"], "finetune.target is set"),
        (
            "finetune",
            ["finetune.head=regression", "finetune.target=z", "finetune.log10=true"],
            None,
        ),
        ("pretrain", ["finetune.target=z"], r"pretrain\.probe_every_epochs is set"),
        ("evaluate --probe", ["finetune.target=z", "finetune.target_unit=kpc"], None),
        ("evaluate", ["train.batch_size=8"], "evaluate does not use it, only pretrain, finetune"),
        ("evaluate", ["finetune.fraction=0.5"], "only pretrain, finetune, evaluate --probe"),
        ("evaluate --probe", ["finetune.fraction=0.5"], None),
        ("evaluate --probe", ["encoder.patch_size=4"], "evaluate --probe does not use it"),
        ("evaluate --probe", ["train.precision=mixed_bfloat16"], "evaluate --probe does not use"),
        ("evaluate", ["checkpoint.keep=9", "data.strict=true", "data.cache=elsewhere"], None),
        ("prepare", ["data.bands=3"], "prepare uses it only where it is above 10"),
        ("prepare", ["data.bands=50"], None),
        ("prepare", ["data.percentiles=[1, 99]"], r"only where data\.interval is percentile"),
        ("pretrain", ["data.interval=percentile", "data.percentiles=[1, 99]"], None),
        ("pretrain", ["data.asinh_softening=0.2"], r"only where data\.stretch is asinh; leave"),
        ("evaluate", ["data.stretch=asinh", "data.asinh_softening=0.2"], None),
        ("prepare", ["data.nan_fill=zero"], r"only where data\.max_nan_fraction is above 0; leave"),
        ("prepare", ["data.max_nan_fraction=0.1", "data.nan_fill=zero"], None),
        ("prepare", ["augment.views=[]"], "prepare does not use it, only prepare --preview"),
        ("prepare --preview", ["augment.views=[]", "data.bands=3"], None),
        # A value that is the present one anyway changes nothing, so nothing is passed over.
        ("finetune", ["pretrain.temperature=0.1", "finetune.likelihood=mse"], None),
    ],
)
def test_a_setting_without_effect_is_refused_with_what_it_needs(stage, overrides, line):
    name = "finetune" if stage == "finetune" else "defaults"
    if line is None:
        assert load_stage_config(stage, name, overrides) == load_config(name, overrides)
    else:
        with pytest.raises(RequestError, match=line):
            load_stage_config(stage, name, overrides)


def test_a_file_may_hold_keys_of_several_stages(tmp_path):
    (tmp_path / "mine.yaml").write_text("pretrain: {byol: {beta: 0.9}}\nfinetune: {freeze: true}\n")
    for stage in CONFIGURED_STAGES:
        assert load_stage_config(stage, str(tmp_path / "mine.yaml")).pretrain.byol.beta == 0.9


def test_a_plugins_method_has_the_shared_settings_that_it_takes(forgotten_names):
    def mine(encoder, probe, total_steps, temperature: float = 0.1):
        return encoder

    registry.methods.register("mine", mine)
    chosen = ["pretrain.method=mine", "pretrain.temperature=0.5"]
    assert load_stage_config("pretrain", "contrastive", chosen).pretrain.temperature == 0.5
    with pytest.raises(RequestError, match=r"^pretrain\.projection_width: pretrain uses it only"):
        load_stage_config("pretrain", "contrastive", [*chosen, "pretrain.projection_width=8"])


@pytest.mark.parametrize(
    ("main", "argv", "key"),
    [
        (pretrain.main, ["--data", "a", "--set", "data.path=b"], "data.path"),
        (
            finetune.main,
            ["--head", "regression", "--set", "finetune.head=classification"],
            "finetune.head",
        ),
        (finetune.main, ["--freeze", "--set", "finetune={freeze: false}"], "finetune.freeze"),
        (prepare.main, ["images", "--out", "o", "--seed", "1", "--set", "seed=2"], "seed"),
        (prepare.main, ["images", "--out", "o", "--set", "data.path=b"], "data.path"),
    ],
)
def test_one_key_with_two_values_is_refused(tmp_path, monkeypatch, main, argv, key):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=rf"^{key}: .* by --set, but .* by an option of its own"):
        main(argv)


def test_the_later_of_two_settings_holds_and_the_same_value_twice_is_fine():
    """A Makefile's settings come first, and those of the user after them."""
    twice = ["data.path=a", "seed=1", "seed=2"]
    config = load_stage_config("pretrain", "contrastive", twice, data="a")
    assert (config.seed, config.data.path) == (2, "a")


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (prepare.main, ["nowhere", "--out", "o", "--set", "encoder.dropout=0.5"]),
        (pretrain.main, ["--set", "finetune.freeze=true"]),
        (finetune.main, ["--encoder", "none", "--set", "pretrain.temperature=0.5"]),
    ],
)
def test_the_stages_refuse_before_they_look_at_the_data(tmp_path, monkeypatch, main, argv):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="does not use it, only"):
        main(argv)


def test_evaluate_takes_the_encoder_and_the_training_from_the_run(tmp_path):
    run = create_run("finetune", "c", load_config("finetune"), str(tmp_path / "run"), {})
    run.model.touch()
    epochs = f"train.epochs={run.load_config().train.epochs}"
    for probe in ([], ["--probe", "linear"]):
        with pytest.raises(RequestError, match=r"^encoder\.dropout: evaluate.* does not use it"):
            evaluate.main(["--run", str(run.folder), *probe, "--set", "encoder.dropout=0.5"])
    with pytest.raises(RequestError, match="no such folder"):  # the run's own value
        evaluate.main(["--run", str(run.folder), "--set", epochs, "--data", "no/such"])


def documented_commands():
    """Commands of the documentation without a plugin, as (stage, words)."""
    places = [
        REPOSITORY / "README.md",
        REPOSITORY / "data" / "README.md",
        REPOSITORY / ".ci" / "run",
    ]
    for path in (*places, *(REPOSITORY / "docs").rglob("*.*")):
        if path.suffix in ("", ".md", ".sbatch", ".yaml"):
            text = path.read_text().replace("\\\n", " ")
            for stage, rest in re.findall(r"-m deeplens_tf\.(\w+)( [^`\n#]*--set[^`\n#]*)", text):
                if "--plugin" not in rest:
                    yield stage, shlex.split(rest)


def test_the_documented_commands_set_nothing_in_vain():
    commands = list(documented_commands())
    assert len(commands) >= 6
    for stage, words in commands:
        pairs = list(itertools.pairwise(words))
        (name,) = [value for word, value in pairs if word == "--config"] or [
            "finetune" if stage == "finetune" else "contrastive"
        ]
        stage = PROBE if "--probe" in words else stage
        heads = [f"finetune.head={v}" for word, v in pairs if (stage, word) == (FINETUNE, "--head")]
        given = [value for word, value in pairs if word == "--set"]
        load_stage_config(stage, name, given, own=heads)


def test_the_makefile_sets_nothing_in_vain():
    (line,) = re.findall(r"^WINDOW \?= (.*)$", (REPOSITORY / "Makefile").read_text(), re.M)
    for name in ("contrastive", "byol", "twin", "simsiam", "inpainting"):
        load_stage_config("pretrain", name, line.replace("--set", "").split())
