"""The line after a stage names a command that works as it is printed."""

import shlex

import numpy as np
import pytest

from deeplens_tf import evaluate, finetune, pretrain
from deeplens_tf.errors import RequestError
from deeplens_tf.models.vit import VARIANTS

STAGES = {"deeplens_tf.finetune": finetune.main, "deeplens_tf.evaluate": evaluate.main}
QUICK = ("data.image_size=8", "train.epochs=1", "train.jit_compile=false")
WORDS = [part for word in QUICK for part in ("--set", word)]
RUN = "runs/it's a run"


@pytest.fixture
def place(tmp_path, monkeypatch, eager_steps, no_pictures):
    """An empty current folder, in which a network takes seconds to train."""
    small = dict(patch_size=4, width=8, depth=0, heads=1, mlp_width=8)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_images(folder, count=12, masses=False):
    folder.mkdir(parents=True)
    draw = np.random.default_rng(len(folder.name))
    for i in range(count):
        np.save(folder / f"{i}.npy", draw.random((8, 8)))
    if masses:
        rows = [f"{i}.npy,{10 ** draw.uniform(-24, -22)!r}" for i in range(count)]
        (folder / "masses.csv").write_text("\n".join(["file,mass_ev", *rows]) + "\n")


def next_of(capsys):
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    return lines[-1].removeprefix("next: ")


def run_as_printed(command, *more):
    """Run a printed command in this process, with what makes it quick."""
    python, option, stage, *words = shlex.split(command)
    assert (python, option) == ("python", "-m")
    STAGES[stage]([*words, *more])


@pytest.mark.slow
@pytest.mark.parametrize("head", ["classification", "regression"])
def test_each_command_runs_as_printed(place, capsys, head):
    folder = place / "my images"
    write_images(folder / "lens", masses=head == "regression")
    if head == "classification":
        write_images(folder / "other one")
    pretrain.main(["--data", "my images", "--run-dir", RUN, *WORDS])
    command = next_of(capsys)
    assert f"--head {head}" in command
    run_as_printed(command, *WORDS[2:])  # the size of the images comes from the encoder's run
    command = next_of(capsys)
    assert command.startswith("python -m deeplens_tf.evaluate --run ")
    run_as_printed(command)
    assert "report: " in capsys.readouterr().out


def test_unlabelled_images_lead_to_words_not_to_a_command_that_fails(place, capsys):
    write_images(place / "images")
    pretrain.main(["--data", "images", "--run-dir", RUN, *WORDS])
    said = capsys.readouterr().out
    assert said.count("online probe: none; it needs training images of two or more classes") == 1
    line = next(line for line in said.splitlines() if line.startswith("next: "))
    assert "needs images in one folder for each class" in line
    command = line.split("masses: ")[1]
    write_images(place / "labelled" / "lens")
    write_images(place / "labelled" / "other")
    run_as_printed(command.replace("FOLDER", "labelled"), *WORDS)
    # Fine-tuning on the images without labels names the user's folder, not the cache.
    with pytest.raises(RequestError, match=r"^images: classification needs .* by --data$"):
        finetune.main(["--encoder", RUN, *WORDS])


def test_without_images_to_test_on_the_next_line_says_so(place, capsys):
    write_images(place / "images" / "lens")
    write_images(place / "images" / "other")
    all_trained = ["--set", "data.validation_fraction=0"]
    finetune.main(["--data", "images", "--encoder", "none", *WORDS, *all_trained])
    assert next_of(capsys).startswith("a test needs images that were not trained on: python -m")
