"""The configuration of a run: YAML and `--set key=value`, parsed to typed, frozen dataclasses.

All defaults are in `configs/defaults.yaml`; each other file lists what it changes and why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from deeplens_tf.dataclass_parsing import (
    Bounds,
    Different,
    WholeOrName,
    all_keys,
    knows_key,
    parse_dataclass,
    to_plain,
    unknown_key,
)
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.files.plain_yaml import parse_yaml
from deeplens_tf.registry import augmentations, encoders, methods

CONFIGS = Path(__file__).parent / "configs"
DEFAULTS = "defaults.yaml"
MAX_CONFIG_BYTES = 100_000
FROM_SCRATCH = "none"  # value of `finetune.encoder` for random weights: the supervised baseline

Augmentations = Annotated[tuple[Annotated[str, augmentations], ...], Different()]
Fit = Literal["resize", "crop"]
Interval = Literal["minmax", "percentile", "zscale"]
Stretch = Literal["linear", "asinh", "log", "sqrt"]
Count = Annotated[int, Bounds(low=1, high=2**31 - 1)]
Fraction = Annotated[float, Bounds(low=0, high=1)]
NonNegative = Annotated[float, Bounds(low=0)]
POSITIVE = Bounds(above=0)
Positive = Annotated[float, POSITIVE]
Hdu = Annotated[Any, WholeOrName()]
IMAGE_SIZE = Bounds(low=8, high=4096)
VALIDATION_FRACTION = Bounds(low=0, high=0.9)
MAX_UNNAMED_BANDS = 10  # a longer axis counts bands only where `data.bands` is its length


@dataclass(frozen=True)
class DataConfig:
    """Where the images are and how they are converted to one size, range and number of bands.

    Null for `image_size`, `fit`, `band_names`, `pixel_scale_arcsec`, `fits_hdu`, `hdf5_dataset`,
    `stacks`, `band_files` or `validation_fraction`, and for all keys of the scale of values, is the
    folder's own, see `data.folder_settings`.
    """

    path: str
    image_size: Annotated[int, IMAGE_SIZE] | None
    fit: Fit | None
    bands: Annotated[int, Bounds(low=1, high=1024)] | None
    band_names: tuple[str, ...] | None
    pixel_scale_arcsec: Positive | None
    resample_to_arcsec: Positive | None
    fits_hdu: Hdu | None
    hdf5_dataset: str | None
    stacks: bool | None
    band_files: str | None
    interval: Interval | None
    percentiles: tuple[float, float] | None
    stretch: Stretch | None
    asinh_softening: Positive | None
    scale_bands: Literal["together", "each"] | None
    scale_over: Literal["image", "data"] | None
    max_nan_fraction: Annotated[float, Bounds(low=0, high=0.5)] | None
    nan_fill: Literal["median", "minimum", "zero"] | None
    mixed_sizes: bool
    other_bands: bool
    validation_fraction: Annotated[float, VALIDATION_FRACTION] | None
    catalog: str | None
    catalog_columns: Mapping[str, str | None]
    strict: bool
    cache: str
    in_memory: bool | None


@dataclass(frozen=True)
class RotationConfig:
    """Rotation by a random angle, uniform in ±degrees, and how the pixels are interpolated."""

    degrees: Annotated[float, Bounds(low=0, high=180)]
    interpolation: Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class NoiseConfig:
    """Gaussian noise; the standard deviation is in units of the image's range."""

    stddev: NonNegative


@dataclass(frozen=True)
class BackgroundNoiseConfig:
    """Gaussian noise; the standard deviation is in units of each image's own background noise."""

    factor: NonNegative


@dataclass(frozen=True)
class JitterConfig:
    """Random shift, uniform in ±pixels, in whole pixels."""

    pixels: Annotated[int, Bounds(low=0, high=1024)]


@dataclass(frozen=True)
class FlipConfig:
    """Random mirroring."""

    horizontal: bool
    vertical: bool


@dataclass(frozen=True)
class CropConfig:
    """Random resized crop: the minimum fraction of the image's area that is kept."""

    minimum_area: Annotated[float, Bounds(above=0, high=1)]


@dataclass(frozen=True)
class BrightnessConfig:
    """Random offset, uniform in ±maximum_change, in units of the image's range."""

    maximum_change: Fraction


@cache
def _default_augment() -> "AugmentConfig":
    """Return the section of defaults.yaml, which is read when a default is first needed."""
    section = _read_yaml(CONFIGS / DEFAULTS)["augment"]
    return parse_dataclass(AugmentConfig, section, "augment")


def _default(key: str) -> Any:
    return getattr(_default_augment(), key)


@dataclass(frozen=True)
class AugmentConfig:
    """The augmentations that make a view, in their order, and the settings of each.

    `view_2` are those of the second view (None: those of the first), `probability` is that of a
    named augmentation (1 if it is not named), and `options` are those of one that a plugin
    registers. Each default is that of `configs/defaults.yaml`, so `AugmentConfig(views=("flip",))`
    in Python is the same as `augment: {views: [flip]}` in a file.
    """

    views: Augmentations = field(default_factory=partial(_default, "views"))
    view_2: Augmentations | None = field(default_factory=partial(_default, "view_2"))
    probability: Mapping[str, Fraction] = field(default_factory=partial(_default, "probability"))
    rotation: RotationConfig = field(default_factory=partial(_default, "rotation"))
    gaussian_noise: NoiseConfig = field(default_factory=partial(_default, "gaussian_noise"))
    background_noise: BackgroundNoiseConfig = field(
        default_factory=partial(_default, "background_noise")
    )
    jitter: JitterConfig = field(default_factory=partial(_default, "jitter"))
    flip: FlipConfig = field(default_factory=partial(_default, "flip"))
    crop: CropConfig = field(default_factory=partial(_default, "crop"))
    brightness: BrightnessConfig = field(default_factory=partial(_default, "brightness"))
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=partial(_default, "options"))


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder's name and its options (null: the default of that encoder).

    `options` are those of an encoder that a plugin registers.
    """

    name: Annotated[str, encoders]
    patch_size: Count | None
    pooling: Literal["average", "class_token"] | None
    dropout: Annotated[float, Bounds(low=0, high=0.95)] | None
    stochastic_depth: Annotated[float, Bounds(low=0, high=0.95)] | None
    top_width: Annotated[int, Bounds(low=1, high=1024)] | None
    plain_top: bool | None
    options: Mapping[str, Any]

    def arguments(self) -> dict[str, Any]:
        """Return the options that are set, as keyword arguments of `build_encoder`.

        Raises:
            RequestError: an option that the encoder does not have, or one with a wrong value.
        """
        own = {k: v for k, v in vars(self).items() if k not in ("name", "options")}
        given = {key: value for key, value in own.items() if value is not None}
        for key in given.keys() & self.options.keys():
            raise RequestError(f"encoder.{key} and encoder.options.{key} are the same: set one")
        return given | encoders.entry(self.name).checked(self.options, "encoder.options.", given)


@dataclass(frozen=True)
class ContrastiveConfig:
    """The projection head of contrastive learning, see `models.contrastive`."""

    projector: Literal["plain", "batch_norm"]


@dataclass(frozen=True)
class NeighboursConfig:
    """When batches are made of neighbours: after some epochs, renewed every few epochs."""

    first_epochs: Count
    every_epochs: Count


@dataclass(frozen=True)
class ByolConfig:
    """BYOL's heads and the momentum of its target network."""

    hidden_width: Count
    beta: Fraction
    schedule: Literal["cosine", "constant"]


@dataclass(frozen=True)
class TwinConfig:
    """The weight of the redundancy term, off the diagonal of the cross-correlation matrix."""

    off_diagonal_weight: NonNegative


@dataclass(frozen=True)
class SimsiamConfig:
    """The predictor's bottleneck."""

    predictor_width: Count


@dataclass(frozen=True)
class InpaintingConfig:
    """The fraction of patches that is masked, and the decoder that reconstructs them."""

    mask_ratio: Annotated[float, Bounds(above=0, high=0.99)]
    decoder_width: Count
    decoder_depth: Count
    decoder_heads: Count


@dataclass(frozen=True)
class PretrainConfig:
    """The self-supervised method, the settings that methods share, and those of each method.

    `options` are those of a method that a plugin registers.
    """

    method: Annotated[str, methods]
    encoder: str | None
    positives: Literal["object", "image"]
    stream: bool
    negatives: Literal["random", "neighbours"]
    temperature: Positive
    projection_width: Count
    keep_tokens: Annotated[float, Bounds(above=0, high=1)]
    probe_learning_rate: Positive
    probe_on: Literal["view_1", "image"]
    probe_every_epochs: Count | None
    neighbours: NeighboursConfig
    contrastive: ContrastiveConfig
    byol: ByolConfig
    twin: TwinConfig
    simsiam: SimsiamConfig
    inpainting: InpaintingConfig
    options: Mapping[str, Any]


@dataclass(frozen=True)
class FinetuneConfig:
    """The head, the encoder below it and the fraction of the labels to use."""

    head: Literal["classification", "regression"]
    target: str | None
    log10: bool
    target_unit: str | None
    likelihood: Literal["mse", "gaussian"]
    standardise: bool
    encoder: str | None
    freeze: bool
    head_epochs: Annotated[int, Bounds(low=0, high=2**31 - 1)]
    encoder_rate: Positive
    layer_decay: Annotated[float, Bounds(above=0, high=1)]
    class_weight: Literal["none", "balanced", "auto"]
    fraction: Annotated[float, Bounds(above=0, high=1)]


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its learning rate schedule."""

    name: Literal["adamw", "adam", "sgd"]
    learning_rate: Positive
    weight_decay: NonNegative
    momentum: Annotated[float, Bounds(low=0, below=1)]
    schedule: Literal["cosine", "constant"]
    schedule_epochs: Count | None
    warmup_epochs: NonNegative
    clip_norm: Positive | None

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Return the length of the warm-up in steps; `warmup_epochs` may be a fraction."""
        steps = round(self.warmup_epochs * steps_per_epoch)
        return max(steps, 1) if self.warmup_epochs else 0


@dataclass(frozen=True)
class TrainConfig:
    """Number of epochs, batch size and how a step is computed.

    Null for `batch_size` and `jit_compile` depends on the number of images, see
    `training.batch_size` and `training.compilation`.
    """

    epochs: Count
    batch_size: Count | None
    validate_every_epochs: Count
    jit_compile: bool | None
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]

    def validates(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, ends with a validation; the last one does."""
        return (epoch + 1) % self.validate_every_epochs == 0 or epoch + 1 == self.epochs


@dataclass(frozen=True)
class CheckpointConfig:
    """How often checkpoints are saved and how many are kept; this changes no result.

    Null for `every_steps` or `every_minutes` turns that trigger off.
    """

    every_steps: Count | None
    every_minutes: Positive | None
    keep: Count


@dataclass(frozen=True)
class LoggingConfig:
    """What is logged besides `history.csv` and the curves in TensorBoard; this changes no result.

    Null turns a key's logging off.
    """

    views_every_epochs: Count | None
    embedded_images: Count | None
    wandb: str | None
    mlflow: str | None


@dataclass(frozen=True)
class Config:
    """The complete configuration of a run."""

    seed: Annotated[int, Bounds(low=0, high=2**31 - 1)]
    data: DataConfig
    augment: AugmentConfig
    encoder: EncoderConfig
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    checkpoint: CheckpointConfig
    logging: LoggingConfig

    @property
    def schedule_epochs(self) -> int:
        """Length in epochs of the schedules of the learning rate and of BYOL's momentum."""
        return self.optimizer.schedule_epochs or self.train.epochs

    @property
    def batch_size(self) -> int:
        """Images per batch, of a configuration in which that is not null.

        Raises:
            ValueError: it is null, see `training.batch_size`.
        """
        if self.train.batch_size is None:
            raise ValueError("train.batch_size is not known before the images are counted")
        return self.train.batch_size


def load_config(
    name: str,
    overrides: Sequence[str] = (),
    data: str | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Read a configuration, apply the changes of the command line and check the result.

    Args:
        name: a name in the package's `configs/`, or the path of a YAML file. Keys that the file
            does not contain are taken from `defaults.yaml`.
        overrides: the arguments of `--set`, each `key=value` with a value in YAML.
        data: the folder given by `--data`; it overrides `data.path`.
        base: sections that an earlier stage determined. They override the package's own
            configurations; the user's file and `overrides` override them.

    Raises:
        RequestError: no such configuration, not a mapping, an unknown key or a wrong value.
    """
    path = find_config(name)
    layers = [_read_yaml(path), base or {}]
    values: Mapping[str, Any] = _read_yaml(CONFIGS / DEFAULTS)
    for layer in layers if path.parent == CONFIGS else reversed(layers):
        values = _merge(values, layer)
    for override in overrides:
        values = _merge(values, parse_override(override))
    config = parse_dataclass(Config, values)
    return replace(config, data=replace(config.data, path=data)) if data else config


def save_config(config: Config, path: Path) -> None:
    """Write the complete configuration; `load_config(path)` returns an equal one."""
    header = "# The complete configuration of this run: pass this file to --config to repeat it.\n"
    content = (header + config_text(config)).encode()
    write_whole(path, lambda file: file.write(content), durable=True)


def config_text(config: Config) -> str:
    """Return the complete configuration as YAML, sections in their documented order."""
    return str(yaml.safe_dump(to_plain(config), sort_keys=False))


def find_config(name: str) -> Path:
    """Return the file that `name` refers to: a configuration of the package, or a path.

    Raises:
        RequestError: there is no such file.
    """
    shipped = CONFIGS / f"{name}.yaml"
    if "/" not in name and shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise RequestError(f"no configuration {name!r}: give a YAML file or one of {names}")


def keys_of_file(name: str) -> list[str]:
    """Return the keys, such as data.path, that a user's file sets; none of a shipped name.

    Args:
        name: see `load_config`.

    Raises:
        RequestError: no such configuration, or not a mapping.
    """
    path = find_config(name)
    sections = {} if path.parent == CONFIGS else _read_yaml(path)
    found = ((section, keys) for section, keys in sections.items() if isinstance(keys, Mapping))
    return [f"{section}.{key}" for section, keys in found for key in keys]


def _read_yaml(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise RequestError(
            f"{path}: larger than {MAX_CONFIG_BYTES} bytes, the limit for a configuration"
        )
    values = _parse_yaml(path.read_bytes(), str(path))
    if values is not None and not isinstance(values, Mapping):
        raise RequestError(f"{path}: a configuration is a mapping of keys, not {values!r:.80}")
    return values or {}


def _parse_yaml(text: str | bytes, where: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise RequestError(f"{where}: not YAML: {error}") from error


def parse_override(override: str) -> Mapping[str, Any]:
    """Return an argument of `--set` as nested mappings, as a file would contain it.

    Raises:
        RequestError: not `key=value`, an unknown key, or a value that is not YAML.
    """
    key, equals, text = override.partition("=")
    if not equals:
        raise RequestError(f"--set {override}: write it as key=value")
    # Checked here: the merged mapping would be refused under a name that the user did not write.
    if not knows_key(Config, key):
        raise RequestError(unknown_key(key, all_keys(Config)))
    value = _parse_yaml(text, f"--set {override:.80}")
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
