"""Without the extra `simulate`: what lenstronomy draws is refused, all else is drawn."""

import importlib.util
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from deeplens_tf import simulate
from deeplens_tf.errors import RequestError
from deeplens_tf.simulation import render_image, request_file
from deeplens_tf.simulation.compiled_cache import ensure_compiled_cache
from deeplens_tf.simulation.request import SimulationRequest

REFUSED = r"^noise of Models II and III and surveys .* pip install 'deeplens_tf\[simulate\]'$"


@pytest.fixture(autouse=True)
def without(monkeypatch):
    """Hide lenstronomy from the questions whether it is installed, and in which version."""
    found, known = importlib.util.find_spec, request_file.version

    def version(package):
        if package == "lenstronomy":
            raise PackageNotFoundError(package)
        return known(package)

    hidden = "lenstronomy"
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == hidden else found(name, *more),
    )
    monkeypatch.setattr(request_file, "version", version)
    ensure_compiled_cache.cache_clear()  # which has seen it in an earlier test


def run(folder, *words):
    simulate.main(["--out", str(folder), "--count", "1", "--jobs", "1", *words])


@pytest.mark.parametrize("words", [("--noise",), ("--preset", "sersic_survey")])
def test_what_lenstronomy_draws_is_refused_before_anything_is_written(tmp_path, words):
    with pytest.raises(RequestError, match=REFUSED):
        run(tmp_path / "lenses", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("--preset", "model_iii"), ("--preset", "model_i")])
def test_other_images_are_made_and_say_that_it_was_not_there(tmp_path, words):
    run(tmp_path / "lenses", "--classes", "cdm", *words)
    assert '"lenstronomy": "not installed"' in (tmp_path / "lenses/simulation.json").read_text()
    (path,) = (tmp_path / "lenses" / "cdm").glob("*.npy")
    request = request_file.recorded_request(tmp_path / "lenses")
    np.testing.assert_array_equal(
        np.load(path), render_image(request.lens("cdm", 0), request.noise)
    )


def test_a_noisy_image_in_python_is_refused_too(tmp_path):
    lens = SimulationRequest("model_ii", 1, tmp_path).lens("cdm", 0)
    with pytest.raises(RequestError, match=REFUSED):
        render_image(lens, noise=True)
