"""README for a package index: no target is relative, by a parser of Markdown."""

import pytest
from markdown_it import MarkdownIt
from package_page import address_of_project, package_page

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
ADDRESS = "https://example.org/lab/deeplens_tf"
TEXT = """A [page](docs/start.md#here), [`code`](results/), [web](https://a.org/x.md), [x](#part).

![a ring](docs/ring.png)

*A ring. From [tutorial 1](notebooks/01.ipynb).*

## Part
"""


def targets(text):
    """Yield (kind, target) of each link and picture."""
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        for token in block.children or ():
            if token.type in ("link_open", "image"):
                yield token.type, token.attrGet("href") or token.attrGet("src")


def test_without_an_address_links_are_text_and_pictures_are_left_out():
    expected = "A page, `code`, [web](https://a.org/x.md), [x](#part).\n\n## Part\n"
    assert package_page(TEXT, "") == expected


def test_with_an_address_links_and_pictures_lead_there():
    assert sorted(targets(package_page(TEXT, ADDRESS))) == [
        ("image", f"{ADDRESS}/raw/main/docs/ring.png"),
        ("link_open", "#part"),
        ("link_open", "https://a.org/x.md"),
        ("link_open", f"{ADDRESS}/blob/main/docs/start.md#here"),
        ("link_open", f"{ADDRESS}/blob/main/notebooks/01.ipynb"),
        ("link_open", f"{ADDRESS}/blob/main/results/"),
    ]


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_readme_has_no_relative_target_left(address):
    assert len(list(targets(README))) > 30
    found = list(targets(package_page(README, address)))
    assert all(target.startswith(("https://", "#")) for _, target in found)
    assert len(found) > 30 or not address


def test_the_project_shows_no_address_that_it_does_not_have():
    address = address_of_project()
    pages = [README, *(path.read_text() for path in (REPOSITORY / "docs").glob("*.md"))]
    assert not address or address.startswith("https://")
    assert not any("img.shields.io" in page for page in pages)  # badges
