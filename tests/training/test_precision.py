"""The precision of a run is that of the run alone."""

import keras
import pytest

import deeplens_tf as dl
from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.training.fitting import started


@pytest.fixture
def configured(blobs_folder, tmp_path, monkeypatch, eager_steps, no_pictures):
    """Configurations of runs that take seconds."""
    small = dict(patch_size=8, width=8, depth=0, heads=1, mlp_width=8)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)

    def configure(name, *words):
        cache = f"data.cache={tmp_path / 'cache'}"
        small = ("data.image_size=16", "train.epochs=1", "train.batch_size=45", cache)
        fast = ("train.jit_compile=false", "train.precision=mixed_bfloat16")
        return load_config(name, [*small, *fast, *words], str(blobs_folder))

    return configure


def test_the_precision_is_set_within_the_block_and_restored_after_an_error():
    config = load_config("defaults", ["train.precision=mixed_float16"])
    before = keras.config.dtype_policy()
    with pytest.raises(KeyError), started(config):
        assert keras.config.dtype_policy().name == "mixed_float16"
        raise KeyError
    assert keras.config.dtype_policy() == before
    assert before.name == "float32"


def test_an_unknown_pooling_is_refused_by_the_configuration():
    with pytest.raises(RequestError, match=r"encoder\.pooling must be one of average, class_token"):
        load_config("defaults", ["encoder.pooling=cls"])


@pytest.mark.slow
def test_training_from_python_leaves_the_precision_as_it_was(configured, tmp_path):
    run = dl.training.pretrain(configured("contrastive"), "it", str(tmp_path / "pretrained"))
    assert keras.config.dtype_policy().name == "float32"
    assert dl.load_encoder(run.folder).dtype_policy.name == "mixed_bfloat16"
    assert run.load_config().data.fit == "resize"  # concrete, though it was left open
    words = ("finetune.encoder=none",)
    dl.training.finetune(configured("finetune", *words), "it", str(tmp_path / "finetuned"))
    assert keras.config.dtype_policy().name == "float32"


def test_a_failed_training_leaves_the_precision_as_it_was(configured, tmp_path):
    config = configured("contrastive", "train.batch_size=1000")
    with pytest.raises(RequestError, match="larger than the"):
        dl.training.pretrain(config, "it", str(tmp_path / "run"))
    assert keras.config.dtype_policy().name == "float32"
