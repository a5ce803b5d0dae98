"""What each stage after training says to wrong inputs: one line on stderr, and the exit code."""

import importlib
import re
import shutil
import signal
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import deeplens_tf as dl
from deeplens_tf.cli import run_stage
from deeplens_tf.config import load_config
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.saving import keras_files
from tests.conftest import blob_image, write_blobs
from tests.evaluation.runs import finetuned

pytestmark = pytest.mark.usefixtures("no_pictures")

READ_ONLY = "/sys/out"  # where not even root makes a folder
NEW_RUN = "--run runs/classifier --data"
CASES = [
    # No image to say anything of.
    ("predict", f"{NEW_RUN} empty", 3, "empty: no usable image"),
    ("embed", f"{NEW_RUN} empty", 3, "empty: no usable image"),
    ("evaluate", f"{NEW_RUN} empty", 3, "empty: .*no"),
    ("predict", f"{NEW_RUN} nothing", 2, "nothing: no such"),
    ("embed", f"{NEW_RUN} nothing", 2, "nothing: no such"),
    ("evaluate", f"{NEW_RUN} nothing", 2, "nothing: no such"),
    ("predict", f"{NEW_RUN} tables", 3, "tables: .*no image"),
    ("embed", f"{NEW_RUN} tables", 3, "tables: .*no image"),
    ("evaluate", f"{NEW_RUN} tables", 3, "tables: .*no image"),
    ("search", "--embeddings e.npz --like tables/cdm/t.fits --run runs/classifier", 3, "no image"),
    # Images of other bands.
    ("predict", f"{NEW_RUN} colour", 3, "colour: .*3 bands"),
    ("embed", f"{NEW_RUN} colour", 3, "colour: .*3 bands"),
    ("evaluate", f"{NEW_RUN} colour", 2, "colour: .*bands"),
    ("search", "--embeddings e.npz --like colour/cdm/c0.npy --run runs/classifier", 3, "3 bands"),
    # A run without a head, and one that was killed before its first model.
    ("predict", "--run runs/encoder --data lenses", 2, "runs/encoder: holds no fine-tuned model"),
    ("evaluate", "--run runs/encoder", 2, "runs/encoder: no model.keras in it; only a fine-tuned"),
    *(
        (stage, f"--run runs/half {words}", 2, "runs/half: .*its run has not finished")
        for stage, words in {
            "predict": "--data lenses",
            "embed": "--data lenses",
            "evaluate": "",
            "export": "--format keras",
            "search": "--embeddings e.npz --like lenses/cdm/cdm_sim_000.npy",
        }.items()
    ),
    ("evaluate", "--probe linear --run runs/half", 2, "runs/half: .*its run has not finished"),
    # A model file that was cut off.
    *(
        (stage, f"--run runs/cut {words}", 2, "model.keras: not a model that can be loaded safely")
        for stage, words in {
            "predict": "--data lenses",
            "embed": "--data lenses",
            "evaluate": "",
            "export": "--format keras",
            "search": "--embeddings e.npz --like colour/cdm/c0.npy",
        }.items()
    ),
    ("search", "--embeddings cut.npz --like x", 3, "cut.npz: not embeddings"),
    # A place that cannot be written.
    ("predict", f"{NEW_RUN} lenses --out {READ_ONLY}.csv", 4, READ_ONLY),
    ("embed", f"{NEW_RUN} lenses --out {READ_ONLY}/e.npz", 4, READ_ONLY),
    ("export", f"--run runs/classifier --format keras --out {READ_ONLY}", 4, READ_ONLY),
    ("search", f"--embeddings e.npz --like cdm/cdm_sim_000.npy --out {READ_ONLY}", 4, READ_ONLY),
    ("predict", f"{NEW_RUN} lenses --out notes.txt/x.csv", 2, "notes.txt"),
    ("embed", f"{NEW_RUN} lenses --out notes.txt/e.npz", 2, "notes.txt"),
    ("export", "--run runs/classifier --format keras --out notes.txt/x", 2, "notes.txt"),
    ("search", "--embeddings e.npz --like cdm/cdm_sim_000.npy --out notes.txt/x", 2, "notes.txt"),
    # Values that no option has.
    ("predict", f"{NEW_RUN} lenses --pixel-scale-arcsec -1", 2, "must be above 0"),
    ("predict", f"{NEW_RUN} lenses --set data.image_size=8", 2, "data.image_size"),
    ("embed", f"{NEW_RUN} lenses --layer head", 2, "head"),
    ("embed", f"{NEW_RUN} lenses --out e.txt", 2, "e.txt: must end in .npz"),
    ("export", "--run runs/classifier --format torch", 2, "invalid choice: 'torch'"),
    ("evaluate", "--run runs/classifier --probe svm", 2, "invalid choice: 'svm'"),
    ("evaluate", "--run runs/classifier --head regression", 2, "is for classification"),
    ("search", "--embeddings e.npz --like cdm/cdm_sim_000.npy --top 0", 2, "top"),
    ("search", "--embeddings e.npz --like cdm/none.npy", 2, "cdm/none.npy"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images, runs and embeddings, good ones and bad ones."""
    root = tmp_path_factory.mktemp("wrong")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_blobs(Path("lenses"), 4, seed=0)
        _write_bad_images()
        config = load_config(
            "finetune", ["data.image_size=16", f"data.cache={root}/cache"], "lenses"
        )
        run = finetuned(Path("runs/classifier"), config)
        encoder = create_run("pretrain", "e", config, "runs/encoder", {})
        dl.save_encoder(dl.load_encoder(run.folder), encoder.encoder)
        create_run("finetune", "h", config, "runs/half", {})
        shutil.copytree("runs/classifier", "runs/cut")
        _cut(run.model, Path("runs/cut/model.keras"))
        dl.inference.embed(run.folder, "lenses", "e.npz")
        _cut(Path("e.npz"), Path("cut.npz"))
        Path("notes.txt").write_text("mine")
        # Each model is read once: it is the ends of the stages that are tested here.
        patch.setattr(keras_files, "_load", cache(keras_files._load))
        yield root


def _write_bad_images():
    for folder in ("empty", "tables/cdm", "colour/cdm", "colour/no_sub"):
        Path(folder).mkdir(parents=True)
    table = fits.BinTableHDU.from_columns([fits.Column("ra", "D", array=np.zeros(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto("tables/cdm/t.fits")
    generator = np.random.default_rng(2)
    for name in ("cdm", "no_sub"):
        for i in range(4):
            bands = [blob_image(generator, label) for label in range(3)]
            np.save(f"colour/{name}/c{i}.npy", np.stack(bands))


def _cut(whole, part):
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])


@pytest.fixture
def end_of(place, monkeypatch, capsys):
    """Run a stage as from the command line; return its exit code and what it wrote to stderr."""
    monkeypatch.chdir(place)
    before = signal.getsignal(signal.SIGTERM)

    def run(stage, words):
        monkeypatch.setattr(sys, "argv", [stage, *words.split()])
        with pytest.raises(SystemExit) as ended:
            run_stage(importlib.import_module(f"deeplens_tf.{stage}").main)
        return ended.value.code, capsys.readouterr().err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("stage", "words", "code", "line"), CASES)
def test_a_wrong_input_is_one_line(end_of, stage, words, code, line):
    found, err = end_of(stage, words)
    assert found == code, err
    assert len(err.splitlines()) == 1, err
    assert re.search(f"^deeplens_tf: .*{line}", err)
