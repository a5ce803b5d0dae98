"""A page of text, tables and pictures as one HTML file that loads nothing.

Texts may come from untrusted files, see `files.html_templates`. A policy in the page forbids
scripts and anything from elsewhere.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplens_tf.files.html_templates import rendered

TEMPLATE = Path(__file__).with_name("templates") / "report.html"


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of a row is its header.

    Attributes:
        caption: what the table lists.
        header: of the columns.
        rows: each as long as the header.
        folded: whether the reader opens it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture with its caption.

    Attributes:
        alt: what it shows, in words.
        png: content of the file.
        lines: of the caption.
    """

    alt: str
    png: bytes
    lines: Sequence[str] = ()

    @property
    def base64(self) -> str:
        """The content as letters, digits, `+`, `/` and `=`."""
        return b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out.

    Attributes:
        name: identifier in the page, a plain word.
        title: the heading.
        text: paragraphs.
        tables: shown after the paragraphs.
        pictures: figures, as wide as the page.
        images: small pictures, side by side.
        images_text: a line before them.
        code: heading and lines of a block of text that the reader opens.
        commands: heading and a command to copy.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    images: Sequence[Picture] = ()
    images_text: str = ""
    code: tuple[str, Sequence[str]] | None = None
    commands: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: of the page.
        subtitle: one line below it.
        headlines: name, value and interval of the most important scores.
        sections: in order.
        footer: one line at the end.
    """

    title: str
    subtitle: str
    headlines: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]
    footer: str


def html_of(page: Page) -> str:
    """Return a page as HTML; the same page gives the same text."""
    return rendered(TEMPLATE, page=page)
