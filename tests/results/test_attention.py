"""The shares of maps on the true residual: the formula, the residual, the committed table."""

import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf.simulation.priors import without_substructure
from results import attention
from results.residuals import CLASSES, draw_lenses, marked_pixels
from results.row_steps import TEST_SEED
from tests.conftest import REPOSITORY

GENERATOR = np.random.default_rng(0)


def naive_marked(residual):
    """Take the largest pixels until they hold half of the sum."""
    left = {place: abs(value) for place, value in np.ndenumerate(residual)}
    half, held, marked = sum(left.values()) / 2, 0.0, np.zeros(residual.shape, bool)
    while held < half:
        place = max(left, key=left.get)
        held += left.pop(place)
        marked[place] = True
    return marked


def test_the_marked_pixels_are_the_fewest_that_hold_half():
    residuals = GENERATOR.normal(size=(4, 8, 8)) ** 3
    expected = np.stack([naive_marked(residual) for residual in residuals])
    np.testing.assert_array_equal(marked_pixels(residuals), expected)
    assert 0 < expected.mean() < 0.25


def test_a_share_is_the_part_of_a_map_on_the_marked_pixels():
    maps, marked = GENERATOR.random((3, 8, 8)), GENERATOR.random((3, 8, 8)) < 0.2
    found = attention.shares({"map": maps, "flat": np.ones_like(maps)}, marked)
    for k in range(3):
        inside = sum(maps[k][place] for place in zip(*np.nonzero(marked[k]), strict=True))
        assert found["map"][k] == pytest.approx(inside / maps[k].sum())
        assert found["flat"][k] == pytest.approx(marked[k].sum() / 64)  # the area


def test_a_patch_has_the_mean_of_its_pixels():
    image = GENERATOR.random((1, 8, 12))
    found = attention.of_patches(image)
    for row in range(8):
        for column in range(12):
            top, left = row // 4 * 4, column // 4 * 4
            mean = image[0, top : top + 4, left : left + 4].mean()
            assert found[0, row, column] == pytest.approx(mean)


def test_the_residual_is_that_of_the_lens_in_the_window(tmp_path):
    encoder = dl.load_encoder(attention.ENCODER)
    lenses = draw_lenses(2, encoder.preprocessing)
    assert lenses.classes.tolist() == ["axion", "axion", "cdm", "cdm"]
    dl.simulation.simulate(
        tmp_path / "it", 2, seed=TEST_SEED, split="test", classes=CLASSES
    )  # the study's own test images
    request = dl.simulation.SimulationRequest(
        "model_ii", 2, tmp_path / "it", seed=TEST_SEED, split="test", classes=CLASSES
    )
    for k, (name, index) in enumerate((name, i) for name in CLASSES for i in range(2)):
        image = np.load(request.image_path(name, index), allow_pickle=True)
        image = np.asarray(image[0] if image.dtype == object else image, float)[16:48, 16:48]
        scaled = (image - image.min()) / (image.max() - image.min())
        np.testing.assert_allclose(lenses.images[k, ..., 0], scaled, atol=1e-6)
        smooth = dl.simulation.render_image(without_substructure(request.lens(name, index)))
        expected = image - smooth[16:48, 16:48]
        np.testing.assert_allclose(lenses.residuals[k], expected, atol=1e-10)
        assert 0.001 < np.abs(expected).max() / image.max() < 0.5


@pytest.mark.slow
def test_a_small_study_has_a_share_for_each_lens_and_map():
    lenses, maps, table = attention.measure(5)
    assert {each.shape for each in maps.values()} == {(10, 32, 32)}
    assert len(table) == 10
    columns = table.drop(columns="class")
    assert set(columns) == set(maps)
    assert ((columns > 0) & (columns < 1)).all(axis=None)
    area = marked_pixels(lenses.residuals).mean(axis=(1, 2))
    np.testing.assert_allclose(columns.iloc[:, 0], area)
    assert len(attention.picture(lenses, maps, table).axes) == 2 * attention.SHOWN * 6


def test_the_tables_are_those_of_the_shares():
    text = attention.page(pd.read_csv(attention.TABLE))
    assert attention.PAGE.read_text() == text
    assert text in (REPOSITORY / "docs" / "explain.md").read_text()
    table = pd.read_csv(attention.TABLE)
    assert table["class"].value_counts().to_dict() == dict.fromkeys(CLASSES, attention.LENSES)
    shares = table.drop(columns="class").to_numpy()
    rows = [line.split("|")[4] for line in text.splitlines()[2:]]
    values = [float(cell.split()[0]) for cell in rows]
    np.testing.assert_allclose(values, 100 * shares.mean(axis=0), atol=0.051)
