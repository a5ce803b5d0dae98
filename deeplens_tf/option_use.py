"""Which keys of the configuration each stage uses; a `--set` that would be passed over is refused.

A configuration file may hold keys of several stages. A `--set`, and a stage's own option, is meant
for the one command: where it would change nothing, the stage ends with a line that says why.
Not refused are a value that the configuration has anyway, and keys on which no result depends
(`data.cache`, `data.in_memory`, `data.strict`, `checkpoint.*`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from deeplens_tf.config import FROM_SCRATCH, MAX_UNNAMED_BANDS, Config, load_config, parse_override
from deeplens_tf.errors import RequestError
from deeplens_tf.registry import methods

PREPARE, PREVIEW = "prepare", "prepare --preview"
PRETRAIN, FINETUNE = "pretrain", "finetune"
EVALUATE, PROBE = "evaluate", "evaluate --probe"
CONFIGURED_STAGES = (PREPARE, PREVIEW, PRETRAIN, FINETUNE, EVALUATE, PROBE)

# Methods of the package that have the settings which methods share.
WITH_TEMPERATURE = ("contrastive",)
WITH_PROJECTION = ("contrastive", "byol", "twin", "simsiam")


@dataclass(frozen=True)
class Use:
    """Where a key has an effect.

    Attributes:
        stages: that use it.
        only_if: what else must hold, as a text for the message.
        holds: whether it does, for a configuration in a stage.
    """

    stages: tuple[str, ...]
    only_if: str = ""
    holds: Callable[[Config, str], bool] = lambda config, stage: True


def _where(use: Use, only_if: str, holds: Callable[[Config], bool]) -> Use:
    return Use(use.stages, only_if, lambda config, stage: holds(config))


def _of_view(name: str) -> Use:
    """Return the use of an augmentation's settings: in a view that has it."""

    def holds(config: Config) -> bool:
        return name in (*config.augment.views, *(config.augment.view_2 or ()))

    return _where(WITH_VIEWS, f"augment.views or augment.view_2 contains {name}", holds)


def _of_method(name: str) -> Use:
    return _where(
        PRETRAINING, f"pretrain.method is {name}", lambda config: config.pretrain.method == name
    )


def _shared_by(key: str, built_in: tuple[str, ...]) -> Use:
    """Return the use of a key that several methods have, a plugin's if it has such an option."""

    def holds(config: Config) -> bool:
        plugin = methods.plugins().get(config.pretrain.method)
        return config.pretrain.method in built_in if plugin is None else key in plugin.options

    return _where(PRETRAINING, f"pretrain.method is {' or '.join(built_in)}", holds)


def _of_head(name: str) -> Use:
    return _where(
        FINETUNING, f"finetune.head is {name}", lambda config: config.finetune.head == name
    )


def _of_regression() -> Use:
    """Return the use of a regression's target, which the probes of other stages have too."""

    def holds(config: Config, stage: str) -> bool:
        if stage == FINETUNE:
            return config.finetune.head == "regression"
        return _fraction_is_used(config, stage)

    only_if = "finetune.head is regression, or in pretrain pretrain.probe_every_epochs is set"
    return Use((PRETRAIN, FINETUNE, PROBE), only_if, holds)


def _of_target() -> Use:
    regression = _of_regression()

    def holds(config: Config, stage: str) -> bool:
        return config.finetune.target is not None and regression.holds(config, stage)

    return Use(regression.stages, f"finetune.target is set and {regression.only_if}", holds)


def _of_a_trained_encoder() -> Use:
    return _where(FINETUNING, "finetune.freeze is false", lambda config: not config.finetune.freeze)


def _of_another_encoder() -> Use:
    """Return the use of what concerns an encoder that was trained before."""

    def holds(config: Config, stage: str) -> bool:
        if stage == PRETRAIN:
            return config.pretrain.encoder is not None
        return stage == PROBE or config.finetune.encoder != FROM_SCRATCH

    return Use((PRETRAIN, FINETUNE, PROBE), "there is a trained encoder to start from", holds)


def _of_scale(key: str, value: str) -> Use:
    """Return the use of a parameter of one interval or stretch."""
    holds = attrgetter(f"data.{key}")
    return _where(DATA, f"data.{key} is {value}", lambda config: holds(config) == value)


def _bands_are_used(config: Config, stage: str) -> bool:
    """Return whether a file is read in another way, or a grey image repeated after preparing."""
    return stage != PREPARE or (config.data.bands or 0) > MAX_UNNAMED_BANDS


def _fraction_is_used(config: Config, stage: str) -> bool:
    return stage != PRETRAIN or config.pretrain.probe_every_epochs is not None


def _of_neighbours() -> Use:
    return _where(
        PRETRAINING,
        "pretrain.negatives is neighbours",
        lambda config: config.pretrain.negatives == "neighbours",
    )


def _length_is_used(config: Config, stage: str) -> bool:
    rises = stage == PRETRAIN and config.pretrain.method == "byol"
    rises = rises and config.pretrain.byol.schedule == "cosine"
    return rises or config.optimizer.schedule == "cosine"


EVERYWHERE = Use(CONFIGURED_STAGES)
DATA = EVERYWHERE  # the data section is checked against a prepared folder and a model by data/
WITH_VIEWS = Use((PREVIEW, PRETRAIN, FINETUNE))
TRAINING = Use((PRETRAIN, FINETUNE))
TRAINED_RUN = Use((PRETRAIN, FINETUNE, EVALUATE, PROBE))
PRETRAINING = Use((PRETRAIN,))
FINETUNING = Use((FINETUNE,))

USES: dict[str, Use] = {
    "seed": EVERYWHERE,
    "data.path": DATA,
    "data.image_size": DATA,
    "data.fit": DATA,
    "data.bands": Use(
        CONFIGURED_STAGES, "it is above 10; a grey image is repeated later", _bands_are_used
    ),
    "data.band_names": DATA,
    "data.pixel_scale_arcsec": DATA,
    "data.resample_to_arcsec": DATA,
    "data.fits_hdu": DATA,
    "data.hdf5_dataset": DATA,
    "data.stacks": DATA,
    "data.band_files": DATA,
    "data.interval": DATA,
    "data.percentiles": _of_scale("interval", "percentile"),
    "data.stretch": DATA,
    "data.asinh_softening": _of_scale("stretch", "asinh"),
    "data.scale_bands": DATA,
    "data.scale_over": DATA,
    "data.max_nan_fraction": DATA,
    "data.nan_fill": _where(
        DATA, "data.max_nan_fraction is above 0", lambda config: bool(config.data.max_nan_fraction)
    ),
    "data.mixed_sizes": DATA,
    "data.other_bands": _of_another_encoder(),
    "data.validation_fraction": DATA,
    "data.catalog": DATA,  # refused for a prepared folder
    "data.catalog_columns": DATA,  # refused without a catalogue
    "data.strict": EVERYWHERE,
    "data.cache": EVERYWHERE,
    "data.in_memory": EVERYWHERE,
    "augment.views": WITH_VIEWS,
    "augment.view_2": WITH_VIEWS,  # refused by finetune and inpainting, which have one view
    "augment.probability": WITH_VIEWS,  # a name that is in no view is refused by `build_augment`
    "augment.options": WITH_VIEWS,  # likewise
    "augment.rotation.degrees": _of_view("rotation"),
    "augment.rotation.interpolation": _of_view("rotation"),
    "augment.gaussian_noise.stddev": _of_view("gaussian_noise"),
    "augment.background_noise.factor": _of_view("background_noise"),
    "augment.jitter.pixels": _of_view("jitter"),
    "augment.flip.horizontal": _of_view("flip"),
    "augment.flip.vertical": _of_view("flip"),
    "augment.crop.minimum_area": _of_view("crop"),
    "augment.brightness.maximum_change": _of_view("brightness"),
    # One that the encoder lacks is refused by `EncoderConfig.arguments`, and finetune compares them
    # with the encoder that it loads. evaluate takes those of the run.
    "encoder.name": TRAINING,
    "encoder.patch_size": TRAINING,
    "encoder.pooling": TRAINING,
    "encoder.dropout": TRAINING,
    "encoder.stochastic_depth": TRAINING,
    "encoder.top_width": TRAINING,
    "encoder.plain_top": TRAINING,
    "encoder.options": TRAINING,
    "pretrain.method": PRETRAINING,
    "pretrain.encoder": PRETRAINING,
    "pretrain.positives": Use((PREVIEW, PRETRAIN)),  # object is refused for one view
    "pretrain.stream": PRETRAINING,  # refused where no new pairs can be drawn
    "pretrain.negatives": _of_method("contrastive"),
    "pretrain.neighbours.first_epochs": _of_neighbours(),
    "pretrain.neighbours.every_epochs": _of_neighbours(),
    "pretrain.temperature": _shared_by("temperature", WITH_TEMPERATURE),
    "pretrain.projection_width": _shared_by("projection_width", WITH_PROJECTION),
    "pretrain.keep_tokens": _shared_by("keep_tokens", WITH_PROJECTION),
    "pretrain.probe_learning_rate": PRETRAINING,
    "pretrain.probe_on": PRETRAINING,
    "pretrain.probe_every_epochs": PRETRAINING,
    "pretrain.contrastive.projector": _of_method("contrastive"),
    "pretrain.byol.hidden_width": _of_method("byol"),
    "pretrain.byol.beta": _of_method("byol"),
    "pretrain.byol.schedule": _of_method("byol"),
    "pretrain.twin.off_diagonal_weight": _of_method("twin"),
    "pretrain.simsiam.predictor_width": _of_method("simsiam"),
    "pretrain.inpainting.mask_ratio": _of_method("inpainting"),
    "pretrain.inpainting.decoder_width": _of_method("inpainting"),
    "pretrain.inpainting.decoder_depth": _of_method("inpainting"),
    "pretrain.inpainting.decoder_heads": _of_method("inpainting"),
    "pretrain.options": PRETRAINING,  # one that the method lacks is refused by `method_settings`
    "finetune.head": FINETUNING,
    "finetune.target": _of_regression(),
    "finetune.log10": _of_target(),
    "finetune.target_unit": _of_target(),
    "finetune.likelihood": _of_head("regression"),
    "finetune.standardise": _of_head("regression"),
    "finetune.encoder": FINETUNING,
    "finetune.freeze": FINETUNING,
    "finetune.head_epochs": _of_a_trained_encoder(),
    "finetune.encoder_rate": _of_a_trained_encoder(),
    "finetune.layer_decay": _of_a_trained_encoder(),
    "finetune.class_weight": _of_head("classification"),
    "finetune.fraction": Use(
        (PRETRAIN, FINETUNE, PROBE), "pretrain.probe_every_epochs is set", _fraction_is_used
    ),
    "optimizer.name": TRAINING,
    "optimizer.learning_rate": TRAINING,
    "optimizer.weight_decay": TRAINING,  # refused for adam by `training.optimizers.require_used`
    "optimizer.momentum": TRAINING,  # refused likewise for all but sgd
    "optimizer.schedule": TRAINING,
    "optimizer.schedule_epochs": Use(
        TRAINING.stages, "optimizer.schedule or that of BYOL's momentum is cosine", _length_is_used
    ),
    "optimizer.warmup_epochs": TRAINING,
    "optimizer.clip_norm": TRAINING,
    "train.epochs": TRAINING,
    "train.batch_size": TRAINING,
    "train.validate_every_epochs": TRAINING,
    "train.jit_compile": TRAINING,
    "train.precision": TRAINING,
    "checkpoint.every_steps": EVERYWHERE,
    "checkpoint.every_minutes": EVERYWHERE,
    "checkpoint.keep": EVERYWHERE,
    "logging.views_every_epochs": TRAINING,
    "logging.embedded_images": TRAINING,
    "logging.wandb": TRAINED_RUN,
    "logging.mlflow": TRAINED_RUN,
}


def load_stage_config(
    stage: str,
    name: str,
    overrides: Sequence[str] = (),
    data: str | None = None,
    base: Mapping[str, Any] | None = None,
    own: Sequence[str] = (),
) -> Config:
    """Return what `load_config` does, if the stage uses everything that the command line sets.

    Args:
        stage: one of `CONFIGURED_STAGES`.
        name: of the configuration, see `load_config`.
        overrides: the arguments of `--set`.
        data: the folder given by `--data`.
        base: sections that an earlier stage determined.
        own: `key=value` of the stage's own options, such as `--head`.

    Raises:
        RequestError: see `load_config`; a key that the stage passes over; or one that `--set` and
            an option of its own set to different values.
    """
    path = [] if data is None else [f"data.path={json.dumps(data)}"]
    _require_one_value(overrides, [*own, *path])
    config = load_config(name, [*overrides, *own], data, base)
    before = load_config(name, (), data, base)
    for key in USES:
        value = attrgetter(key)
        if value(config) != value(before) and (reason := passed_over(key, stage, config)):
            raise RequestError(f"{key}: {stage} {reason}; leave it out")
    return config


def passed_over(key: str, stage: str, config: Config) -> str | None:
    """Return why a key changes nothing in a stage, or None if it is used."""
    use = USES[key]
    if stage not in use.stages:
        return f"does not use it, only {', '.join(use.stages)}"
    return None if use.holds(config, stage) else f"uses it only where {use.only_if}"


def _require_one_value(overrides: Sequence[str], own: Sequence[str]) -> None:
    """Refuse a key that both `--set` and another option set, to different values."""
    for option in own:
        key = option.partition("=")[0]
        value = _value_in(parse_override(option), key)
        for override in overrides:
            other = _value_in(parse_override(override), key)
            if other not in (None, value):
                raise RequestError(
                    f"{key}: {other!r} by --set, but {value!r} by an option of its own: give one"
                )


def _value_in(values: Any, key: str) -> Any:
    """Return the value of a dotted key in nested mappings, or None."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
