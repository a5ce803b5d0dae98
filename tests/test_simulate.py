import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from deeplens_tf.errors import RequestError
from deeplens_tf.simulate import main
from deeplens_tf.simulation.render import render_image
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.skies import Sky


def argv(folder, **options):
    given = {"preset": "model_ii", "count": 2, "seed": 1, "jobs": 1, "out": folder} | options
    named = ((f"--{name.replace('_', '-')}", str(value)) for name, value in given.items())
    return [word for option in named for word in option]


def start(folder, **options):
    # A shell starts background processes with SIGINT ignored, and children inherit that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "deeplens_tf.simulate", *argv(folder, **options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, inherited)


def wait_for_images(folder, count):
    deadline = time.monotonic() + 60
    while len(list(folder.rglob("*.npy"))) < count:
        assert time.monotonic() < deadline, "no images"
        time.sleep(0.02)


def wait_for_end_of_session(pid):
    """Return whether all processes of the session end within 20 seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def image_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.npy")}


def test_images_are_written_and_the_last_line_names_the_folder(tmp_path, capsys):
    main(argv(tmp_path / "sim"))
    captured = capsys.readouterr()
    assert captured.out == f"wrote 6 images of axion, cdm, no_sub: {tmp_path / 'sim'}\n"
    assert captured.err == ""
    assert len(image_bytes(tmp_path / "sim")) == 6


def test_a_second_run_reports_what_it_kept(tmp_path, capsys):
    main(argv(tmp_path / "sim", classes="cdm"))
    main(argv(tmp_path / "sim", classes="cdm", count=3))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"wrote 1 image of cdm, kept 2: {tmp_path / 'sim'}"


def test_options_reach_the_request(tmp_path):
    main([*argv(tmp_path / "sim", split="test", classes="no_sub, cdm", shard="2/2"), "--noise"])
    folder = tmp_path / "sim_test"
    record = json.loads((folder / "simulation.json").read_text())
    assert (record["split"], record["noise"], record["classes"]) == (
        "test",
        True,
        ["cdm", "no_sub"],
    )
    assert sorted(image_bytes(folder)) == ["cdm_sim_00000001.npy", "no_sub_sim_00000001.npy"]


def test_the_sky_reaches_the_images_and_the_record(tmp_path):
    options = {"psf_scale": 1.2, "noise_scale": "1:2", "source_index": 4, "lens_offset_pixels": 2}
    options |= {"classes": "no_sub", "count": 1, "source_prior": "wide"}
    main([*argv(tmp_path, **options), "--noise"])
    record = json.loads((tmp_path / "simulation.json").read_text())
    assert [record[name] for name in list(options)[:4]] == ["1.2", "1.0:2.0", "4.0", "2.0"]
    sky = Sky(1.2, (1, 2), 4, 2)
    request = SimulationRequest("model_ii", 1, tmp_path, 1, True, source_prior="wide", sky=sky)
    image = np.load(tmp_path / "no_sub" / "no_sub_sim_00000000.npy")
    assert np.array_equal(image, render_image(request.lens("no_sub", 0), noise=True))


def test_several_images_of_each_lens_reach_the_folder(tmp_path, capsys):
    main(argv(tmp_path / "sim", classes="cdm", count=1, views_per_lens=2))
    assert capsys.readouterr().out == f"wrote 2 images of cdm: {tmp_path / 'sim'}\n"
    assert sorted(image_bytes(tmp_path)) == ["cdm_sim_00000000_00.npy", "cdm_sim_00000000_01.npy"]
    assert (tmp_path / "sim" / "objects.csv").is_file()


def test_an_option_without_effect_on_the_images_is_named(tmp_path, capsys):
    options = {"classes": "no_sub", "count": 1, "views_per_lens": 2}
    main(argv(tmp_path / "lens", **options))
    main(argv(tmp_path / "substructure", **options, shared="substructure"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        "halo and shear are the same in all lenses of model_ii: --shared substructure gives the "
        "images of --shared lens, unless --lens-prior is wide"
    )
    assert image_bytes(tmp_path / "lens") == image_bytes(tmp_path / "substructure")


def test_images_made_by_other_versions_are_reported(tmp_path, capsys):
    main(argv(tmp_path, count=1, classes="no_sub"))
    path = tmp_path / "simulation.json"
    path.write_text(path.read_text().replace('"lenstronomy": "1.', '"lenstronomy": "0.'))
    main(argv(tmp_path, count=2, classes="no_sub"))
    assert "existing images were made with lenstronomy 0." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "model_iv"}, "unknown preset"),
        ({"count": 0}, "count must be from 1"),
        ({"count": "many"}, "--count"),
        ({"shard": "3/2"}, "shard i/n needs"),
        ({"shard": "3"}, "--shard takes i/n"),
        ({"classes": "wdm"}, "unknown class 'wdm'"),
        ({"classes": ""}, "unknown class ''"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"split": "validation"}, "unknown split"),
        ({"views_per_lens": 0}, "views_per_lens must be from 1 to 100"),
        ({"views_per_lens": "two"}, "--views-per-lens"),
        ({"views_per_lens": 2, "shared": "source"}, "known: lens, substructure"),
        ({"shared": "substructure"}, "shared substructure has no effect on one image"),
        ({"format": "h5"}, "unknown format 'h5'; known: npy, fits"),
        ({"bands": "g"}, "model_ii has one band: bands needs preset sersic_survey"),
        ({"preset": "sersic_survey", "bands": "g,"}, "unknown band ''; known: g, r, i, z, Y"),
        ({"preset": "sersic_survey", "views_per_lens": 2}, "makes one image of each lens"),
        ({"source_prior": "narrow"}, "unknown source prior 'narrow'; known: published, wide"),
        ({"psf_scale": "wide"}, "psf_scale takes a number or low:high, as in 0.8:1.25"),
        ({"psf_scale": "1.2:0.8"}, "psf_scale must be from 0.5 to 5, the lower end first"),
        ({"source_index": 0.1}, "source_index must be from 0.5 to 10"),
        ({"lens_offset_pixels": 40}, "lens_offset_pixels must be from 0 to 16"),
        ({"noise_scale": 2}, "noise_scale has no effect on images without noise"),
        ({"preset": "sersic_survey", "psf_scale": 2}, "its own sky: psf_scale needs another"),
        ({"preset": "sersic_survey", "source_prior": "wide"}, "source_prior needs another preset"),
        ({"wrong": 1}, "--wrong"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(RequestError, match=message):
        main(argv(tmp_path / "sim", **options))
    assert not (tmp_path / "sim").exists()


def test_an_invalid_request_ends_with_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "file").touch()
    run = start(tmp_path / "file")
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert err.startswith("deeplens_tf: ")
    assert len(err.splitlines()) == 1


def test_help_needs_no_heavy_import():
    code = (
        "import sys; from deeplens_tf.simulate import build_parser; build_parser().format_help();"
        "print({'tensorflow', 'keras', 'lenstronomy', 'astropy', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.slow
def test_tensorflow_is_never_loaded(tmp_path):
    code = (
        "import sys; from deeplens_tf.simulate import main; main(sys.argv[1:]);"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, *argv(tmp_path, count=1)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "exit_code", "to_whole_group"),
    # A batch system signals one process, Ctrl-C the whole group.
    [(signal.SIGTERM, 143, False), (signal.SIGINT, 130, True)],
)
def test_a_stop_ends_all_processes_without_a_traceback(tmp_path, stop, exit_code, to_whole_group):
    run = start(tmp_path, count=100_000, jobs=2)
    wait_for_images(tmp_path, 5)
    (os.killpg if to_whole_group else os.kill)(run.pid, stop)
    _, err = run.communicate(timeout=30)
    assert run.returncode == exit_code
    assert err == f"deeplens_tf: stopped by {stop.name}\n"
    assert wait_for_end_of_session(run.pid)


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 2])
def test_a_killed_run_leaves_no_worker_and_resumes(tmp_path, views):
    options = {"count": 200 // views, "classes": "axion", "views_per_lens": views}
    run = start(tmp_path / "killed", **options | {"jobs": 2})
    wait_for_images(tmp_path / "killed", 5)
    run.kill()
    run.communicate(timeout=30)
    assert wait_for_end_of_session(run.pid)
    left = image_bytes(tmp_path / "killed")
    assert all(len(data) == 128 + 8 * 64**2 for data in left.values())
    objects = [path.read_text() for path in (tmp_path / "killed").glob("objects.csv")]
    for folder in ("killed", "whole"):
        main(argv(tmp_path / folder, **options))
    assert 5 <= len(left) < 200
    assert image_bytes(tmp_path / "killed") == image_bytes(tmp_path / "whole")
    for table in ["axion/masses.csv"] + (["objects.csv"] if views > 1 else []):
        csv = [(tmp_path / name / table).read_text() for name in ("killed", "whole")]
        assert csv[0] == csv[1]
    # The killed run had already named the object of every image.
    assert objects == ([csv[0]] if views > 1 else [])
    assert not list(tmp_path.rglob("*.partial"))


def test_images_are_plain_arrays(tmp_path):
    main(argv(tmp_path, count=1, classes="axion"))
    image = np.load(tmp_path / "axion" / "axion_sim_00000000.npy", allow_pickle=False)
    assert (image.shape, image.dtype) == ((64, 64), np.float64)
