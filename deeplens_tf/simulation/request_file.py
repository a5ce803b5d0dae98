"""`simulation.json`: what a folder of simulations holds, so that no two requests mix in it."""

import json
from importlib.metadata import version
from typing import Any

from deeplens_tf import __version__
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import create_whole, write_whole
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.simulation.request import SimulationRequest

RECORD_NAME = "simulation.json"
# Two requests that differ in one of these have no image in common.
FIXED_KEYS = ("preset", "split", "seed", "noise")
# These may grow: the images that are there stay what they are.
GROWING_KEYS = ("count", "classes")


def claim_folder(request: SimulationRequest) -> dict[str, str]:
    """Write the request into its folder's record, or check it against the one that is there.

    Shards may do this at the same time: the first one writes, the others find its record.

    Returns:
        The recorded versions that aren't the installed ones, by package; empty as a rule.

    Raises:
        RequestError: the folder belongs to another request, or holds images without a record.
    """
    wanted = describe(request)
    found = _read(request)
    if found is None:
        _refuse_foreign_images(request)
        if create_whole(request.folder / RECORD_NAME, _to_bytes(wanted)):
            return {}
        found = _read(request) or wanted
    _check_same(request, found, wanted)
    _extend(request, found, wanted)
    return {
        name: was for name, was in found["versions"].items() if was != wanted["versions"].get(name)
    }


def describe(request: SimulationRequest) -> dict[str, Any]:
    """Return the record of a request: what was asked for, and what made it."""
    return {
        "preset": request.preset,
        "split": request.split,
        "seed": request.seed,
        "noise": request.noise,
        "classes": list(request.classes),
        "count": request.count,
        "versions": {
            "deeplens_tf": __version__,
            "lenstronomy": version("lenstronomy"),
            "numpy": version("numpy"),
        },
    }


def _read(request: SimulationRequest) -> dict[str, Any] | None:
    path = request.folder / RECORD_NAME
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except UnusableFile as error:
        raise RequestError(f"{path} is not readable ({error}); use another --out") from error
    wanted = describe(request)
    if missing := wanted.keys() - found:
        raise RequestError(f"{path} lacks {', '.join(sorted(missing))}; use another --out")
    for key, value in wanted.items():
        # Of another kind, a value cannot even be compared.
        if type(found[key]) is not type(value) or not _holds_texts(found[key]):
            raise RequestError(f"{path} has no readable {key}; use another --out")
    return found


def _holds_texts(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(isinstance(item, str) for item in items)


def _refuse_foreign_images(request: SimulationRequest) -> None:
    foreign = next(request.folder.glob("*/*.np[yz]"), None)
    # Read once more: another shard may have written the record and its first image just now.
    if foreign is not None and _read(request) is None:
        raise RequestError(
            f"{foreign} is there, but {request.folder / RECORD_NAME} isn't: "
            "simulations don't mix with other images; use another --out"
        )


def _check_same(request: SimulationRequest, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [key for key in FIXED_KEYS if found[key] != wanted[key]]
    if found["count"] > wanted["count"]:
        differing.append("count")
    if not set(found["classes"]) <= set(wanted["classes"]):
        differing.append("classes")
    if differing:
        details = ", ".join(
            f"{key} (there {found[key]!r}, asked for {wanted[key]!r})" for key in differing
        )
        raise RequestError(f"{request.folder} holds another simulation, by {details}")


def _extend(request: SimulationRequest, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    grown = {key: wanted[key] for key in GROWING_KEYS if found[key] != wanted[key]}
    if grown:
        content = _to_bytes(found | grown)
        write_whole(request.folder / RECORD_NAME, lambda file: file.write(content))


def _to_bytes(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()
