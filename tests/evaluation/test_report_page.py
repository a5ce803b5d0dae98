"""`report.html`: complete without anything else, safe with hostile names, the same each time."""

import base64
import io
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from deeplens_tf import evaluate, finetune
from deeplens_tf.config import load_config
from deeplens_tf.evaluation import shown_images
from deeplens_tf.evaluation.html_page import Page, Picture, Section, Table, html_of
from deeplens_tf.evaluation.known_references import known_references
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.evaluation.probe_report import evaluate_probe
from deeplens_tf.evaluation.shown_images import largest_errors, sample_of_each, wrong_classes
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.runs.run_folder import Run
from tests.conftest import write_blobs
from tests.evaluation.runs import finetuned, write_masses
from tests.models.tiny import SIZES

VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = "<script>alert(1)</script>"
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction"}


class Parsed(HTMLParser):
    """The elements of a page, which must be closed in the reverse of the order they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def lines(self):
        return "".join(self.words)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def require_self_contained(text):
    """Check what holds for every page; return its elements."""
    page = Parsed(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        for name in LOADING & attributes.keys():
            target = attributes[name]
            inside = target.startswith("#") and target[1:] in ids
            assert inside or (tag == "img" and target.startswith("data:image/png;base64,")), target
    for image in page.all("img"):
        assert image["alt"].strip()
        content = base64.b64decode(image["src"].partition(",")[2], validate=True)
        assert matplotlib.image.imread(io.BytesIO(content), format="png").size
    assert not page.all("script")
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert "url(" not in text.split("</style>")[0]
    assert "@import" not in text
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    assert len(page.all("th")) == sum("scope" in cell for cell in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    anchors = page.all("a")
    assert anchors[0] == {"class": "skip", "href": "#content"}
    return page


@pytest.fixture
def folder(tmp_path):
    """Six images of each class, with masses for one class, and a test split of five."""
    for name, count, seed in (("lenses", 6, 0), ("lenses_test", 5, 1)):
        folder = write_blobs(tmp_path / name, count, seed)
        write_masses(folder, "axion", count, seed)
    return tmp_path / "lenses"


def configured(folder, head):
    overrides = [f"finetune.head={head}", "data.image_size=16", f"data.cache={folder.parent}/cache"]
    return load_config("finetune", overrides, str(folder))


def test_a_classifier_has_a_page_with_its_scores_figures_and_mistakes(folder, tmp_path):
    config = configured(folder, "classification")
    run = finetuned(tmp_path / "run", config)
    report, metrics = evaluate_run(run, config)
    page = require_self_contained((report / "report.html").read_text())
    low, high = metrics["intervals_95"]["accuracy"]
    assert f"{metrics['accuracy']:.4f} 95 % interval [{low:.4f}, {high:.4f}]" in page.text
    pictures = [image["src"].partition(",")[2] for image in page.all("img")]
    for figure in sorted((report / "figures").glob("*.png")):
        assert base64.b64encode(figure.read_bytes()).decode() in pictures
    predictions = pd.read_csv(report / "predictions.csv")
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    assert 0 < len(wrong) < 15
    alts = " ".join(image["alt"] for image in page.all("img"))
    for row in wrong.to_dict("records"):
        assert row["file"] in page.text
        certainty = row[f"p_{row['predicted']}"]
        said = f"{row['file']} of class {row['label']}, predicted {row['predicted']}, probability"
        assert f"{said} {certainty:.3f}" in alts
    assert f"{len(wrong)} of 15 images are classified wrongly" in page.text
    assert "image_size: 16" in page.text


@pytest.mark.usefixtures("no_pictures")
def test_the_commands_of_the_references_run_as_printed(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "vit_nano", SIZES)
    config = configured(folder, "classification")
    config = replace(config, finetune=replace(config.finetune, encoder=str(tmp_path / "before")))
    run = finetuned(tmp_path / "a run", config)
    report, _ = evaluate_run(run)
    probe, scratch = (shlex.split(line) for line in commands_of(report))
    assert probe[:3] == ["python", "-m", "deeplens_tf.evaluate"]
    evaluate.main(probe[3:])
    assert (run.folder / "evaluation" / "test-probe-classification-linear").is_dir()
    baseline = replace(config, finetune=replace(config.finetune, encoder="none"))
    found = resolved(scratch)
    assert (found.finetune, found.encoder) == (baseline.finetune, config.encoder)
    assert found.data.path == config.data.path
    probed = run.folder / "evaluation" / "test-probe-classification-linear"
    tuned, _, itself = (shlex.split(line) for line in commands_of(probed))
    assert itself == probe
    found = resolved(tuned)
    assert found.finetune.encoder == str(run.folder)
    assert (found.data.path, found.data.image_size) == (config.data.path, 16)
    scratch_run = finetuned(tmp_path / "scratch", baseline)
    report, _ = evaluate_run(scratch_run)
    assert len(commands_of(report)) == 1
    assert "it is a supervised baseline itself" in (report / "report.html").read_text()
    require_known(evaluate_run(run)[0], probed, report)


def require_known(report, probed, baseline):
    """The page has the scores of its references, which were measured by now."""
    assert commands_of(report) == []
    lines = (report / "report.html").read_text().splitlines()
    control = json.loads((probed / "metrics.json").read_text())["control"]["macro_auc"]
    scratch = json.loads((baseline / "metrics.json").read_text())["macro_auc"]
    known = {"probe of the untrained network": control, "random weights: scratch": scratch}
    for name, score in known.items():
        (row,) = (line for line in lines if name in line)
        assert f">{score:.4f} [" in row


def test_an_undefined_score_is_no_fault_of_the_references(tmp_path):
    metrics = {"head": "regression", "test_set": "d", "split": "test", "mae_dex": 0.1}
    metrics |= {"r2": float("nan"), "intervals_95": {"mae_dex": [0.0, 0.2]}}
    (tmp_path / "run").mkdir()
    found = known_references(Run(tmp_path / "run"), metrics)
    assert (found.control, found.baseline) == (None, None)
    assert found.table().rows == [["this model", "0.1000 [0.0000, 0.2000]", "undefined"]]
    assert known_references(Run(tmp_path / "run"), {**metrics, "mae_dex": 1e9}).baseline is None


def commands_of(report):
    page = Parsed((report / "report.html").read_text())
    return re.findall(r"python -m deeplens_tf\..*", page.lines)


def resolved(words):
    assert words[:3] == ["python", "-m", "deeplens_tf.finetune"]
    arguments = finetune.build_parser().parse_args(words[3:])
    arguments.config = arguments.config or finetune.FINETUNE_CONFIG
    return finetune.resolve_config(arguments)


def test_the_pictures_of_mistakes_are_those_of_the_named_files(folder, tmp_path):
    config = configured(folder, "classification")
    run = finetuned(tmp_path / "run", config)
    report, _ = evaluate_run(run, config)
    shown = [
        image
        for image in Parsed((report / "report.html").read_text()).all("img")
        if image["alt"].startswith("Image ")
    ]
    assert len(shown) > 12
    for image in shown:
        file = image["alt"].removeprefix("Image ").split(" of class ")[0]
        pixels = np.load(folder.with_name("lenses_test") / file)
        content = io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))
        drawn = matplotlib.image.imread(content, format="png")[::-1, :, :3].sum(axis=-1)
        assert drawn.shape == pixels.shape
        # The colours grow brighter with the value, so that the ranks of the pixels are the same.
        assert np.corrcoef(drawn.ravel(), pixels.ravel())[0, 1] > 0.95


@pytest.mark.usefixtures("no_pictures")
def test_a_regression_has_a_page_with_its_largest_errors(folder, tmp_path):
    config = configured(folder, "regression")
    run = finetuned(tmp_path / "run", config)
    report, metrics = evaluate_run(run, config)
    page = require_self_contained((report / "report.html").read_text())
    assert f"Mean absolute error / dex {metrics['mae_dex']:.4f}" in page.text
    table = pd.read_csv(report / "predictions.csv")
    errors = (table["predicted"] - table["log10_mass_ev"]).abs()
    worst = table["file"][errors.idxmax()]
    shown = [image["alt"] for image in page.all("img") if image["alt"].startswith("Image ")]
    assert shown[0].startswith(f"Image {worst}: true ")
    assert len(shown) == 10  # five mistakes and five samples


@pytest.mark.parametrize("head", ["classification", "regression"])
def test_a_probe_has_its_control_beside_it(folder, tmp_path, monkeypatch, head):
    monkeypatch.setitem(VARIANTS, "vit_nano", SIZES)
    config = configured(folder, head)
    run = finetuned(tmp_path / "run", config)
    report, metrics = evaluate_probe(run, config, head, "linear")
    page = require_self_contained((report / "report.html").read_text())
    key, said = {
        "classification": ("expected_calibration_error", "Expected calibration error"),
        "regression": ("mae_dex", "Mean absolute error / dex"),
    }[head]
    scores = []
    for found in (metrics, metrics["control"]):
        low, high = found["intervals_95"][key]
        scores.append(f"{found[key]:.4f} [{low:.4f}, {high:.4f}]")
    assert f"{said} {' '.join(scores)}" in page.text
    assert scores[0] != scores[1]
    pictures = [image["src"].partition(",")[2] for image in page.all("img")]
    figures = sorted((report / "figures").glob("*.png"))
    assert len(figures) == {"classification": 3, "regression": 1}[head]
    for figure in figures:
        assert base64.b64encode(figure.read_bytes()).decode() in pictures


@pytest.mark.usefixtures("no_pictures")
def test_names_of_classes_and_files_are_text(tmp_path):
    names = ("lens", "a " + HOSTILE.replace("/", "\u2215"))  # a name cannot contain a slash
    draw = np.random.default_rng(0)
    for place, count in (("images", 8), ("images_test", 6)):
        for name in names:
            (tmp_path / place / name).mkdir(parents=True)
            for i in range(count):
                file = f'{i}"><img src=x onerror=alert(1)>&amp;\x1b\n.npy'
                np.save(tmp_path / place / name / file, draw.random((16, 16)))
    config = configured(tmp_path / "images", "classification")
    run = finetuned(tmp_path / "run {{ 7 * 7 }} <b>", config)
    report, _ = evaluate_run(run, config)
    page = require_self_contained((report / "report.html").read_text())
    assert names[1] in page.text
    assert "onerror=alert(1)>&amp;\\x1b\\n.npy" in page.text
    assert "run {{ 7 * 7 }} <b>" in page.text
    assert "\x1b" not in page.text


def test_every_text_is_escaped_and_cut():
    text = HOSTILE + "\udc80" + "x" * 5000
    table = Table(text, [text], [[text]])
    picture = Picture(HOSTILE, small_png(), [text])
    section = Section("s", text, [text], [table], [picture], [picture], (text, [text]))
    page = require_self_contained(html_of(Page(text, text, [(text,) * 3], [section], text)))
    assert page.text.count(HOSTILE + "\\udc80x") == page.text.count(HOSTILE) > 10
    assert "x" * 2000 not in page.text


def small_png():
    content = io.BytesIO()
    matplotlib.image.imsave(content, np.zeros((2, 2)), format="png")
    return content.getvalue()


@pytest.mark.usefixtures("no_pictures")
def test_the_page_names_the_command_and_is_the_same_each_time(folder, tmp_path, monkeypatch):
    config = configured(folder, "classification")
    run = finetuned(tmp_path / "it's a run", config)
    arguments = ["--run", str(run.folder), "--set", f"data.cache={tmp_path}/cache"]
    evaluate.main(arguments)
    path = run.folder / "evaluation" / "test" / "report.html"
    first = path.read_bytes()
    pattern = r"python -m deeplens_tf\.evaluate (--run .*)"
    (command,) = re.findall(pattern, Parsed(first.decode()).lines)
    assert shlex.split(command) == arguments
    evaluate.main(shlex.split(command))
    assert path.read_bytes() == first


@pytest.mark.usefixtures("no_pictures")
def test_images_that_cannot_be_read_again_leave_the_rest(folder, tmp_path, monkeypatch):
    def gone(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("deeplens_tf.evaluation.scored_images.ScoredImages.some", gone)
    config = configured(folder, "classification")
    report, metrics = evaluate_run(finetuned(tmp_path / "run", config), config)
    page = require_self_contained((report / "report.html").read_text())
    assert page.all("img") == []
    assert "cannot be read again: [Errno 5] Input/output error" in page.text
    assert json.loads((report / "metrics.json").read_text())["n_test"] == metrics["n_test"] == 15


def test_the_most_confident_mistakes_come_first_and_classes_are_shown_equally():
    labels = np.array(list("aabbbcccc"))
    predicted = np.array(list("abbabcaab"))
    certain = np.array([0.9, 0.6, 0.5, 0.8, 0.9, 0.9, 0.8, 0.95, 0.4])
    table = pd.DataFrame({"file": "f", "label": labels, "predicted": predicted})
    for name in "abc":
        table[f"p_{name}"] = np.where(predicted == name, certain, (1 - certain) / 2)
    assert wrong_classes(table).tolist() == [7, 3, 6, 1, 8]
    assert sample_of_each(table).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    many = pd.DataFrame({"label": np.repeat([f"c{i:02}" for i in range(40)], 3)})
    assert len(sample_of_each(many)) == shown_images.MAX_SHOWN_IMAGES
    values = pd.DataFrame({"file": "f", "true": [1.0, 2.0, 3.0], "predicted": [1.5, 2.0, 1.0]})
    assert largest_errors(values).tolist() == [2, 0, 1]
