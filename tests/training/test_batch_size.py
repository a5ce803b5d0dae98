"""The batch size: chosen where it is left open, refused where it cannot work."""

import json

import numpy as np
import pytest

from deeplens_tf import finetune, pretrain
from deeplens_tf.config import load_config
from deeplens_tf.distribution.strategy import ALONE
from deeplens_tf.errors import RequestError
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.training.batch_size import (
    FINETUNING,
    PRETRAINING,
    require_possible,
    smallest_batch,
    with_batch_size,
)

COMPARING = ("contrastive", "byol", "twin", "simsiam")


class Replicas:
    """What the choice needs of a `Distribution`."""

    is_chief = True

    def __init__(self, replicas):
        self.replicas = replicas

    def divisible(self, size):
        return size - size % self.replicas


def chosen(count, default=PRETRAINING, distribution=ALONE, **options):
    config = load_config("defaults")
    return with_batch_size(config, default, count, "images", distribution, **options).batch_size


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 1), (2, 2), (3, 2), (7, 2), (8, 4), (40, 16), (63, 16), (64, 32), (127, 32), (128, 128)],
)
def test_a_few_images_get_a_smaller_batch(count, expected, capsys):
    assert chosen(count) == expected
    said = f"train.batch_size: {expected} of the {count} images, instead of 128"
    assert (said in capsys.readouterr().out) == (count < 128)
    assert chosen(count, FINETUNING) == (64 if count >= 64 else expected)


@pytest.mark.parametrize(
    ("count", "replicas", "expected"), [(1000, 3, 126), (40, 3, 15), (40, 8, 16), (9, 8, 8)]
)
def test_the_chosen_batch_divides_among_the_replicas(count, replicas, expected):
    assert chosen(count, distribution=Replicas(replicas)) == expected


def test_what_the_user_set_is_kept_or_refused(capsys):
    config = load_config("defaults", ["train.batch_size=40"])
    assert with_batch_size(config, PRETRAINING, 40, "images", ALONE) == config
    assert not capsys.readouterr().out
    with pytest.raises(RequestError, match="batch_size 40 is larger than the 39 images"):
        with_batch_size(config, PRETRAINING, 39, "images", ALONE)


def test_a_configuration_without_the_number_has_no_batch_size():
    with pytest.raises(ValueError, match="not known before the images are counted"):
        _ = load_config("contrastive").batch_size


@pytest.mark.parametrize("method", COMPARING)
def test_a_method_that_compares_images_refuses_a_batch_of_one(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--data", "images", "--set", f"pretrain.method={method}"]
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "1.npy", np.eye(8))
    with pytest.raises(RequestError, match=rf"batch_size 1: {method} compares .* set it to 2 or"):
        pretrain.main([*words, "--set", "train.batch_size=1"])
    assert not (tmp_path / "runs").exists()  # nothing was prepared


def test_one_image_is_no_data_set_to_compare_in():
    with pytest.raises(
        RequestError, match="contrastive compares 2 or more images, and there are 1"
    ):
        chosen(1, smallest=2)


def test_inpainting_compares_nothing():
    config = load_config("inpainting", ["train.batch_size=1"])
    assert smallest_batch(config) == 1
    require_possible(config, ALONE, smallest_batch(config))


@pytest.mark.usefixtures("eager_steps", "no_pictures")
def test_few_labels_train_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    small = dict(patch_size=4, width=8, depth=0, heads=1, mlp_width=8)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for name in ("lens", "other"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            np.save(tmp_path / "images" / name / f"{i}.npy", draw.random((8, 8)))
    words = ["data.image_size=8", "train.epochs=1", "train.jit_compile=false"]
    words = [part for word in words for part in ("--set", word)]
    command = ["--data", "images", "--encoder", "none", "--run-dir", "run", *words]
    finetune.main(command)
    assert "train.batch_size: 8 of the 22 labelled training images" in capsys.readouterr().out
    assert "batch_size: 8\n" in (tmp_path / "run" / "config.yaml").read_text()
    finetune.main(command)
    assert "nothing to do" in capsys.readouterr().out
    finetune.main([*command, "--set", "train.epochs=2"])
    facts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert facts["finished"]["epochs"] == 2
