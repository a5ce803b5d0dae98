"""The pages on one's own encoder, method and augmentation, run as a user's modules elsewhere."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import deeplens_tf as dl
from deeplens_tf import registry
from tests.conftest import REPOSITORY
from tests.models.pretexts import make_batch
from tests.models.tiny import reloaded, tiny_vit

PAGES = {
    "my_encoder": "your_encoder",
    "my_method": "your_method",
    "my_augmentation": "your_augmentation",
}
TINY = "--set train.epochs=1 --set train.batch_size=16 --set train.jit_compile=false"
SMALL = "--set encoder.patch_size=4 --set encoder.options.depth=1"
DATA = "--data {data} --set data.image_size=16 --set data.cache=cache"
EXTRA = {
    "pretrain": f"{DATA} {TINY} {SMALL}",
    "finetune": TINY,
    "evaluate": "",
    "prepare": "--set data.path={data} --set data.image_size=16 --set data.cache=cache",
}
DRIVER = """
import json, os, sys
from deeplens_tf.__main__ import _run_named_stage
for folder, words in map(json.loads, sys.stdin):
    os.chdir(folder)
    _run_named_stage(words)
"""


def page(module):
    return (REPOSITORY / "docs" / f"{PAGES[module]}.md").read_text()


def module_of(module):
    (code,) = re.findall(rf"<!-- {module}\.py -->\n\n```python\n(.*?)```", page(module), re.S)
    return code


def commands_of(module, data):
    block = page(module).split("<!-- commands -->")[1].strip("\n").split("\n\n")[0]
    for line in block.splitlines():
        stage, *words = shlex.split(line.strip().removeprefix("python -m deeplens_tf."))
        extra = EXTRA[stage].format(data=data)
        if "encoder.name" in line:
            extra = extra.replace(SMALL, "")
        yield [stage, *words, *shlex.split(extra)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, blobs_folder):
    """A folder of each page, in which its module was written and its commands were run.

    In one process: to start another takes longer than a page's trainings.
    """
    made, lines = {}, []
    for module in PAGES:
        made[module] = tmp_path_factory.mktemp(module)
        (made[module] / f"{module}.py").write_text(module_of(module))
        for words in commands_of(module, blobs_folder):
            lines.append(json.dumps([str(made[module]), words]))
    run("\n".join(lines))
    return made


def run(lines):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-W", "ignore", "-c", DRIVER]
    done = subprocess.run(
        words, input=lines, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(params=PAGES)
def ran(request, folders):
    """A page's module, and the folder in which its commands were run."""
    return request.param, folders[request.param]


@pytest.mark.slow
def test_the_commands_of_a_page_leave_their_products(ran):
    module, folder = ran
    (pretrained,) = folder.glob("runs/pretrain-*")
    assert pd.read_csv(pretrained / "history.csv").loss.notna().all()
    assert module in (pretrained / "environment.json").read_text()
    if module == "my_augmentation":
        assert (folder / "views.png").stat().st_size > 1000
    else:
        assert list(folder.glob("runs/finetune-*/model.keras"))
    if module == "my_encoder":
        assert list(folder.glob("runs/finetune-*/evaluation/*/metrics.json"))


@pytest.mark.slow
def test_a_file_of_a_registered_encoder_is_refused_where_it_is_not_registered(ran):
    module, folder = ran
    (pretrained,) = folder.glob("runs/pretrain-*/encoder.keras")
    if module != "my_encoder":
        assert dl.load_encoder(pretrained).image_shape == (16, 16, 1)
        return
    assert "convnet" not in registry.encoders.names
    with pytest.raises(ValueError, match=r"name 'convnet', which is not registered: .*--plugin"):
        dl.load_encoder(pretrained)
    assert module not in sys.modules


@pytest.fixture
def imported(tmp_path, monkeypatch, forgotten_names):
    """Import a page's module from a folder of its own; its names are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(module):
        (tmp_path / f"{module}.py").write_text(module_of(module))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module(module)

    return load


def naive_vicreg(first, second, invariance, variance, covariance):
    """The paper's formula by loops, in float64, with the mean of its code for the invariance."""
    rows, dim = first.shape
    loss = invariance * np.mean((first - second) ** 2)
    for view in (first, second):
        means = [sum(view[:, j]) / rows for j in range(dim)]
        for i in range(dim):
            for j in range(dim):
                shared = sum((view[k, i] - means[i]) * (view[k, j] - means[j]) for k in range(rows))
                shared /= rows - 1
                if i == j:
                    loss += variance * max(0, 1 - np.sqrt(shared + 1e-4)) / dim
                else:
                    loss += covariance * shared**2 / dim
    return loss


def test_the_method_of_the_page_is_vicreg(imported, tmp_path):
    imported("my_method")
    entry = registry.methods.entry("vicreg")
    keras.utils.set_random_seed(0)
    model = entry.build(tiny_vit(), dl.models.linear_probe(3), 10, 6, variance=10.0)
    batch = make_batch()
    model.compile("sgd", run_eagerly=True)
    first, second = (np.asarray(each, float) for each in model(batch)["projections"])
    found = model.test_on_batch(batch, return_dict=True)["pretext_loss"]
    assert found == pytest.approx(naive_vicreg(first, second, 25, 10, 1), rel=1e-4)
    assert reloaded(model, tmp_path).variance == 10.0
    loaded = dl.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_of_a_method_is_refused_where_it_is_not_registered(
    imported, tmp_path, forgotten_names
):
    imported("my_method")
    build = registry.methods.entry("vicreg").build
    build(tiny_vit(), None, 10, 6).save(tmp_path / "model.keras")
    del registry.methods._entries["vicreg"]
    with pytest.raises(ValueError, match=r"holds a my_method\.VICReg, not a model of deeplens_tf"):
        dl.load_model(tmp_path / "model.keras")


def test_the_augmentation_of_the_page_is_a_zoom(imported):
    zoom = imported("my_augmentation").Zoom(1.5)
    rows, columns = np.mgrid[:9, :9].astype("float32")
    ramp = np.stack([rows, columns], axis=-1)[None]
    zoomed = zoom.apply(tf.constant(ramp), tf.constant([1.5])).numpy()[0]
    expected = 4 + (ramp[0] - 4) / 1.5  # the centre stays
    np.testing.assert_allclose(zoomed, expected, atol=1e-5)
    keys = dl.augment.fold_in(tf.constant(0, tf.uint64), tf.range(50))
    draws = zoom.draw(keys, (9, 9, 1)).numpy()
    assert 1 <= min(draws) < 1.1 < 1.4 < max(draws) <= 1.5
    images, indices = (
        tf.constant(np.random.default_rng(0).random((4, 9, 9, 1), "float32")),
        range(4),
    )
    view = dl.augment.Augment(["zoom"]).view(images, tf.constant(list(indices)), 0, 0)
    assert view.shape == images.shape
    assert (view != images).numpy().any()


def test_the_encoder_of_the_page_is_built_by_name(imported):
    imported("my_encoder")
    encoder = dl.models.build_encoder("convnet", (32, 32, 2), width=4)
    assert encoder.predict(np.zeros((3, 32, 32, 2)), verbose=0).shape == (3, 16)
    with pytest.raises(ValueError, match="width must be at least 1 and at most 512, not 0"):
        dl.models.build_encoder("convnet", (32, 32, 2), width=0)
