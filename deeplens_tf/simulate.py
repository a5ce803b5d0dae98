"""Simulate strong lenses with and without substructure: `python -m deeplens_tf.simulate`."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplens_tf.cli import StageParser, parse_shard, run_stage, stage_parser
from deeplens_tf.cores import available_cores
from deeplens_tf.simulation.priors import LENS_PRIORS, SHARED_FIELDS, SOURCE_PRIORS
from deeplens_tf.simulation.request import (
    ALL_CLASSES,
    FILE_FORMATS,
    KNOWN_PRESETS,
    SIMULATED_SPLITS,
    SimulationRequest,
)
from deeplens_tf.simulation.skies import SKY_SUMMARIES, Sky
from deeplens_tf.terminal import counted, print_lines

if TYPE_CHECKING:
    from deeplens_tf.simulation.generation import SimulationOutcome

DESCRIPTION = """Simulate images of strong lenses, one folder per class: like those of the DeepLense
data sets, or lenses and non-lenses of a survey in several bands. An interrupted run resumes where
it stopped; a larger --count adds images. With --views-per-lens, objects.csv says which images show
one lens. Example: python -m deeplens_tf.simulate --count 1000 --out data/model_ii"""


def main(argv: Sequence[str]) -> None:
    """Simulate what the command line requests and report what was written where.

    Args:
        argv: the command line after the module's name.

    Raises:
        RequestError: an option is invalid, or the folder contains another simulation.
    """
    options = vars(build_parser().parse_args(argv))
    request = _request(options)
    if request.shared == "substructure" and request.lens_prior == "published":
        print_lines(
            f"halo and shear are the same in all lenses of {request.preset}: --shared substructure "
            "gives the images of --shared lens, unless --lens-prior is wide"
        )
    # Imported here, so that `--help` and an invalid option end without waiting for the renderer.
    from deeplens_tf.simulation.generation import run_request

    _report(run_request(request, options["jobs"]))


def build_parser() -> StageParser:
    """Return the parser of the command line, which defines the defaults of the options."""
    parser = stage_parser("simulate", DESCRIPTION)
    parser.add_argument("--preset", default="model_ii", help=f"one of {', '.join(KNOWN_PRESETS)}")
    parser.add_argument("--count", type=int, required=True, help="lenses per class")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other lenses")
    parser.add_argument("--jobs", type=int, default=available_cores(), help="processes to use")
    parser.add_argument(
        "--noise",
        action="store_true",
        help="add the instrument's noise; Model I and the survey always have noise",
    )
    parser.add_argument(
        "--split",
        default="train",
        help=f"one of {', '.join(SIMULATED_SPLITS)}; test writes <DIR>_test",
    )
    parser.add_argument(
        "--classes", default=",".join(ALL_CLASSES), help="classes to simulate, as in axion,cdm"
    )
    parser.add_argument(
        "--views-per-lens",
        type=int,
        default=1,
        metavar="K",
        help="images of each lens, which differ in source position, exposure time and noise",
    )
    parser.add_argument(
        "--shared",
        default="lens",
        help=f"what the images of a lens have in common: {' or '.join(SHARED_FIELDS)}, which "
        "differ with the wide prior only",
    )
    parser.add_argument(
        "--lens-prior",
        default="published",
        help=f"of halo and shear: {' or '.join(LENS_PRIORS)} (one for all lenses, or one for each)",
    )
    parser.add_argument(
        "--source-prior",
        default="published",
        help=f"of the source's size, index and shape: {' or '.join(SOURCE_PRIORS)}",
    )
    for name, text in SKY_SUMMARIES.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, default=getattr(Sky, name), metavar="X[:Y]", help=text)
    parser.add_argument("--shard", default="1/1", metavar="i/n", help="make the i-th of n parts")
    parser.add_argument("--format", default="npy", help=f"of files: {' or '.join(FILE_FORMATS)}")
    parser.add_argument("--bands", help="bands of the survey's images; without it g,r,i")
    parser.add_argument("--catalog", action="store_true", help="write the survey's catalog.csv")
    return parser


def _request(options: dict[str, Any]) -> SimulationRequest:
    sky = Sky(**{name: options[name] for name in SKY_SUMMARIES})
    names = {name: _names(options[name]) for name in ("classes", "bands")}
    given = options | names | {"shard": parse_shard(options["shard"]), "sky": sky}
    return SimulationRequest(**{f.name: given[f.name] for f in fields(SimulationRequest)})


def _names(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(name.strip() for name in text.split(","))


def _report(outcome: "SimulationOutcome") -> None:
    if outcome.other_versions:
        versions = ", ".join(f"{name} {number}" for name, number in outcome.other_versions.items())
        print_lines(f"deeplens_tf: existing images were made with {versions}", stream=sys.stderr)
    classes = ", ".join(outcome.request.classes)
    kept = f", kept {outcome.kept}" if outcome.kept else ""
    print_lines(f"wrote {counted(outcome.written, 'image')} of {classes}{kept}: {outcome.folder}")


if __name__ == "__main__":
    run_stage(main)
