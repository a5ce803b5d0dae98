"""A training on a folder that an earlier version cropped says that its views lack a margin."""

import shutil
from pathlib import Path

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.training import finetune, pretrain

EARLIER = Path(__file__).parent.parent / "saving" / "earlier" / "prepared"
STAGES = {"contrastive": pretrain, "finetune": finetune}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_a_training_says_once_that_views_have_no_margin(
    name, fit, tmp_path, monkeypatch, capsys, eager_steps, no_pictures
):
    small = dict(patch_size=4, width=8, depth=0, heads=2, mlp_width=8)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)
    folder = tmp_path / "prepared"
    shutil.copytree(EARLIER, folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"fit": "resize"', f'"fit": "{fit}"'))
    words = ["augment.views=[rotation]", "train.epochs=1", "train.batch_size=9"]
    words += ["train.jit_compile=false", "finetune.encoder=none", "pretrain.projection_width=4"]
    config = load_config("contrastive" if name == "contrastive" else "defaults", words, str(folder))
    STAGES[name](config, name, str(tmp_path / "run"))
    printed = capsys.readouterr().out
    assert printed.count("views are made without a margin") == (fit == "crop")
