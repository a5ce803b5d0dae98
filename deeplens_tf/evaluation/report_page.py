"""`report.html`: an evaluation on one page, for a reader without this package.

The page repeats what the other files of the report hold, beside pictures of scored images and the
run's configuration. Its size is bounded: a fixed number of figures of at most `MAX_FIGURE_BYTES`,
of small pictures, and of rows in a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deeplens_tf import __version__
from deeplens_tf.config import FROM_SCRATCH, Config, config_text
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.figure_texts import curves_text, figure_text
from deeplens_tf.evaluation.html_page import Page, Picture, Section, Table, html_of
from deeplens_tf.evaluation.metrics_file import quantities_of_report, target_of
from deeplens_tf.evaluation.origin_text import DIGEST_LENGTH, architecture_of
from deeplens_tf.evaluation.reference_commands import (
    references_of_model,
    references_of_probe,
    shell,
)
from deeplens_tf.evaluation.run_histories import read_histories
from deeplens_tf.evaluation.score_tables import (
    MAX_CLASSES,
    interval,
    number,
    score_name,
    score_tables,
)
from deeplens_tf.evaluation.scored_images import ScoredImages
from deeplens_tf.evaluation.shown_images import ShownImages, images_to_show
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import counted

MAX_FIGURE_BYTES = 2 << 20
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SCOPE = (
    "The intervals are of the choice of the test images. Another training with the same settings "
    "may differ by more."
)
COUNTS = {
    "n_test": "images scored",
    "n_left_out_trained": "left out: trained on with their labels",
    "n_left_out_copies": "left out when preparing: copies of other images",
    "n_chose_epoch": "scored, and used to choose the best epoch",
    "n_seen_unlabelled": "scored, and seen in pretraining without their labels",
    "n_unlike_training": "scored, and unlike the training images",
    "n_skipped_without_mass": "not scored: no mass",
    "n_skipped_without_value": "not scored: no value",
}


@dataclass(frozen=True)
class Evaluated:
    """What a page is about.

    Attributes:
        run: that was evaluated.
        config: of the evaluation.
        command: arguments of the stage `evaluate` that repeat it; None if Python called it.
    """

    run: Run
    config: Config
    command: Sequence[str] | None


def report_page(
    evaluated: Evaluated,
    metrics: Mapping[str, Any],
    predictions: pd.DataFrame,
    scored: ScoredImages,
    figures: Path,
) -> str:
    """Return the page of a report as HTML; the same evaluation gives the same text.

    Args:
        evaluated: what was evaluated.
        metrics: of the report.
        predictions: of the scored images, as in `predictions.csv`.
        scored: the same images, which are read again to show some of them.
        figures: folder of the report's figures.
    """
    shown = images_to_show(predictions, scored, metrics["head"])
    sections = [
        _results(metrics, figures),
        _mistakes(metrics, shown),
        _data(metrics, shown),
        _training(evaluated.run),
        _references(evaluated, metrics),
        _repeat(evaluated),
    ]
    quantities = quantities_of_report(metrics)
    headlines = [
        (score_name(key), number(metrics[key]), _in_words(interval(metrics, key)))
        for key in quantities
    ]
    split = f"{metrics['split']} split, {counted(metrics['n_test'], 'image')}"
    title = f"Evaluation of {evaluated.run.folder.name}"
    subtitle = f"{_what(metrics)} · {architecture_of(evaluated.config)} · {split}"
    return html_of(Page(title, subtitle, headlines, sections, f"deeplens_tf {__version__}"))


def _in_words(limits: str) -> str:
    return f"95 % interval {limits}" if limits else ""


def _what(metrics: Mapping[str, Any]) -> str:
    what = "Classification"
    if metrics["head"] == "regression":
        what = f"Regression of {target_of(metrics).label}"
    if "probe" in metrics:
        labels = counted(metrics["labels_used"], "label")
        what = f"{metrics['probe']} probe of the frozen encoder with {labels}: {what}"
    return what


def _results(metrics: Mapping[str, Any], figures: Path) -> Section:
    files = sorted(figures.glob("*.png"))
    pictures = [_figure(file, figure_text(file.stem, metrics)) for file in files]
    methods = list(metrics["interval_methods"].items())
    made = Table("How each interval is made", ["score", "method"], methods, folded=True)
    return Section(
        "results",
        "Scores",
        text=[SCOPE],
        tables=[*score_tables(metrics), made],
        pictures=[picture for picture in pictures if picture],
    )


def _figure(file: Path, alt: str) -> Picture | None:
    """Read a figure; None if there is none, or a file that is no PNG or too large."""
    if not file.is_file() or file.stat().st_size > MAX_FIGURE_BYTES:
        return None
    content = file.read_bytes()
    return Picture(alt, content) if content.startswith(PNG_SIGNATURE) else None


def _mistakes(metrics: Mapping[str, Any], shown: ShownImages) -> Section:
    title, text = "Largest errors", ["The largest error first."]
    if shown.n_mistakes is not None:
        total = counted(metrics["n_test"], "image")
        title, text = "Worst mistakes", [f"{shown.n_mistakes} of {total} are classified wrongly."]
        if shown.mistakes:
            text.append(f"The {len(shown.mistakes)} most confident ones, the worst first:")
    text += _unreadable(shown)
    return Section("mistakes", title, text=text, images=shown.mistakes)


def _unreadable(shown: ShownImages) -> list[str]:
    return [f"The images cannot be read again: {shown.error}"] if shown.error else []


def _data(metrics: Mapping[str, Any], shown: ShownImages) -> Section:
    origin = metrics["data"]
    own = "the run's own" if origin["own"] else "other data than the run's"
    text = [f"{origin['path']} ({own}), {metrics['split']} split.", *metrics["notes"]]
    rows = [[label, str(metrics[key])] for key, label in COUNTS.items() if key in metrics]
    checked = "yes" if metrics["overlap_checked"] else "no"
    rows.append(["all contents compared with those of the training", checked])
    rows.append(["digest of the data", str(origin["fingerprint"])[:DIGEST_LENGTH]])
    tables = [Table("Which images are scored", ["what", "value"], rows)]
    if "counts" in metrics:
        counts = list(metrics["counts"].items())[:MAX_CLASSES]
        of_class = [[name, str(count)] for name, count in counts]
        tables.append(Table("Images of each class", ["class", "images"], of_class))
    text += _unreadable(shown)
    said = "Some of the images, as the network sees them:"
    images = shown.samples
    return Section("data", "Data", text=text, tables=tables, images=images, images_text=said)


def _training(run: Run) -> Section:
    try:
        histories = list(read_histories([run.folder]).values())
    except RequestError as error:
        return Section("training", "Training", text=[str(error)])
    if not histories:
        return Section("training", "Training", text=["The run has no history.csv."])
    picture = _figure(run.figures / "training_curves.png", curves_text(histories[0]))
    last = [[str(key), f"{value:.4g}"] for key, value in histories[0].iloc[-1].items()]
    table = Table("Last epoch", ["quantity", "value"], last, folded=True)
    tables, pictures = [_setting_table(run), table], [picture] if picture else []
    return Section("training", "Training", tables=tables, pictures=pictures)


def _setting_table(run: Run) -> Table:
    """Return the settings that a reader asks for first; all are at the end of the page."""
    config, facts = run.load_config(), run.facts()
    encoder, stage = facts.get("encoder"), facts.get("stage")
    origin = encoder if isinstance(encoder, dict) else {}
    start = config.finetune.encoder if stage == "finetune" else config.pretrain.encoder
    rows = {
        "starts from": start if start not in (None, FROM_SCRATCH) else "random weights",
        "pretraining of it": origin.get("method"),
        "method": config.pretrain.method if stage == "pretrain" else None,
        "labels used": facts.get("labels_used"),
        "epochs": config.train.epochs,
        "batch size": config.train.batch_size,
        "learning rate": config.optimizer.learning_rate,
        "seed": config.seed,
    }
    shown = [[key, str(value)] for key, value in rows.items() if value is not None]
    return Table("How it was trained", ["setting", "value"], shown)


def _references(evaluated: Evaluated, metrics: Mapping[str, Any]) -> Section:
    run, config, used = evaluated.run, evaluated.config, evaluated.command or ()
    if "control" in metrics:
        return references_of_probe(run, config, metrics["head"], used)
    return references_of_model(run, config, metrics, used)


def _repeat(evaluated: Evaluated) -> Section:
    text, commands = [], []
    if evaluated.command is None:
        text = ["The evaluation was called from Python, with the settings below."]
    else:
        command = shell("evaluate", *evaluated.command)
        commands = [("In the folder in which the stage was started:", command)]
    lines = config_text(evaluated.config).splitlines()
    settings = ("All settings (YAML)", lines)
    return Section("repeat", "Settings and how to repeat", text, commands=commands, code=settings)
