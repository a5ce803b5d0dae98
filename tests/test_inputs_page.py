"""docs/inputs.md: every row names a test that exists and a line that the program prints."""

import re

import pytest

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "inputs.md").read_text()
ROW = re.compile(r"^\| (?!input|---)(.+?) \| (.+?) \| (.*?) ?\| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE)


def test_the_page_has_rows():
    assert len(ROWS) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_is_shown_by_a_test(row):
    references = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", row[3])
    assert references
    for path, name in references:
        source = (REPOSITORY / "tests" / path).read_text()
        assert f"def {name or 'test_'}" in source
