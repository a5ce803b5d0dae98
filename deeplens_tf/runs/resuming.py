"""Resuming a run: which one, whether it may be resumed, and with what configuration."""

import contextlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config, save_config
from deeplens_tf.dataclass_parsing import to_plain
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import remove_drafts
from deeplens_tf.runs.checkpoints import CHECKPOINT_FORMAT
from deeplens_tf.runs.identity import flattened
from deeplens_tf.runs.lock import hold, refuse_if_held
from deeplens_tf.runs.new_run import create_run, new_folder, require_free
from deeplens_tf.runs.provenance import thread_count
from deeplens_tf.runs.run_folder import RUNS, Run, start_of
from deeplens_tf.terminal import counted, print_lines

NEW_FOLDER = "give --run-dir a new folder"
TRAINED_ON = ("train", "validation")
CHANGEABLE = ("checkpoint.", "logging.", "data.in_memory")  # keys on which no result depends


@dataclass(frozen=True)
class OpenedRun:
    """What a stage needs to start or to resume a run.

    Attributes:
        config: the configuration to train with.
        finished: whether the run has completed all its epochs, so that nothing is left to do.
    """

    config: Config
    finished: bool


def point_to_run(arguments: Namespace, stage: str, default_config: str) -> None:
    """Set `config` of the arguments if it is None; with `--resume`, to that of the run to resume.

    Raises:
        RequestError: there is no run to resume.
    """
    if not arguments.resume:
        arguments.config = arguments.config or default_config
        return
    if arguments.run_dir is None:
        arguments.run_dir = str(_newest_unfinished(stage).folder)
        print_lines(f"run: {arguments.run_dir}, the newest {stage} run to resume")
    run = Run(Path(arguments.run_dir))
    if not run.config.is_file():
        raise RequestError(f"{run.folder}: no run to resume in it; start one without --resume")
    arguments.config = arguments.config or str(run.config)


def open_run(stage: str, config: Config, run_dir: str | None) -> OpenedRun:
    """Check whether a folder's run can be started or resumed with a configuration.

    It takes no lock and writes nothing; `claim_run` checks again under the lock. A finished run is
    reported on standard output.

    Args:
        stage: "pretrain" or "finetune".
        config: the requested configuration.
        run_dir: the run's folder, or None for a new run.

    Raises:
        RequestError: the folder contains a run of another stage or configuration, or one that
            an earlier version started.
        ResourceError: another process is using the run.
    """
    if run_dir is None or not Run(Path(run_dir)).config.is_file():
        return OpenedRun(config, finished=False)
    run = Run(Path(run_dir))
    _require_resumable(stage, run)
    refuse_if_held(run.folder)
    stored = run.load_config()
    config = _completed(config, stored)
    _require_same_run(run, stored, config)
    return OpenedRun(config, report_if_finished(run, config))


def report_if_finished(run: Run, config: Config) -> bool:
    """Return whether a run has completed all its epochs and its product exists; print it if so."""
    finished = run.facts().get("finished")
    if not isinstance(finished, Mapping) or finished.get("epochs") != config.train.epochs:
        return False
    product = run.folder / str(finished.get("product"))
    if product.is_file():
        print_lines(f"{product}: finished, {counted(config.train.epochs, 'epoch')}; nothing to do")
    return product.is_file()


@contextlib.contextmanager
def claim_run(
    stage: str, name: str, config: Config, run_dir: str | None, facts: Mapping[str, Any]
) -> Iterator[Run]:
    """Hold the folder of a new run, or of a run to resume, during the block.

    Args:
        stage: "pretrain" or "finetune".
        name: the configuration's name.
        config: as returned by `open_run`.
        run_dir: the folder, or None for a new one under `runs/`.
        facts: what the stage adds to environment.json; the images and the encoder among them must
            be those with which the run started.

    Raises:
        RequestError: the folder contains something else, a run of another configuration or
            encoder, or one that an earlier version started.
        DataError: the images have changed.
        ResourceError: another process is using the run, or the folder cannot be written to.
    """
    run = Run(Path(run_dir) if run_dir else new_folder(stage, name))
    if not run.config.is_file():
        require_free(run.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    with hold(run.folder):
        if run.config.is_file():
            _resume(stage, run, config, facts)
        else:
            create_run(stage, name, config, str(run.folder), facts)
            _report_rate_of_zero(config)
        yield run


def finish(run: Run, config: Config, product: Path) -> None:
    """Record that a run has completed all its epochs and written its product."""
    run.add_facts({"finished": {"epochs": config.train.epochs, "product": product.name}})


def _newest_unfinished(stage: str) -> Run:
    runs = [Run(path.parent) for path in RUNS.glob("*/config.yaml")]
    runs = [run for run in runs if _is_resumable(stage, run)]
    if not runs:
        raise RequestError(f"no {stage} run under {RUNS}/ to resume: start one, or give --run-dir")
    # If all are finished, the newest of them: opening it reports that.
    return max(
        runs, key=lambda run: (run.facts().get("finished") is None, start_of(run, run.config))
    )


def _is_resumable(stage: str, run: Run) -> bool:
    facts = run.facts()
    return facts.get("stage") == stage and facts.get("checkpoint_format") == CHECKPOINT_FORMAT


def _require_resumable(stage: str, run: Run) -> None:
    facts = run.facts()
    found = facts.get("checkpoint_format")
    if found is None:
        raise RequestError(
            f"{run.folder} is already in use, by a run without checkpoints: {NEW_FOLDER}"
        )
    if found != CHECKPOINT_FORMAT:
        raise RequestError(
            f"{run.folder} contains a run with checkpoints of format {found}, but this version "
            f"reads format {CHECKPOINT_FORMAT}: resume with the version that started it, or "
            f"{NEW_FOLDER}"
        )
    if facts.get("stage") != stage:
        raise RequestError(f"{run.folder} contains a {facts.get('stage')} run: {NEW_FOLDER}")


def _require_same_run(run: Run, stored: Config, config: Config) -> None:
    if differing := _refused_changes(stored, config):
        raise RequestError(
            f"{run.folder} contains a run of another configuration, with {', '.join(differing)}: "
            f"repeat its command, or {NEW_FOLDER}"
        )


def _completed(config: Config, stored: Config) -> Config:
    """Return the requested configuration with what it leaves to the run as in the stored one."""
    optimizer = replace(config.optimizer, schedule_epochs=_schedule_epochs(stored, config))
    left_open = {
        key: getattr(stored.train, key)
        for key in ("batch_size", "jit_compile")
        if getattr(config.train, key) is None
    }
    return replace(config, optimizer=optimizer, train=replace(config.train, **left_open))


def _schedule_epochs(stored: Config, requested: Config) -> int | None:
    """Return the schedule's length: more epochs must not stretch a schedule that has started."""
    given = requested.optimizer.schedule_epochs
    if given not in (None, stored.schedule_epochs):
        return given
    raised = requested.train.epochs != stored.train.epochs
    return stored.schedule_epochs if raised else stored.optimizer.schedule_epochs


def _refused_changes(stored: Config, requested: Config) -> list[str]:
    """Return the keys, with both values, that may not change when a run is resumed."""
    old, new = _comparable(stored), _comparable(requested)
    if stored.train.epochs < requested.train.epochs:
        del old["train.epochs"]
    return [
        f"{key} {_as_yaml(value)} (requested: {_as_yaml(new[key])})"
        for key, value in old.items()
        if value != new[key] and not key.startswith(CHANGEABLE)
    ]


def _comparable(config: Config) -> dict[str, Any]:
    settings = flattened(to_plain(config))
    return settings | {"optimizer.schedule_epochs": config.schedule_epochs}


def _as_yaml(value: object) -> str:
    return "null" if value is None else str(value)


def _resume(stage: str, run: Run, config: Config, facts: Mapping[str, Any]) -> None:
    _require_resumable(stage, run)
    stored = run.load_config()
    _require_same_run(run, stored, config)  # another process may have started it since `open_run`
    _require_same_origins(run, facts)
    _report_other_threads(run)
    remove_drafts(run.folder)
    if stored == config:
        return
    run.add_facts({"finished": None})  # there are more epochs to do
    save_config(config, run.config)
    if stored.train.epochs < config.train.epochs:
        _report_rate_of_zero(config)


def _report_other_threads(run: Run) -> None:
    """Say that a resumed run will not be equal bit for bit to an uninterrupted one."""
    before, now = run.facts().get("threads"), thread_count()
    if before not in (None, now):  # earlier versions did not record it
        print_lines(
            f"{run.folder} started with {before} threads and goes on with {now}: sums are rounded "
            "differently, so the last digits differ from those of an uninterrupted run; "
            f"TF_NUM_INTRAOP_THREADS={before} keeps them equal"
        )


def _report_rate_of_zero(config: Config) -> None:
    if config.optimizer.schedule == "cosine" and config.schedule_epochs < config.train.epochs:
        print_lines(
            f"the schedule has {counted(config.schedule_epochs, 'epoch')}: in the epochs after "
            "them the learning rate is 0"
        )


def _require_same_origins(run: Run, facts: Mapping[str, Any]) -> None:
    """Refuse images or an encoder other than those with which the run started."""
    stored = run.facts()
    for split in TRAINED_ON:
        if _differ(stored, facts, "split_contents", split):
            raise DataError(
                f"{run.folder} started with other images, its {split} split has changed: restore "
                f"those images, or {NEW_FOLDER}"
            )
        # Runs of earlier versions did not record the order.
        if "split_orders" in stored and _differ(stored, facts, "split_orders", split):
            raise DataError(
                f"{run.folder} started with its {split} images in another order: prepare them as "
                f"before, or {NEW_FOLDER}"
            )
        if "target_values" in stored and _differ(stored, facts, "target_values", split):
            raise DataError(
                f"{run.folder} started with other values of finetune.target for its {split} "
                f"images: restore the catalogue, or {NEW_FOLDER}"
            )
    # The same images, but other views: an earlier version prepared them without a margin.
    started, now = (each.get("image_margin") for each in (stored, facts))
    if started not in (None, now):
        raise DataError(
            f"{run.folder} started with views from images with a margin of {started} pixels, now "
            f"{now}: prepare them as before, or {NEW_FOLDER}"
        )
    if stored.get("stream") != facts.get("stream"):
        raise DataError(
            f"{run.folder} started with other new lenses, its data folder has another simulation "
            f"now: restore it, or {NEW_FOLDER}"
        )
    _require_same_weights(run, stored, facts)
    if _differ(stored, facts, "encoder", "sha256"):
        path = facts.get("encoder", {}).get("path")
        raise RequestError(
            f"{run.folder} started with another encoder than {path} is now: {NEW_FOLDER}"
        )


def _require_same_weights(run: Run, stored: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Refuse class weights that a run of an earlier version started without."""
    if facts.get("class_weights") and not stored.get("class_weights"):
        raise RequestError(
            f"{run.folder} was started by an earlier version, without the class weights of "
            f"finetune.class_weight auto: {NEW_FOLDER}"
        )


def _differ(stored: Mapping[str, Any], now: Mapping[str, Any], fact: str, key: str) -> bool:
    return stored.get(fact, {}).get(key) != now.get(fact, {}).get(key)
