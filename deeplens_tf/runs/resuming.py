"""Going on with a run: which one, whether it may, and with what configuration."""

import contextlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config, save_config
from deeplens_tf.dataclass_parsing import to_plain
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import remove_drafts
from deeplens_tf.runs.checkpoints import FORMAT
from deeplens_tf.runs.identity import flattened
from deeplens_tf.runs.lock import hold, refuse_if_held
from deeplens_tf.runs.new_run import create_run, new_folder, require_free
from deeplens_tf.runs.run_folder import RUNS, Run
from deeplens_tf.terminal import print_lines

ELSEWHERE = "give --run-dir a new folder"
TRAINED_ON = ("train", "validation")


def point_to_run(arguments: Namespace, stage: str, default_config: str) -> None:
    """With `--resume`, name in the arguments the run and its own configuration.

    Raises:
        RequestError: there is no run to go on with.
    """
    if not arguments.resume:
        return
    if arguments.run_dir is None:
        arguments.run_dir = str(_newest_unfinished(stage).folder)
        print_lines(f"run: {arguments.run_dir}, the newest {stage} run to go on with")
    run = Run(Path(arguments.run_dir))
    if not run.config.is_file():
        raise RequestError(f"{run.folder}: no run to resume in it; start one without --resume")
    if arguments.config == default_config:
        arguments.config = str(run.config)


def continued(stage: str, config: Config, run_dir: str | None) -> Config:
    """Return the configuration with which the run in a folder goes on; unchanged for a new run.

    Args:
        stage: "pretrain" or "finetune".
        config: as asked for.
        run_dir: the run's folder, or None for a new one.

    Raises:
        RequestError: the folder holds something else, or a run of another configuration.
        ResourceError: another process is at it.
    """
    if run_dir is None or not Run(Path(run_dir)).config.is_file():
        return config
    run = Run(Path(run_dir))
    _require_resumable(stage, run)
    refuse_if_held(run.folder)
    before = run.load_config()
    optimizer = replace(config.optimizer, schedule_epochs=_horizon(before, config))
    config = replace(config, optimizer=optimizer)
    _require_same_run(run, before, config)
    return config


def is_finished(config: Config, run_dir: str | Path | None) -> bool:
    """Tell whether a run has done all its epochs and left its product; say so if it has."""
    run = Run(Path(run_dir or ""))
    finished = run.facts().get("finished") if run_dir else None
    if not isinstance(finished, Mapping) or finished.get("epochs") != config.train.epochs:
        return False
    product = run.folder / str(finished.get("product"))
    if product.is_file():
        print_lines(f"{product}: finished, {config.train.epochs} epochs; nothing to do")
    return product.is_file()


@contextlib.contextmanager
def claim_run(
    stage: str, name: str, config: Config, run_dir: str | None, facts: Mapping[str, Any]
) -> Iterator[Run]:
    """Hold a run's folder, a new one's or that of a run to go on with, for the block.

    Args:
        stage: "pretrain" or "finetune".
        name: the configuration's name.
        config: as `continued` returned it.
        run_dir: the folder, or None for a new one under `runs/`.
        facts: what only the stage knows of its run; they must be those that it began with.

    Raises:
        RequestError: the folder holds something else, or a run of another configuration or
            encoder.
        DataError: the images have changed.
        ResourceError: another process is at it, or it cannot be written to.
    """
    run = Run(Path(run_dir) if run_dir else new_folder(stage, name))
    if not run.config.is_file():
        require_free(run.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    with hold(run.folder):
        if run.config.is_file():
            _go_on(stage, run, config, facts)
        else:
            create_run(stage, name, config, str(run.folder), facts)
        yield run


def finish(run: Run, config: Config, product: Path) -> None:
    """Record that a run has done all its epochs and left its product."""
    run.add_facts({"finished": {"epochs": config.train.epochs, "product": product.name}})


def _newest_unfinished(stage: str) -> Run:
    runs = [Run(path.parent) for path in RUNS.glob("*/config.yaml")]
    known = {"stage": stage, "checkpoint_format": FORMAT}
    runs = [run for run in runs if known.items() <= _plain_facts(run).items()]
    if not runs:
        raise RequestError(f"no {stage} run under {RUNS}/ to resume: start one, or give --run-dir")
    # A finished one if there is no other, which will say so.
    return max(
        runs, key=lambda run: (run.facts().get("finished") is None, run.config.stat().st_mtime)
    )


def _plain_facts(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.facts().items() if isinstance(value, str | int)}


def _require_resumable(stage: str, run: Run) -> None:
    facts = run.facts()
    found = facts.get("checkpoint_format")
    if found is None:
        raise RequestError(
            f"{run.folder} is already in use, by a run without checkpoints: {ELSEWHERE}"
        )
    if found != FORMAT:
        raise RequestError(
            f"{run.folder} holds a run with checkpoints of format {found}, and this version reads "
            f"format {FORMAT}: go on with the version that began it, or {ELSEWHERE}"
        )
    if facts.get("stage") != stage:
        raise RequestError(f"{run.folder} holds a {facts.get('stage')} run: {ELSEWHERE}")


def _require_same_run(run: Run, before: Config, config: Config) -> None:
    if differing := _refused_changes(before, config):
        raise RequestError(
            f"{run.folder} holds a run of another configuration, by {', '.join(differing)}: "
            f"repeat its command, or {ELSEWHERE}"
        )


def _horizon(before: Config, config: Config) -> int | None:
    """Return the schedule's length: more epochs must not stretch what was begun."""
    asked = config.optimizer.schedule_epochs
    if asked not in (None, before.schedule_epochs):
        return asked
    longer = config.train.epochs != before.train.epochs
    return before.schedule_epochs if longer else before.optimizer.schedule_epochs


def _refused_changes(before: Config, after: Config) -> list[str]:
    """Return the keys, with both values, whose change would make it another run."""
    was, now = flattened(to_plain(before)), flattened(to_plain(after))
    if before.train.epochs < after.train.epochs:
        del was["train.epochs"], now["train.epochs"]
    if before.schedule_epochs == after.schedule_epochs:
        del was["optimizer.schedule_epochs"], now["optimizer.schedule_epochs"]
    return [
        f"{key} {_shown(was[key])} there, {_shown(now[key])} asked for"
        for key in was
        if was[key] != now[key] and not key.startswith("checkpoint.")
    ]


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def _go_on(stage: str, run: Run, config: Config, facts: Mapping[str, Any]) -> None:
    _require_resumable(stage, run)
    before = run.load_config()
    _require_same_run(run, before, config)  # another process may have begun it since it was read
    _require_same_origins(run, facts)
    remove_drafts(run.folder)
    if before == config:
        return
    run.add_facts({"finished": None})  # with more epochs to do, it no longer is
    save_config(config, run.config)
    if before.train.epochs < config.train.epochs and config.optimizer.schedule == "cosine":
        print_lines(
            f"the schedule keeps its {config.schedule_epochs} epochs: the rate of the epochs "
            "after them is 0"
        )


def _require_same_origins(run: Run, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with images or an encoder that the run did not begin with."""
    before = run.facts()
    for split in TRAINED_ON:
        if _differ(before, facts, "split_contents", split):
            raise DataError(
                f"{run.folder} began with other images, its {split} split is not that of now: "
                f"give it back those images, or {ELSEWHERE}"
            )
        # A run of an earlier version has no record of the order.
        if "split_orders" in before and _differ(before, facts, "split_orders", split):
            raise DataError(
                f"{run.folder} began with its {split} images in another order: prepare them as "
                f"they were, or {ELSEWHERE}"
            )
    if _differ(before, facts, "encoder", "sha256"):
        path = facts.get("encoder", {}).get("path")
        raise RequestError(
            f"{run.folder} began with another encoder than {path} is now: {ELSEWHERE}"
        )


def _differ(before: Mapping[str, Any], now: Mapping[str, Any], fact: str, key: str) -> bool:
    return before.get(fact, {}).get(key) != now.get(fact, {}).get(key)
