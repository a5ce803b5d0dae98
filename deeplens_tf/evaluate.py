"""`python -m deeplens_tf.evaluate`: a fine-tuned model to metrics, predictions and figures."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplens_tf.cli import StageParser, add_set_option, run_stage, stage_parser
from deeplens_tf.config import Config, load_config
from deeplens_tf.data.folders import require_folder
from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import ENCODER, MODEL
from deeplens_tf.runs.run_folder import Run, newest_run
from deeplens_tf.startup import import_tensorflow
from deeplens_tf.terminal import print_lines


def parser() -> StageParser:
    """Return the stage's command line."""
    words = stage_parser("evaluate", "Score a fine-tuned model on every test image, once each.")
    words.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH",
        dest="run",
        help="the run to evaluate (without it: the newest fine-tuning run)",
    )
    words.add_argument(
        "--probe",
        choices=["linear", "knn"],
        help="probe the run's frozen encoder, and the same network untrained beside it, with the "
        "share of the labels that --set finetune.fraction=F names",
    )
    words.add_argument(
        "--head",
        choices=["classification", "regression"],
        default="classification",
        help="what the probe predicts; a fine-tuned run knows its own",
    )
    words.add_argument(
        "--data",
        metavar="PATH",
        help="score on these images, not the run's own; the report, which names them, replaces "
        "the one of the same split",
    )
    add_set_option(words)
    return words


def main(words: Sequence[str]) -> None:
    """Run the stage on the command line's words."""
    arguments = parser().parse_args(words)
    run = Run(Path(arguments.run)) if arguments.run else _newest(arguments.probe)
    run.load_config()
    if arguments.probe is None and not run.model.is_file():
        raise RequestError(
            f"{run.folder}: no {MODEL} in it; only a fine-tuned run has a head to evaluate "
            "(--probe linear measures an encoder)"
        )
    config = load_config(str(run.config), arguments.overrides, arguments.data)
    require_folder(Path(config.data.path))
    import_tensorflow()
    from deeplens_tf.evaluation.report_folder import summary_table

    folder, metrics = _measure(run, config, arguments)
    print_lines(*summary_table(metrics).split("\n"))
    print_lines(f"report: {folder}")


def _measure(run: Run, config: Config, arguments: Namespace) -> tuple[Path, dict[str, Any]]:
    from deeplens_tf.evaluation.model_report import evaluate
    from deeplens_tf.evaluation.probe_report import evaluate_probe
    from deeplens_tf.evaluation.report_folder import summary_table

    if arguments.probe is None:
        return evaluate(run, config)
    folder, metrics = evaluate_probe(run, config, arguments.head, arguments.probe)
    print_lines("control, the same network untrained:")
    print_lines(*summary_table(metrics["control"]).split("\n"))
    print_lines("pretrained:")
    return folder, metrics


def _newest(probe: str | None) -> Run:
    product, kind = (MODEL, "fine-tuning") if probe is None else (ENCODER, "pretraining")
    run = newest_run(product)
    if run is None:
        raise RequestError(f"no {kind} run under runs/: make one first, or give --run")
    unfinished = "" if run.facts().get("finished") else ", not finished: as far as it has come"
    print_lines(f"run: {run.folder}, the newest {kind} run{unfinished}")
    return run


if __name__ == "__main__":
    run_stage(main)
