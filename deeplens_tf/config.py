"""The configuration of a run: YAML and `--set key=value` to typed, frozen dataclasses.

Defaults live in `configs/defaults.yaml` alone; every other file lists what it changes and why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from deeplens_tf.dataclass_parsing import Bounds, all_keys, parse_dataclass, to_plain, unknown_key
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.files.plain_yaml import parse_yaml

CONFIGS = Path(__file__).parent / "configs"
MAX_FILE_BYTES = 100_000
FROM_SCRATCH = "none"  # as `finetune.encoder`: random weights, the supervised baseline

Pretext = Literal["flip", "rot90", "rotation", "crop", "brightness", "gaussian_noise"]
Count = Annotated[int, Bounds(low=1, high=2**31 - 1)]
Fraction = Annotated[float, Bounds(low=0, high=1)]
NotNegative = Annotated[float, Bounds(low=0)]
Positive = Annotated[float, Bounds(above=0)]


@dataclass(frozen=True)
class DataConfig:
    """Where the images are and how they are brought to one form."""

    path: str
    image_size: Annotated[int, Bounds(low=8, high=4096)]
    fit: Literal["resize", "crop"]
    bands: Annotated[int, Bounds(low=1, high=1024)] | None
    validation_fraction: Annotated[float, Bounds(low=0, high=0.9)]
    strict: bool
    cache: str


@dataclass(frozen=True)
class RotationConfig:
    """Rotation by a random angle, uniform in ±degrees."""

    degrees: Annotated[float, Bounds(low=0, high=180)]


@dataclass(frozen=True)
class NoiseConfig:
    """Gaussian noise of a standard deviation in units of the image's range."""

    stddev: NotNegative


@dataclass(frozen=True)
class FlipConfig:
    """Random mirroring."""

    horizontal: bool
    vertical: bool


@dataclass(frozen=True)
class CropConfig:
    """Random resized crop: the smallest share of the image's area that is kept."""

    minimum_area: Annotated[float, Bounds(above=0, high=1)]


@dataclass(frozen=True)
class BrightnessConfig:
    """Random offset, uniform in ±maximum_change, in units of the image's range."""

    maximum_change: Fraction


@dataclass(frozen=True)
class AugmentConfig:
    """The pretexts that make a view, in order, and the settings of each."""

    views: tuple[Pretext, ...]
    rotation: RotationConfig
    gaussian_noise: NoiseConfig
    flip: FlipConfig
    crop: CropConfig
    brightness: BrightnessConfig


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder's name and what differs from that name's own options (null: its own)."""

    name: str
    patch_size: Count | None
    pooling: Literal["average", "class_token"] | None
    dropout: Annotated[float, Bounds(low=0, high=0.95)] | None
    stochastic_depth: Annotated[float, Bounds(low=0, high=0.95)] | None
    top_width: Annotated[int, Bounds(low=1, high=1024)] | None
    plain_top: bool | None

    def options(self) -> dict[str, Any]:
        """Return the options that are set, as `build_encoder` takes them."""
        return {
            key: value for key, value in vars(self).items() if key != "name" and value is not None
        }


@dataclass(frozen=True)
class ByolConfig:
    """BYOL's heads and the pace of its target network."""

    hidden_width: Count
    beta: Fraction
    schedule: Literal["cosine", "constant"]


@dataclass(frozen=True)
class TwinConfig:
    """The weight of the redundancy between dimensions."""

    off_diagonal_weight: NotNegative


@dataclass(frozen=True)
class SimsiamConfig:
    """The narrow middle of the predictor."""

    predictor_width: Count


@dataclass(frozen=True)
class InpaintingConfig:
    """How much is masked, and the decoder that restores it."""

    mask_ratio: Annotated[float, Bounds(above=0, high=0.99)]
    decoder_width: Count
    decoder_depth: Count
    decoder_heads: Count


@dataclass(frozen=True)
class PretrainConfig:
    """The self-supervised method, what the methods share and the settings of each."""

    method: Literal["contrastive", "byol", "twin", "simsiam", "inpainting"]
    temperature: Positive
    projection_width: Count
    probe_learning_rate: Positive
    probe_every_epochs: Count | None
    byol: ByolConfig
    twin: TwinConfig
    simsiam: SimsiamConfig
    inpainting: InpaintingConfig


@dataclass(frozen=True)
class FinetuneConfig:
    """The head, the encoder under it and the share of labels used."""

    head: Literal["classification", "regression"]
    likelihood: Literal["mse", "gaussian"]
    standardise: bool
    encoder: str | None
    freeze: bool
    fraction: Annotated[float, Bounds(above=0, high=1)]


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and the course of its learning rate."""

    name: Literal["adamw", "adam", "sgd"]
    learning_rate: Positive
    weight_decay: NotNegative
    schedule: Literal["cosine", "constant"]
    schedule_epochs: Count | None
    warmup_epochs: NotNegative
    clip_norm: Positive | None


@dataclass(frozen=True)
class TrainConfig:
    """How long, in what batches, and how it is computed."""

    epochs: Count
    batch_size: Count
    jit_compile: bool
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]


@dataclass(frozen=True)
class CheckpointConfig:
    """When everything is saved that a run needs to go on from there; none of it changes a result.

    A time of null, like a number of steps of null, is no reason to save.
    """

    every_steps: Count | None
    every_minutes: Positive | None
    keep: Count


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result."""

    seed: Annotated[int, Bounds(low=0, high=2**31 - 1)]
    data: DataConfig
    augment: AugmentConfig
    encoder: EncoderConfig
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    checkpoint: CheckpointConfig

    @property
    def schedule_epochs(self) -> int:
        """Epochs over which rates and momenta take their course."""
        return self.optimizer.schedule_epochs or self.train.epochs


def load_config(
    name: str,
    overrides: Sequence[str] = (),
    data: str | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Read a configuration, apply the command line's changes and check the whole.

    Args:
        name: a name in the package's `configs/`, or the path of a YAML file. What the file
            does not say is taken from `defaults.yaml`.
        overrides: words `key=value` as given to `--set`; values are YAML.
        data: the folder given by `--data`, which wins over `data.path`.
        base: sections that an earlier stage settled; they win over the package's own
            configurations, and give way to a file of the user's and to `overrides`.

    Raises:
        RequestError: no such configuration, not a mapping, an unknown key or a wrong value.
    """
    path = find_config(name)
    layers = [_read_yaml(path), base or {}]
    values: Mapping[str, Any] = _read_yaml(CONFIGS / "defaults.yaml")
    for layer in layers if path.parent == CONFIGS else reversed(layers):
        values = _merge(values, layer)
    for word in overrides:
        values = _merge(values, _parse_override(word))
    config = parse_dataclass(Config, values)
    return replace(config, data=replace(config.data, path=data)) if data else config


def save_config(config: Config, path: Path) -> None:
    """Write the complete configuration; `load_config(path)` gives the same one back."""
    header = "# The complete configuration of this run: pass this file to --config to repeat it.\n"
    content = (header + yaml.safe_dump(to_plain(config), sort_keys=False)).encode()
    write_whole(path, lambda file: file.write(content), durable=True)


def find_config(name: str) -> Path:
    """Return the file that `name`, a path or a name of the package's own, stands for.

    Raises:
        RequestError: there is none.
    """
    shipped = CONFIGS / f"{name}.yaml"
    if "/" not in name and shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise RequestError(f"no configuration {name!r}: give a YAML file or one of {names}")


def _read_yaml(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise RequestError(f"{path}: larger than {MAX_FILE_BYTES} bytes; no configuration")
    values = _parse_yaml(path.read_bytes(), str(path))
    if values is not None and not isinstance(values, Mapping):
        raise RequestError(f"{path}: a configuration is a mapping of keys, not {values!r:.80}")
    return values or {}


def _parse_yaml(text: str | bytes, where: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise RequestError(f"{where}: not YAML: {error}") from error


def _parse_override(word: str) -> Mapping[str, Any]:
    key, equals, text = word.partition("=")
    if not equals:
        raise RequestError(f"--set {word}: write it as key=value")
    # Checked here, since a wrong section would be refused under a name the user did not write.
    if key not in all_keys(Config):
        raise RequestError(unknown_key(key, all_keys(Config)))
    value = _parse_yaml(text, f"--set {word:.80}")
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
