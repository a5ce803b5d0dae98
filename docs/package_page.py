"""README as a package index shows it: its links lead to the project's address, or nowhere.

    python docs/package_page.py README.md

rewrites a copy of README in place, for `make dist`. The address is `url` of the section `metadata`
in setup.cfg. As long as there is none, links become their text, and pictures with their captions
are left out.
"""

import configparser
import re
import sys
from pathlib import Path

SETTINGS = Path(__file__).parent.parent / "setup.cfg"
# A relative target: no scheme, and no place within the page.
PICTURE = re.compile(r"!\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")
CAPTIONED = re.compile(r"!\[[^\]]*\]\((?!\w+:)[^)]+\)\n\n(?:\*[^*]+\*\n\n)?")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")


def package_page(text: str, address: str) -> str:
    """Return a page without relative targets.

    Args:
        text: in Markdown.
        address: of the repository, whose files are below `/raw/main/` and `/blob/main/`; empty if
            it has none.
    """
    if not address:
        return LINK.sub(r"\1", CAPTIONED.sub("", text))
    text = PICTURE.sub(rf"![\1]({address}/raw/main/\2)", text)
    return LINK.sub(rf"[\1]({address}/blob/main/\2)", text)


def address_of_project() -> str:
    """Return the public address of the repository, or an empty text."""
    settings = configparser.ConfigParser()
    settings.read(SETTINGS, encoding="utf-8")
    return settings.get("metadata", "url", fallback="").rstrip("/")


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(package_page(page.read_text("utf-8"), address_of_project()), "utf-8")
