"""The example of the README runs, on fewer images, and its public names are there."""

import re

import pytest

import deeplens_tf as dl
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()
EXAMPLE = re.search(r"<!-- library example -->\s+```python\n(.*?)```", TEXT, re.DOTALL)[1]


def test_the_example_has_about_twenty_lines_and_one_import_of_the_package():
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 20
    assert re.findall(r"import .*deeplens.*|from .*deeplens.*", EXAMPLE) == [
        "import deeplens_tf as dl"
    ]


@pytest.mark.slow
def test_the_example_runs(run_python, tmp_path):
    briefly = EXAMPLE.replace('"data/lenses", 300)', '"data/lenses", 80)').replace(
        "epochs=3", "epochs=1"
    )
    assert briefly.count("80") == briefly.count("epochs=1") == 1
    (tmp_path / "example.py").write_text(briefly)
    ended = run_python("example.py")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"pretrained: macro AUC 0\.\d+ on 24 images\n", ended.stdout)
    assert re.search(r"untrained: macro AUC 0\.\d+ on 24 images\n", ended.stdout)
    assert ended.stdout.rstrip().endswith("(64, 96)")
    assert (tmp_path / "encoder.keras").is_file()


def test_nothing_heavy_is_imported_before_it_is_used(run_python):
    program = "import sys, deeplens_tf as dl; dir(dl); print({'keras', 'numpy'} & set(sys.modules))"
    assert run_python("-c", program).stdout.strip() == "set()"


def test_every_public_name_is_there_one_level_deep():
    for folder in (
        "augment",
        "data",
        "evaluation",
        "figures",
        "inference",
        "losses",
        "models",
        "simulation",
    ):
        module = getattr(dl, folder)
        for name in getattr(module, "__all__", []):
            assert getattr(module, name) is not None, f"{folder}.{name}"
    for name in dl.__all__:
        assert getattr(dl, name) is not None
    with pytest.raises(AttributeError, match="module 'deeplens_tf' has no attribute 'lenses'"):
        _ = dl.lenses
