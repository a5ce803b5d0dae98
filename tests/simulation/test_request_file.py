import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from deeplens_tf import __version__
from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.request_file import claim_folder, describe, recorded_request
from deeplens_tf.simulation.skies import USUAL_SKY, Sky


@pytest.fixture
def request_(tmp_path):
    return SimulationRequest("model_ii", 10, tmp_path, seed=4, classes=("axion", "cdm"))


def record(folder):
    return json.loads((folder / "simulation.json").read_text())


def claim_with_seed(folder, seed):
    try:
        claim_folder(SimulationRequest("model_ii", 10, Path(folder), seed=seed))
    except RequestError:
        return None
    return seed


def test_record_contains_the_options_and_the_versions(request_, tmp_path):
    assert claim_folder(request_) == {}
    found = record(tmp_path)
    versions = found.pop("versions")
    assert found == {
        "preset": "model_ii",
        "split": "train",
        "seed": 4,
        "noise": False,
        "views_per_lens": 1,
        "shared": "lens",
        "lens_prior": "published",
        "source_prior": "published",
        "psf_scale": "1.0",
        "noise_scale": "1.0",
        "source_index": "prior",
        "lens_offset_pixels": "0.0",
        "format": "npy",
        "bands": [],
        "catalog": False,
        "classes": ["axion", "cdm"],
        "count": 10,
    }
    assert versions["deeplens_tf"] == __version__
    assert versions.keys() == {"deeplens_tf", "lenstronomy", "numpy"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"preset": "model_iii"}, "preset"),
        ({"seed": 5}, "seed"),
        ({"noise": True}, "noise"),
        ({"views_per_lens": 2}, "views_per_lens"),
        ({"format": "fits"}, "format"),
        ({"source_prior": "wide"}, "source_prior"),
        ({"sky": Sky(psf_scale=1.2)}, "psf_scale"),
        ({"sky": Sky(source_index="1:4")}, "source_index"),
        ({"sky": Sky(lens_offset_pixels=2)}, "lens_offset_pixels"),
        ({"count": 9}, "count"),
        ({"classes": ("axion",)}, "classes"),
        ({"classes": ("cdm", "no_sub")}, "classes"),
    ],
)
def test_contradictions_are_named(request_, tmp_path, changes, key):
    claim_folder(request_)
    before = record(tmp_path)
    with pytest.raises(
        RequestError, match=rf"another simulation, which differs in {key} \(recorded .*\); "
    ):
        claim_folder(replace(request_, **changes))
    assert record(tmp_path) == before


def test_what_the_images_of_a_lens_share_is_part_of_the_record(request_):
    claim_folder(replace(request_, views_per_lens=2))
    with pytest.raises(RequestError, match=r"in shared \(recorded 'lens', .* 'substructure'\)"):
        claim_folder(replace(request_, views_per_lens=2, shared="substructure"))


def test_a_record_of_an_earlier_version_stands_for_one_image_of_each_lens(request_, tmp_path):
    claim_folder(request_)
    earlier = record(tmp_path)
    later = ("views_per_lens", "shared", "lens_prior", "source_prior", *USUAL_SKY.describe())
    for key in (*later, "format", "bands", "catalog"):
        del earlier[key]
    (tmp_path / "simulation.json").write_text(json.dumps(earlier))
    assert claim_folder(request_) == {}
    with pytest.raises(RequestError, match=r"in views_per_lens \(recorded 1, requested 2\)"):
        claim_folder(replace(request_, views_per_lens=2))
    assert record(tmp_path) == earlier
    claim_folder(replace(request_, count=11))
    assert record(tmp_path)["count"] == 11


def test_all_keys_that_differ_are_named(request_):
    claim_folder(request_)
    with pytest.raises(RequestError, match=r"in preset .*, seed .*, noise .*, count "):
        claim_folder(replace(request_, preset="model_i", seed=0, count=1))


def test_the_record_of_a_training_split_is_refused_for_a_test_split(request_, tmp_path):
    test_request = replace(request_, out=tmp_path / "sim", split="test")
    test_request.folder.mkdir()
    claim_folder(replace(request_, out=tmp_path))
    (tmp_path / "simulation.json").rename(test_request.folder / "simulation.json")
    with pytest.raises(RequestError, match="in split"):
        claim_folder(test_request)


@pytest.mark.parametrize(
    "changes", [{}, {"shard": (2, 3)}, {"count": 11}, {"classes": ("axion", "cdm", "no_sub")}]
)
def test_the_same_request_or_a_larger_one_is_accepted(request_, tmp_path, changes):
    claim_folder(request_)
    more = replace(request_, **changes)
    claim_folder(more)
    assert record(tmp_path)["count"] == more.count
    assert tuple(record(tmp_path)["classes"]) == more.classes


def test_other_versions_are_reported(request_, tmp_path):
    claim_folder(request_)
    found = record(tmp_path)
    found["versions"]["lenstronomy"] = "1.0"
    (tmp_path / "simulation.json").write_text(json.dumps(found))
    assert claim_folder(request_) == {"lenstronomy": "1.0"}


def test_images_without_a_record_are_not_mixed_with_simulations(request_, tmp_path):
    (tmp_path / "cdm").mkdir()
    (tmp_path / "cdm" / "cdm_sim_1061178458093.npy").touch()
    with pytest.raises(RequestError, match="simulations don't mix with other images"):
        claim_folder(request_)
    assert not (tmp_path / "simulation.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"preset": "model_ii"}'])
def test_a_damaged_record_is_refused(request_, tmp_path, content):
    (tmp_path / "simulation.json").write_text(content)
    with pytest.raises(RequestError, match=r"simulation\.json (is not readable|lacks)"):
        claim_folder(request_)


def test_one_of_many_simultaneous_requests_claims_the_folder(tmp_path):
    tasks = [(str(tmp_path), seed) for seed in range(24)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        winners = {seed for seed in pool.starmap(claim_with_seed, tasks, chunksize=1)} - {None}
    assert winners == {record(tmp_path)["seed"]}
    assert [path.name for path in tmp_path.iterdir()] == ["simulation.json"]


@pytest.mark.parametrize(
    "options",
    [
        {"classes": ("axion", "cdm"), "seed": 4, "views_per_lens": 2, "lens_prior": "wide"},
        {"preset": "model_i", "split": "test", "format": "fits"},
        {"preset": "sersic_survey", "bands": ("g", "Y"), "catalog": True},
        {"noise": True, "source_prior": "wide", "sky": Sky(noise_scale="1:2", source_index=4)},
    ],
)
def test_the_request_of_a_folder_is_read_back(options, tmp_path):
    request = SimulationRequest(
        **{"preset": "model_ii", "count": 7, "out": tmp_path / "d"} | options
    )
    request.folder.mkdir()
    assert recorded_request(request.folder) is None
    claim_folder(request)
    found = recorded_request(request.folder)
    assert describe(found) == describe(request)
    assert found.folder == request.folder


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"count": "7"}, "has no readable count; simulate the images again"),
        ({"classes": [7]}, "has no readable classes; simulate"),
        ({"preset": "model_v"}, "simulation.json: unknown preset 'model_v'"),
        ({"seed": -1}, "simulation.json: seed must be from 0"),
        ({"psf_scale": "9"}, "simulation.json: psf_scale must be from 0.5 to 5"),
    ],
)
def test_a_record_that_is_no_request_is_refused(changes, line, request_, tmp_path):
    claim_folder(request_)
    (tmp_path / "simulation.json").write_text(json.dumps(record(tmp_path) | changes))
    with pytest.raises(RequestError, match=line):
        recorded_request(tmp_path)
    (tmp_path / "simulation.json").write_text("{")
    with pytest.raises(RequestError, match=r"simulation\.json is not readable"):
        recorded_request(tmp_path)
