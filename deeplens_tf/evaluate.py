"""`python -m deeplens_tf.evaluate`: metrics, predictions and figures of a fine-tuned model."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplens_tf.cli import (
    StageParser,
    add_catalog_option,
    add_plugin_option,
    add_set_option,
    catalog_override,
    run_stage,
    stage_parser,
)
from deeplens_tf.config import Config
from deeplens_tf.data.folder_settings import with_folder_settings, without_settings_of
from deeplens_tf.data.folders import require_folder
from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import ENCODER, MODEL, without_product
from deeplens_tf.option_use import EVALUATE, PROBE, load_stage_config
from deeplens_tf.runs.run_folder import Run, require_newest_run
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import print_lines

TARGET_KEYS = ("finetune.target", "finetune.log10")


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "evaluate",
        "Score a fine-tuned model, or with --probe a frozen encoder, on every test image once. "
        "Example: python -m deeplens_tf.evaluate --run runs/classifier --data other_images",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH",
        dest="run",
        help="the run to evaluate (without it: the newest fine-tuning run; with --probe the newest "
        "pretraining run)",
    )
    parser.add_argument(
        "--probe",
        choices=["linear", "knn"],
        help="probe the frozen encoder of the run, and the same network untrained for comparison, "
        "with the fraction of the labels given by --set finetune.fraction=F",
    )
    parser.add_argument(
        "--head",
        choices=["classification", "regression"],
        help="what the probe predicts (default: classification); a fine-tuned run has its own",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="score on these images instead of the run's own: their test split, or all of them, in "
        "a report of their own",
    )
    add_catalog_option(parser)
    add_set_option(parser)
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    run = Run(Path(arguments.run)) if arguments.run else _newest(arguments.probe)
    own = run.load_config()
    if arguments.probe is None and not run.model.is_file():
        missing = f"no {MODEL} in it; only a fine-tuned run has a head to evaluate"
        advice = f"{missing} (--probe linear measures an encoder)"
        raise RequestError(without_product(run.folder, advice))
    _check_head(run, arguments)
    stage = PROBE if arguments.probe else EVALUATE
    words, table = arguments.overrides, catalog_override(arguments)
    config = load_stage_config(stage, str(run.config), words, arguments.data, own=table)
    config = with_folder_settings(without_settings_of(own.data, config, [*words, *table]))
    require_folder(Path(config.data.path))
    import_for_stage()
    from deeplens_tf.evaluation.report_folder import summary_table

    arguments.command = [*argv, *([] if arguments.run else ["--run", str(run.folder)])]
    folder, metrics = _evaluate(run, config, arguments)
    if "control" in metrics:
        of_control = summary_table(metrics["control"]).split("\n")
        print_lines("control, the same network untrained:", *of_control, "pretrained:")
    print_lines(*summary_table(metrics).split("\n"))
    print_lines(f"report: {folder}")


def _evaluate(run: Run, config: Config, arguments: Namespace) -> tuple[Path, dict[str, Any]]:
    if arguments.probe is None:
        from deeplens_tf.evaluation.model_report import evaluate_run

        return evaluate_run(run, config, arguments.command)
    from deeplens_tf.evaluation.probe_report import evaluate_probe

    kind, command = arguments.probe, arguments.command
    return evaluate_probe(run, config, arguments.head or "classification", kind, command)


def _newest(probe: str | None) -> Run:
    if probe is None:
        return require_newest_run(MODEL, "fine-tuning")
    return require_newest_run(ENCODER, "pretraining")


def _check_head(run: Run, arguments: Namespace) -> None:
    """Refuse a head that the model of the run does not have, and a target without a regression.

    Raises:
        RequestError: the run has another one, or is no run.
    """
    target = [word for word in arguments.overrides if word.startswith(TARGET_KEYS)]
    if target and arguments.head != "regression":
        raise RequestError(f"{target[0]}: only a probe of a regression uses it: --head regression")
    own = run.load_config().finetune.head
    if arguments.probe is None and arguments.head not in (None, own):
        raise RequestError(
            f"--head {arguments.head}: the head of {run.folder} is for {own}; leave --head out, "
            "or give --probe"
        )


if __name__ == "__main__":
    run_stage(main)
