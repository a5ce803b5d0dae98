"""The folder of a simulated survey: FITS files, catalogue, shards and resuming."""

import csv

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from deeplens_tf.data.image_properties import image_properties
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.generation import run_request, simulate
from deeplens_tf.simulation.render import render_image
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.survey_images import render_scene


@pytest.fixture
def make(tmp_path):
    def make_request(name="sim", **changes):
        options = {"preset": "sersic_survey", "count": 2, "seed": 1, "format": "fits"} | changes
        return SimulationRequest(out=tmp_path / name, **{"catalog": True} | options)

    return make_request


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def images(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".fits")}


def catalog(path):
    with path.open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def pixels_by_hand(path, shape, size):
    """The array of a FITS file, read as the standard says: blocks of 2,880 bytes, big-endian."""
    data = path.read_bytes()
    assert len(data) % 2880 == 0
    end = next(i for i in range(0, len(data), 80) if data[i : i + 80].rstrip() == b"END")
    start = (end // 2880 + 1) * 2880
    return np.frombuffer(data, f">f{size}", np.prod(shape), start).reshape(shape)


def test_folder_layout(make):
    run_request(make())
    assert sorted(contents(make().folder)) == [
        "catalog.csv",
        "images.yaml",
        "lens/lens_sim_00000000.fits",
        "lens/lens_sim_00000001.fits",
        "nonlens/nonlens_sim_00000000.fits",
        "nonlens/nonlens_sim_00000001.fits",
        "simulation.json",
    ]


def test_files_are_cubes_of_the_rendered_scenes(make):
    request = make(bands=("i", "g"))
    run_request(request)
    for name, index, _ in request.images():
        pixels = pixels_by_hand(request.image_path(name, index), (2, 64, 64), 4)
        rendered = render_scene(request.scene(name, index), ("i", "g"))
        assert np.array_equal(pixels, rendered.astype(np.float32))


def test_headers_are_valid_and_say_what_the_bands_are(make):
    request = make()
    run_request(request)
    # Warnings, such as one of a wrong checksum, are errors in the tests.
    with fits.open(request.image_path("lens", 1), checksum=True) as hdus:
        hdus.verify("exception")
        assert len(hdus) == 1
        header = hdus[0].header
        assert {"CHECKSUM", "DATASUM"} < set(header)
        assert [header[f"BAND{i}"] for i in (1, 2, 3)] == ["g", "r", "i"]
        assert [header[f"MAGZPT{i}"] for i in (1, 2, 3)] == [26.58, 26.78, 26.75]
        position = f"J{header['CRVAL1']:09.5f}{header['CRVAL2']:+09.5f}"
        assert (header["BUNIT"], header["OBJECT"]) == ("electron/s", position)


def test_a_damaged_file_does_not_have_its_checksum(make):
    request = make(count=1)
    run_request(request)
    path = request.image_path("lens", 0)
    damaged = bytearray(path.read_bytes())
    damaged[-4000] ^= 1
    path.write_bytes(damaged)
    with pytest.warns(UserWarning, match="(Checksum|Datasum) verification failed"):
        fits.open(path, checksum=True).close()


def test_the_centre_of_an_image_is_where_the_catalogue_says(make):
    request = make(count=4)
    run_request(request)
    for file, row in catalog(request.folder / "catalog.csv").items():
        wcs = WCS(fits.getheader(request.folder / file)).celestial
        position = SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg")
        assert wcs.pixel_to_world(31.5, 31.5).separation(position).arcsec < 1e-6
        to_the_right, up = wcs.pixel_to_world([41.5, 31.5], [31.5, 41.5])
        for place, angle_deg in ((to_the_right, 270.0), (up, 0.0)):
            assert position.separation(place).arcsec == pytest.approx(2.63, rel=1e-6)
            away = (position.position_angle(place).deg - angle_deg + 180.0) % 360.0 - 180.0
            assert abs(away) < 0.01


def test_the_catalogue_lists_every_image_with_its_quantities(make):
    request = make(count=3, bands=("r", "z"))
    run_request(request)
    rows = catalog(request.folder / "catalog.csv")
    assert rows.keys() == images(request.folder).keys()
    for name, index, _ in request.images():
        path = f"{name}/{name}_sim_{index:08d}.fits"
        scene = request.scene(name, index)
        row = rows[path]
        assert list(row) == [
            *("file", "id", "label", "ra", "dec", "theta_e_arcsec"),
            *("mag_r", "mag_z", "lensed_mag_r", "lensed_mag_z"),
        ]
        assert (row["id"], row["label"]) == (f"J{scene.ra_deg:09.5f}{scene.dec_deg:+09.5f}", name)
        assert (float(row["ra"]), float(row["dec"])) == (scene.ra_deg, scene.dec_deg)
        fluxes = [10.0 ** (-0.4 * each.magnitudes["z"]) for each in scene.galaxy]
        assert float(row["mag_z"]) == pytest.approx(-2.5 * np.log10(sum(fluxes)), abs=1e-12)
        of_lenses = [row[column] for column in ("theta_e_arcsec", "lensed_mag_r", "lensed_mag_z")]
        if name == "nonlens":
            assert of_lenses == ["", "", ""]
        else:
            expected = [scene.deflector.theta_e_arcsec, *map(scene.source.magnitudes.get, "rz")]
            assert list(map(float, of_lenses)) == expected


@pytest.mark.slow
def test_jobs_change_no_byte(make):
    run_request(make("alone", count=20))
    run_request(make("pooled", count=20), jobs=2)
    assert contents(make("pooled").folder) == contents(make("alone").folder)


def test_shards_change_no_image_and_split_the_catalogue(make):
    run_request(make("whole", count=5))
    for i in (2, 1):
        run_request(make("sharded", count=5, shard=(i, 2)))
    whole, sharded = make("whole").folder, make("sharded").folder
    assert images(sharded) == images(whole)
    assert not (sharded / "catalog.csv").exists()
    parts = [catalog(sharded / f"catalog-{i}-of-2.csv") for i in (1, 2)]
    assert [len(part) for part in parts] == [6, 4]
    assert parts[0] | parts[1] == catalog(whole / "catalog.csv")


def test_a_file_contains_neither_a_time_nor_a_version(make):
    run_request(make(count=1))
    for data in images(make().folder).values():
        header = data[: data.index(b"END ")].decode("ascii").lower()
        assert "date" not in header
        assert "astropy" not in header
        assert "202" not in header.replace(str(make().scene("lens", 0).ra_deg), "")


def test_an_interrupted_run_resumes(make):
    request = make()
    run_request(request)
    complete = contents(request.folder)
    kept = request.image_path("lens", 0)
    before = kept.stat().st_mtime_ns
    request.image_path("lens", 1).unlink()
    cut = request.image_path("nonlens", 0)
    cut.write_bytes(cut.read_bytes()[:-2880])
    (request.folder / "catalog.csv").unlink()
    outcome = run_request(request)
    assert (outcome.written, outcome.kept) == (2, 2)
    assert contents(request.folder) == complete
    assert kept.stat().st_mtime_ns == before


def test_a_larger_count_adds_images_and_rows(make):
    run_request(make(count=1))
    small = images(make().folder)
    run_request(make(count=3))
    assert images(make().folder).items() > small.items()
    assert len(catalog(make().folder / "catalog.csv")) == 6


def test_no_image_of_one_split_is_in_the_other(make):
    folders = [run_request(make(count=3, split=split)).folder for split in ("train", "test")]
    pixels = [
        {fits.getdata(folder / file).tobytes() for file in images(folder)} for folder in folders
    ]
    assert not pixels[0] & pixels[1]
    ids = [{row["id"] for row in catalog(folder / "catalog.csv").values()} for folder in folders]
    assert not ids[0] & ids[1]


def test_a_catalogue_can_be_added_and_not_be_left_behind(make):
    run_request(make(catalog=False))
    assert not (make().folder / "catalog.csv").exists()
    assert run_request(make()).written == 0
    assert len(catalog(make().folder / "catalog.csv")) == 4
    with pytest.raises(RequestError, match=r"in catalog \(recorded True, requested False\)"):
        run_request(make(count=3, catalog=False))


@pytest.mark.parametrize(
    ("changes", "key"), [({"bands": ("r", "g", "i")}, "bands"), ({"format": "npy"}, "format")]
)
def test_a_folder_has_one_format_and_one_order_of_bands(make, changes, key):
    run_request(make(count=1))
    with pytest.raises(RequestError, match=f"differs in {key} "):
        run_request(make(count=1, **changes))


def test_fits_images_without_a_record_are_not_mixed_with_simulations(make):
    (make().folder / "lens").mkdir(parents=True)
    (make().folder / "lens" / "a.fits").touch()
    with pytest.raises(RequestError, match="simulations don't mix with other images"):
        run_request(make())


def test_plain_arrays_have_the_pixels_of_the_fits_files(make):
    run_request(make("fits"))
    run_request(make("npy", format="npy"))
    for path in make("npy").folder.rglob("*.npy"):
        image = np.load(path, allow_pickle=False)
        assert (image.dtype, image.shape) == (np.float32, (3, 64, 64))
        twin = make("fits").folder / path.parent.name / f"{path.stem}.fits"
        assert np.array_equal(fits.getdata(twin), image)
    assert catalog(make("npy").folder / "catalog.csv").keys() == {
        f"{name}/{name}_sim_{index:08d}.npy" for name in ("lens", "nonlens") for index in (0, 1)
    }


@pytest.mark.parametrize(("preset", "unit"), [("model_i", "count"), ("model_iii", "count/s")])
def test_the_models_can_be_written_as_fits_too(make, preset, unit):
    request = make(preset=preset, count=1, catalog=False, views_per_lens=2)
    run_request(request)
    for name, index, view in request.images():
        path = request.image_path(name, index, view)
        rendered = render_image(request.lens(name, index, view))
        assert np.array_equal(pixels_by_hand(path, rendered.shape, 8), rendered)
        with fits.open(path, checksum=True) as hdus:
            assert (hdus[0].header["BUNIT"], hdus[0].header.get("BAND1")) == (
                unit,
                {"model_i": None, "model_iii": "F160W"}[preset],
            )
    assert "axion_sim_00000000_01.fits" in (request.folder / "axion" / "masses.csv").read_text()


def test_the_folder_states_its_pixel_scale_and_bands(make):
    run_request(make(count=1, bands=("g", "Y")))
    properties = image_properties(make().folder)
    assert properties.pixel_scale_arcsec == 0.263
    assert properties.band_names == ("g", "Y")  # a plain Y is a YAML text, not a truth value


def test_the_catalogue_is_read_with_its_classes_positions_and_quantities(make, tmp_path):
    request = make(count=12, format="npy")
    run_request(request)
    table = request.folder / "catalog.csv"
    prepare_folder(request.folder, tmp_path / "out", image_size=64, seed=0, catalog=table)
    data = open_folder(tmp_path / "out")
    assert data.classes == ("lens", "nonlens")
    columns = list(data.catalog_units)
    assert columns[:3] == ["id", "ra", "dec"]
    assert {"theta_e_arcsec", "mag_g", "lensed_mag_i"} < set(columns)
    rows = catalog(table)
    for split in ("train", "validation"):
        index, texts = data.index(split), data.catalog(split, columns)
        for file, label, (_, kept) in zip(
            index["file"], index["label"], texts.iterrows(), strict=True
        ):
            assert data.classes[label] == rows[file]["label"]
            assert dict(kept) == {column: rows[file][column] for column in columns}
    assert data.count("train") + data.count("validation") == 24


def test_the_library_function_passes_the_options_of_the_survey(make, tmp_path):
    options = {"preset": "sersic_survey", "seed": 1, "format": "fits", "catalog": True}
    outcome = simulate(tmp_path / "sim", 2, bands=["g", "r", "i"], **options)
    assert outcome.request == make()
