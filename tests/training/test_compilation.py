"""XLA: chosen by the amount of work where it is left open, and kept when a run is resumed."""

import keras
import pytest

from deeplens_tf import pretrain
from deeplens_tf.config import load_config
from deeplens_tf.distribution.strategy import ALONE
from deeplens_tf.models import build_encoder
from deeplens_tf.training.compilation import WORTHWHILE_IMAGES, with_compilation


class Replicas:
    """What the choice needs of a `Distribution`."""

    is_chief = True

    def __init__(self, can_compile=True, has_gpu=False):
        self.can_compile, self.has_gpu = can_compile, has_gpu


@pytest.fixture(scope="module")
def transformer():
    return build_encoder("vit_nano", (16, 16, 1))


@pytest.fixture(scope="module")
def convolutional():
    layers = keras.layers.Conv2D(2, 3, strides=2), keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((16, 16, 1)), *layers], name="small")


def chosen(encoder, images, *overrides, distribution=ALONE):
    config = load_config("defaults", ["train.epochs=5", *overrides])
    return with_compilation(config, encoder, images, distribution).train.jit_compile


def test_little_work_is_not_compiled(transformer, capsys):
    assert chosen(transformer, WORTHWHILE_IMAGES // 5)
    assert capsys.readouterr().out == ""
    assert not chosen(transformer, WORTHWHILE_IMAGES // 5 - 1)
    line = "train.jit_compile: false, since compiling takes longer than XLA saves on 19,995 images"
    assert line in capsys.readouterr().out


def test_overlapping_convolutions_are_not_compiled_on_a_cpu(convolutional, capsys):
    assert not chosen(convolutional, 10**6, distribution=Replicas())
    assert "XLA is slow at the convolutions of small on a CPU" in capsys.readouterr().out
    assert chosen(convolutional, 10**6, distribution=Replicas(has_gpu=True))


def test_replicas_are_not_compiled(transformer):
    assert not chosen(transformer, 10**6, distribution=Replicas(can_compile=False))


@pytest.mark.parametrize("setting", ["true", "false"])
def test_what_the_user_set_is_kept(transformer, convolutional, setting, capsys):
    override = f"train.jit_compile={setting}"
    assert chosen(transformer, 10, override) == (setting == "true")
    assert chosen(convolutional, 10**6, override, distribution=Replicas()) == (setting == "true")
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("no_pictures", "eager_steps")
def test_more_epochs_do_not_change_the_choice(blobs_folder, tmp_path, monkeypatch):
    quick = ("data.image_size=8", "encoder.patch_size=4", "encoder.options.depth=1")
    quick += ("train.batch_size=4",)
    options = ["--data", str(blobs_folder), "--run-dir", str(tmp_path / "run")]
    options += [word for setting in quick for word in ("--set", setting)]
    options += ["--set", f"data.cache={tmp_path}"]
    config = str(tmp_path / "run" / "config.yaml")
    pretrain.main([*options, "--set", "train.epochs=1"])
    assert not load_config(config).train.jit_compile
    monkeypatch.setattr("deeplens_tf.training.compilation.WORTHWHILE_IMAGES", 1)
    pretrain.main([*options, "--set", "train.epochs=2"])
    assert not load_config(config).train.jit_compile
