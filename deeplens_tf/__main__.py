"""All stages as one command: `deeplens-tf STAGE ...` or `python -m deeplens_tf STAGE ...`."""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deeplens_tf import __version__
from deeplens_tf.cli import StageParser, run_stage
from deeplens_tf.errors import RequestError

STAGES = {
    "simulate": "simulate images of strong lenses with and without substructure",
    "prepare": "convert a folder of images to shards for training",
    "pretrain": "train an encoder on images, without their labels",
    "finetune": "train an encoder with a head on labelled images",
    "evaluate": "score a fine-tuned model or a probe of an encoder on test images",
    "predict": "write a fine-tuned model's predictions for new images",
    "export": "write a model with its preprocessing for other programs",
    "embed": "write an encoder's features for new images",
    "search": "list the images whose features are most like those of one",
    "explain": "draw what a network looks at in some images",
    "map": "draw the images of embeddings in two dimensions",
    "compare": "compare evaluated runs in one table and figure",
    "convert": "convert Keras 2 weights of the original project to an encoder",
}


def main() -> NoReturn:
    """Run the stage that the command line names, as `python -m deeplens_tf.STAGE` does."""
    run_stage(_run_named_stage)


def build_parser() -> StageParser:
    """Return the parser of the first argument: a stage's name, `--help` or `--version`."""
    listed = "\n".join(f"  {name:10}{summary}" for name, summary in STAGES.items())
    parser = StageParser(
        prog=_program(),
        usage="%(prog)s STAGE [OPTION ...]",
        description="Self-supervised learning for strong gravitational lensing.",
        epilog=f"stages:\n{listed}\n\n%(prog)s STAGE --help lists the options of a stage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"deeplens_tf {__version__}")
    parser.add_argument("stage", metavar="STAGE", help="one of those below")
    return parser


def _run_named_stage(argv: Sequence[str]) -> None:
    parser = build_parser()
    stage = parser.parse_args(argv[:1]).stage
    if stage not in STAGES:
        near = difflib.get_close_matches(stage, STAGES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(STAGES)}"
        raise RequestError(f"unknown stage {stage!r}: {hint} (see {parser.prog} --help)")
    module = importlib.import_module(f"deeplens_tf.{stage}")
    StageParser.command = f"{parser.prog} "
    # The same as after `python -m deeplens_tf.STAGE`; environment.json records it.
    sys.argv = [str(module.__file__), *argv[1:]]
    module.main(argv[1:])


def _program() -> str:
    name = Path(sys.argv[0]).name
    return "python -m deeplens_tf" if name == "__main__.py" else name


if __name__ == "__main__":
    main()
