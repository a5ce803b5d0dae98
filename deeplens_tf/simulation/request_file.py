"""`simulation.json`: the record of a folder's request, which keeps two simulations apart."""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deeplens_tf import __version__
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import create_whole, write_whole
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.simulation.request import TEST_SUFFIX, SimulationRequest
from deeplens_tf.simulation.skies import USUAL_SKY, described_sky

RECORD_NAME = "simulation.json"
# Requests that differ in one of these need folders of their own.
FIXED_KEYS = (
    *(
        "preset",
        "split",
        "seed",
        "noise",
        "views_per_lens",
        "shared",
        "lens_prior",
        "source_prior",
        *USUAL_SKY.describe(),
        "format",
        "bands",
    ),
)
# What a record of an earlier version, which lacks these keys, stands for.
EARLIER_REQUESTS = {
    **{"views_per_lens": 1, "shared": "lens", "lens_prior": "published"},
    **{"source_prior": "published", **USUAL_SKY.describe()},
    **{"format": "npy", "bands": [], "catalog": False},
}
# A later request may extend these: existing images stay valid.
GROWING_KEYS = ("count", "classes", "catalog")
USE_ANOTHER = "use another folder (out)"


def claim_folder(request: SimulationRequest) -> dict[str, str]:
    """Record the request in its folder, or check it against the existing record.

    Shards may do this at the same time: the first one writes, the others find its record.

    Returns:
        package -> recorded version, where another version is installed now; usually empty.

    Raises:
        RequestError: the folder contains another simulation, or images without a record.
    """
    wanted = describe(request)
    found = _read(request)
    if found is None:
        _refuse_unrecorded_images(request)
        if create_whole(request.folder / RECORD_NAME, _to_bytes(wanted)):
            return {}
        found = _read(request) or wanted
    _require_compatible(request, found, wanted)
    _extend(request, found, wanted)
    installed = wanted["versions"]
    return {
        package: recorded
        for package, recorded in found["versions"].items()
        if recorded != installed.get(package)
    }


def describe(request: SimulationRequest) -> dict[str, Any]:
    """Return the record of a request: its options, and the versions that make its images."""
    return {
        "preset": request.preset,
        "split": request.split,
        "seed": request.seed,
        "noise": request.noise,
        "views_per_lens": request.views_per_lens,
        "shared": request.shared,
        "lens_prior": request.lens_prior,
        "source_prior": request.source_prior,
        **request.sky.describe(),
        "format": request.format,
        "bands": list(request.bands),
        "catalog": request.catalog,
        "classes": list(request.classes),
        "count": request.count,
        "versions": {
            "deeplens_tf": __version__,
            "lenstronomy": _version_of_an_extra("lenstronomy"),
            "numpy": version("numpy"),
        },
    }


def _version_of_an_extra(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def recorded_request(folder: Path) -> SimulationRequest | None:
    """Return the request that filled a folder, without a shard; None for a folder without a record.

    Raises:
        RequestError: the record is not one that this package wrote.
    """
    path, example = folder / RECORD_NAME, describe(SimulationRequest("model_ii", 1, Path("any")))
    found = _read_record(path, example, "simulate the images again")
    if found is None:
        return None
    values = {key: found[key] for key in (*FIXED_KEYS, *GROWING_KEYS)}
    ranges = {key: values.pop(key) for key in USUAL_SKY.describe()}
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    out = folder.resolve()
    out = out.with_name(out.name.removesuffix(TEST_SUFFIX))
    try:
        return SimulationRequest(out=out, sky=described_sky(ranges), **values | lists)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error


def _read(request: SimulationRequest) -> dict[str, Any] | None:
    return _read_record(request.folder / RECORD_NAME, describe(request), USE_ANOTHER)


def _read_record(path: Path, wanted: dict[str, Any], advice: str) -> dict[str, Any] | None:
    """Return a record that has the keys of `wanted`, with values of the same types."""
    try:
        found = EARLIER_REQUESTS | read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnusableFile as error:
        raise RequestError(f"{path} is not readable ({error}); {advice}") from error
    if missing := wanted.keys() - found:
        raise RequestError(f"{path} lacks {', '.join(sorted(missing))}; {advice}")
    for key, value in wanted.items():
        # A value of another type can't be compared.
        if type(found[key]) is not type(value) or not _contains_only_text(found[key]):
            raise RequestError(f"{path} has no readable {key}; {advice}")
    return found


def _contains_only_text(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(isinstance(item, str) for item in items)


def _refuse_unrecorded_images(request: SimulationRequest) -> None:
    patterns = ("*/*.np[yz]", "*/*.fits")
    image = next((path for each in patterns for path in request.folder.glob(each)), None)
    # Read again, because another shard may just have written the record and its first image.
    if image is not None and _read(request) is None:
        raise RequestError(
            f"{image} exists but {request.folder / RECORD_NAME} doesn't: "
            f"simulations don't mix with other images; {USE_ANOTHER}"
        )


def _require_compatible(
    request: SimulationRequest, found: dict[str, Any], wanted: dict[str, Any]
) -> None:
    differing = [key for key in FIXED_KEYS if found[key] != wanted[key]]
    # The other way round, images would lack a row of the catalogue.
    differing += [key for key in ("count", "catalog") if found[key] > wanted[key]]
    if not set(found["classes"]) <= set(wanted["classes"]):
        differing.append("classes")
    if differing:
        details = ", ".join(
            f"{key} (recorded {found[key]!r}, requested {wanted[key]!r})" for key in differing
        )
        raise RequestError(
            f"{request.folder} contains another simulation, which differs in {details}; "
            f"{USE_ANOTHER}"
        )


def _extend(request: SimulationRequest, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    extended = {key: wanted[key] for key in GROWING_KEYS if found[key] != wanted[key]}
    if extended:
        content = _to_bytes(found | extended)
        write_whole(request.folder / RECORD_NAME, lambda file: file.write(content))


def _to_bytes(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()
