"""Each command that the documentation shows is one that its stage, or make, takes."""

import importlib
import re
import shlex

import pytest

from deeplens_tf.__main__ import STAGES
from tests.conftest import REPOSITORY
from tests.test_packaging import phony_targets

PAGES = (
    REPOSITORY / "README.md",
    REPOSITORY / "data" / "README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "docs" / "cluster").iterdir()),
    *sorted((REPOSITORY / "deeplens_tf" / "weights").glob("*/README.md")),
)
STAGE = re.compile(r"(?:python -m deeplens_tf\.|deeplens-tf )(\w+)((?: [^`\n#|>;]*)?)")
MAKE = re.compile(r"^(?: {4}|.*`)make ([a-z]+(?:-[a-z]+)*)\b(?!-)", re.M)


def commands():
    """Yield (page, stage, words), but for places of the user's own words and for plugins.

    The pages on plugins have tests of their own.
    """
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for stage, words in STAGE.findall(text):
            if stage != "STAGE" and " ..." not in words and "--plugin" not in words:
                yield page.relative_to(REPOSITORY).as_posix(), stage, words.strip()


COMMANDS = sorted(set(commands()))


def test_there_are_many():
    assert len(COMMANDS) > 60
    assert {stage for _, stage, _ in COMMANDS} >= {*STAGES}


@pytest.mark.parametrize(("page", "stage", "words"), COMMANDS)
def test_a_stage_takes_the_command(page, stage, words):
    module = importlib.import_module(f"deeplens_tf.{stage}")
    if stage == "config_schema":
        assert words == ""
    elif words:  # otherwise the name of the stage alone
        module.build_parser().parse_args(shlex.split(words))


def test_make_has_the_targets():
    found = {target for page in PAGES for target in MAKE.findall(page.read_text())}
    assert {"docs", "setup", "test"} & found
    assert found - {"help"} <= phony_targets()
