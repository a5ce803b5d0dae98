import csv
from dataclasses import replace

import numpy as np
import pytest

from deeplens_tf.data.image_properties import image_properties
from deeplens_tf.errors import RequestError
from deeplens_tf.simulate import build_parser
from deeplens_tf.simulation import generation
from deeplens_tf.simulation.generation import run_request, simulate
from deeplens_tf.simulation.priors import CLASSES, PRESETS
from deeplens_tf.simulation.render import image_shape, render_image
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.skies import SKY_BOUNDS, Sky


@pytest.fixture
def make(tmp_path):
    def make_request(name="sim", **changes):
        options = {"preset": "model_ii", "count": 4, "seed": 1} | changes
        return SimulationRequest(out=tmp_path / name, **options)

    return make_request


def contents(folder):
    """All files in the class folders: relative path -> content."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def images(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".npy")}


def masses(path):
    with path.open(newline="") as file:
        return {row["file"]: float(row["mass_ev"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("preset", PRESETS)
def test_files_are_plain_arrays_of_the_rendered_lenses(make, preset):
    request = make(preset=preset, count=2)
    run_request(request)
    for class_name, index, _ in request.images():
        image = np.load(request.image_path(class_name, index), allow_pickle=False)
        assert image.dtype == np.float64
        assert image.shape == image_shape(preset)
        assert np.array_equal(image, render_image(request.lens(class_name, index)))


def test_folder_layout(make):
    request = make(count=2)
    run_request(request)
    assert sorted(contents(request.folder)) == [
        "axion/axion_sim_00000000.npy",
        "axion/axion_sim_00000001.npy",
        "axion/masses.csv",
        "cdm/cdm_sim_00000000.npy",
        "cdm/cdm_sim_00000001.npy",
        "no_sub/no_sub_sim_00000000.npy",
        "no_sub/no_sub_sim_00000001.npy",
    ]
    assert sorted(path.name for path in request.folder.iterdir()) == [
        "axion",
        "cdm",
        "images.yaml",
        "no_sub",
        "simulation.json",
    ]


@pytest.mark.slow
def test_jobs_change_no_byte(make):
    run_request(make("alone"))
    run_request(make("pooled"), jobs=2)
    assert contents(make("pooled").folder) == contents(make("alone").folder)


def test_shards_change_no_byte(make):
    run_request(make("whole"))
    for i in (2, 1, 3):
        run_request(make("sharded", shard=(i, 3)))
    assert images(make("sharded").folder) == images(make("whole").folder)


def test_each_shard_writes_its_own_masses(make):
    run_request(make("whole"))
    for i in (1, 2):
        run_request(make("sharded", shard=(i, 2)))
    folder = make("sharded").folder / "axion"
    parts = [masses(folder / f"masses-{i}-of-2.csv") for i in (1, 2)]
    assert not (folder / "masses.csv").exists()
    assert [list(part) for part in parts] == [
        ["axion_sim_00000000.npy", "axion_sim_00000002.npy"],
        ["axion_sim_00000001.npy", "axion_sim_00000003.npy"],
    ]
    assert parts[0] | parts[1] == masses(make("whole").folder / "axion" / "masses.csv")


def test_no_image_is_listed_in_two_tables_after_a_folder_was_extended(make):
    run_request(make(count=2))
    for i in (1, 2):
        run_request(make(count=5, shard=(i, 2)))
    for i in (1, 2, 3):
        run_request(make(count=8, shard=(i, 3)))
        run_request(make(count=8, shard=(i, 3)))
    tables = [masses(path) for path in (make().folder / "axion").glob("masses*.csv")]
    assert len(tables) == 1 + 2 + 3
    names = [name for table in tables for name in table]
    assert sorted(names) == [f"axion_sim_0000000{index}.npy" for index in range(8)]


def test_an_unsharded_run_replaces_the_tables_of_shards(make):
    run_request(make(shard=(1, 2)))
    run_request(make())
    assert [path.name for path in (make().folder / "axion").glob("*.csv")] == ["masses.csv"]


def test_masses_are_those_of_the_lenses(make):
    request = make(count=6)
    run_request(request)
    assert masses(request.folder / "axion" / "masses.csv") == {
        f"axion_sim_0000000{index}.npy": request.lens("axion", index).axion_mass_ev
        for index in range(6)
    }


def test_an_image_is_rendered_with_the_mass_in_its_row(make):
    request = make(count=1, classes=("axion",))
    run_request(request)
    lens = request.lens("axion", 0)
    image = np.load(request.image_path("axion", 0))
    assert np.array_equal(render_image(lens), image)
    assert not np.allclose(render_image(replace(lens, substructure=())), image, rtol=1e-3)


def test_an_interrupted_run_resumes(make):
    request = make()
    run_request(request)
    complete = contents(request.folder)
    kept = request.image_path("cdm", 2)
    before = kept.stat().st_mtime_ns
    request.image_path("cdm", 1).unlink()
    request.image_path("no_sub", 0).write_bytes(complete["no_sub/no_sub_sim_00000000.npy"][:900])
    request.image_path("axion", 3).rename(
        request.folder / "axion" / ".axion_sim_00000003.npy.77.partial"
    )
    (request.folder / "axion" / "masses.csv").unlink()
    outcome = run_request(request)
    assert (outcome.written, outcome.kept) == (3, 9)
    assert contents(request.folder) == complete
    assert kept.stat().st_mtime_ns == before


def test_a_complete_run_renders_nothing(make, monkeypatch):
    run_request(make())
    monkeypatch.setattr("deeplens_tf.simulation.generation.file_content", None)
    assert run_request(make()).written == 0


def test_a_larger_count_adds_images(make):
    run_request(make(count=2))
    small = images(make().folder)
    outcome = run_request(make(count=4))
    large = images(make().folder)
    assert (outcome.written, outcome.kept) == (6, 6)
    assert large.items() > small.items()
    assert len(masses(make().folder / "axion" / "masses.csv")) == 4


def test_no_image_of_one_split_is_in_the_other(make):
    train, test = make(), make(split="test")
    run_request(train)
    run_request(test)
    assert test.folder == train.folder.with_name("sim_test")
    shared = set(images(train.folder).values()) & set(images(test.folder).values())
    assert not shared
    assert images(train.folder).keys() == images(test.folder).keys()


def test_noise_is_added_to_the_undoubled_model(make):
    clean, noisy = make("clean", count=1), make("noisy", count=1, noise=True)
    run_request(clean)
    run_request(noisy)
    doubled = np.load(clean.image_path("no_sub", 0))
    image = np.load(noisy.image_path("no_sub", 0))
    assert np.abs(image - doubled / 2).max() < 0.1 * doubled.max()
    assert np.std(image - doubled / 2) > 0


def test_a_contradicting_request_changes_nothing(make):
    run_request(make())
    before = contents(make().folder)
    with pytest.raises(RequestError, match="differs in seed"):
        run_request(make(seed=2))
    assert contents(make().folder) == before


@pytest.mark.parametrize("name", ["file", "file/below", "sim/cdm"])
def test_a_file_in_place_of_a_folder_is_named(make, tmp_path, name):
    (tmp_path / "sim").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "sim" / "cdm").touch()
    with pytest.raises(RequestError, match="a file is in its place"):
        run_request(make(name.removesuffix("/cdm")))


def test_jobs_must_be_at_least_one(make):
    with pytest.raises(RequestError, match="jobs must be at least 1"):
        run_request(make(), jobs=0)


def test_the_library_function_runs_a_request_with_its_arguments(make, tmp_path):
    options = {"seed": 3, "split": "test", "noise": True, "shard": (2, 2)}
    options |= {"views_per_lens": 2, "shared": "substructure", "lens_prior": "wide"}
    options |= {"source_prior": "wide", "sky": Sky(1.2, "1:2", (1, 4), 2)}
    outcome = simulate(str(tmp_path / "sim"), 2, preset="model_iii", classes=["cdm"], **options)
    request = make(preset="model_iii", count=2, classes=("cdm",), **options)
    assert outcome.request == request
    assert (outcome.folder, outcome.written) == (tmp_path / "sim_test", 2)
    image = np.load(request.image_path("cdm", 1, 1))
    assert np.array_equal(render_image(outcome.request.lens("cdm", 1, 1), noise=True), image)


def test_defaults_of_the_library_function_are_those_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "run_request", lambda request, jobs: (request, jobs))
    arguments = build_parser().parse_args(["--count", "1", "--out", str(tmp_path)])
    request, jobs = simulate(tmp_path, 1)
    assert jobs == 1
    for name in (
        "preset",
        "seed",
        "split",
        "noise",
        "views_per_lens",
        "shared",
        "lens_prior",
        "source_prior",
        "format",
    ):
        assert getattr(arguments, name) == getattr(request, name)
    assert Sky(*(getattr(arguments, name) for name in SKY_BOUNDS)) == request.sky
    assert (arguments.bands, request.bands) == (None, ())
    assert (arguments.catalog, request.catalog) == (False, False)
    assert (arguments.classes, request.classes) == ("all", CLASSES)
    assert "{}/{}".format(*request.shard) == arguments.shard


@pytest.mark.parametrize(("preset", "scale"), [("model_i", 0.05), ("model_iii", 0.08)])
def test_a_folder_states_its_pixel_scale_once(tmp_path, preset, scale):
    request = SimulationRequest(preset, 1, tmp_path / "lenses", classes=("no_sub",))
    run_request(request)
    path = request.folder / "images.yaml"
    assert image_properties(request.folder).pixel_scale_arcsec == scale
    path.unlink()  # as in a folder of an earlier version
    run_request(request)
    assert image_properties(request.folder).pixel_scale_arcsec == scale
    path.write_text("pixel_scale_arcsec: 1\n")  # what a user corrects is kept
    run_request(request)
    assert image_properties(request.folder).pixel_scale_arcsec == 1
