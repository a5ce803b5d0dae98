"""What a head is trained on: which images, which targets, and what is refused."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.training.tasks import build_task
from tests.conftest import row_by_row

MASSES_EV = 10 ** np.linspace(-24, -22, 10)


@pytest.fixture
def lenses(tmp_path):
    """Ten axion images with a mass each, ten of `no_sub` without."""
    generator = np.random.default_rng(0)
    for name in ("axion", "no_sub"):
        (tmp_path / "lenses" / name).mkdir(parents=True)
        for i in range(10):
            np.save(tmp_path / "lenses" / name / f"{i}.npy", generator.random((8, 8)))
    rows = [f"{i}.npy,{mass!r}" for i, mass in enumerate(MASSES_EV.tolist())]
    table = "\n".join(["file,mass_ev", *rows]) + "\n"
    (tmp_path / "lenses" / "axion" / "masses.csv").write_text(table)
    return tmp_path / "lenses"


def opened(folder, *words):
    words = ["data.image_size=8", "data.validation_fraction=0.2", *words]
    config = load_config("finetune", [*words, f"data.cache={folder.parent}/cache"], str(folder))
    return config, open_data(config)


def test_regression_takes_the_images_with_a_mass(lenses, capsys):
    config, data = opened(lenses, "finetune.head=regression")
    task = build_task(config.finetune, data)
    keep = task.training_rows(data, config.finetune, seed=0)
    index = data.index("train")
    assert (index["label"][keep] == data.classes.index("axion")).all()
    assert keep.sum() == 8
    assert "8 training images have a mass; skipped: 8 of no_sub" in capsys.readouterr().out


def test_targets_and_standardisation_are_of_the_training_masses(lenses):
    config, data = opened(lenses, "finetune.head=regression")
    task = build_task(config.finetune, data)
    masses = data.index("train")["mass_ev"].dropna().to_numpy()
    target = task.target("train")({"mass_ev": masses})
    np.testing.assert_allclose(target, np.log10(masses)[:, None], rtol=1e-7)
    assert task.head.mean_dex == pytest.approx(np.log10(masses).mean())
    assert task.head.std_dex == pytest.approx(np.log10(masses).std())


def test_standardisation_knows_no_label_but_those_of_the_fraction(lenses):
    config, data = opened(lenses, "finetune.head=regression", "finetune.fraction=0.5", "seed=3")
    task = build_task(config.finetune, data)
    keep = task.training_rows(data, config.finetune, config.seed)
    masses = np.log10(data.index("train")["mass_ev"].to_numpy())
    assert keep.sum() == 4
    assert task.head.mean_dex == pytest.approx(masses[keep].mean())
    assert task.head.std_dex == pytest.approx(masses[keep].std())
    assert task.head.mean_dex != pytest.approx(np.nanmean(masses), abs=1e-6)


@pytest.mark.parametrize("standardise", ["true", "false"])
def test_masses_that_are_all_the_same_are_refused(lenses, standardise):
    rows = [f"{i}.npy,3e-23" for i in range(10)]
    (lenses / "axion" / "masses.csv").write_text("\n".join(["file,mass_ev", *rows]) + "\n")
    words = ["finetune.head=regression", f"finetune.standardise={standardise}"]
    config, data = opened(lenses, *words)
    with pytest.raises(
        DataError, match="all 8 training images with a mass have the same mass, 3e-23"
    ):
        build_task(config.finetune, data)


def test_a_fraction_that_leaves_one_mass_is_refused(lenses):
    config, data = opened(lenses, "finetune.head=regression", "finetune.fraction=0.01")
    with pytest.raises(RequestError, match=r"fraction 0\.01 leaves 1 of 8 training images"):
        build_task(config.finetune, data)


def test_standardisation_can_be_left_out(lenses):
    config, data = opened(lenses, "finetune.head=regression", "finetune.standardise=false")
    head = build_task(config.finetune, data).head
    assert (head.mean_dex, head.std_dex) == (0.0, 1.0)


def test_a_fraction_of_the_masses_is_stratified_and_nested(lenses):
    config, data = opened(lenses, "finetune.head=regression")
    task = build_task(config.finetune, data)
    chosen = [
        task.training_rows(data, replace(config.finetune, fraction=fraction), seed=3)
        for fraction in (0.25, 0.5, 1.0)
    ]
    assert [rows.sum() for rows in chosen] == [2, 4, 8]
    assert (chosen[0] <= chosen[1]).all()
    assert (chosen[1] <= chosen[2]).all()


def test_classification_targets_are_one_hot(lenses):
    config, data = opened(lenses)
    task = build_task(config.finetune, data)
    np.testing.assert_array_equal(
        task.target("train")({"label": np.array([1, 0])}), [[0, 1], [1, 0]]
    )
    assert task.class_names == ("axion", "no_sub")


def test_regression_without_masses_is_refused(lenses):
    (lenses / "axion" / "masses.csv").unlink()
    config, data = opened(lenses, "finetune.head=regression")
    with pytest.raises(RequestError, match="regression needs images with a mass, and 0 of 16"):
        build_task(config.finetune, data)


def test_classification_without_classes_is_refused(lenses):
    config, data = opened(lenses / "axion")
    with pytest.raises(RequestError, match="two or more class folders"):
        build_task(config.finetune, data)


def counts_of_an_area():
    generator = np.random.default_rng(0)
    area = keras.metrics.AUC(multi_label=True, num_labels=3)
    targets = np.eye(3, dtype="float32")[generator.integers(3, size=20)]
    area.update_state(targets, generator.random((20, 3), np.float32))
    return [variable.numpy() for variable in area.variables]


def test_the_tests_count_for_areas_row_by_row_what_keras_counts():
    with row_by_row():
        found = counts_of_an_area()
    for ours, theirs in zip(found, counts_of_an_area(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.any()
