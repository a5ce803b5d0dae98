"""What reaches the terminal: names and messages with nothing in them that a terminal obeys.

File names, class names and what stands in a stranger's file may hold escape sequences, line breaks
or bytes that are no text. Every stage prints through `say`.
"""

import sys
from typing import TextIO

MAX_LINE_LENGTH = 2000


def printable(text: object) -> str:
    r"""Return a text with whatever is not a printable character as its escape, such as `\x1b`."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def shortened(text: str) -> str:
    """Return a text cut to the length of the longest line that is printed."""
    return text if len(text) <= MAX_LINE_LENGTH else f"{text[: MAX_LINE_LENGTH - 4]} ..."


def print_lines(*lines: object, stream: TextIO | None = None) -> None:
    r"""Print each argument as one line.

    Args:
        *lines: a line break within one is shown as `\n`.
        stream: standard output if None.
    """
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    for line in lines:
        # A terminal of another encoding gets an escape, not a failing program.
        text = printable(line).encode(encoding, "backslashreplace").decode(encoding)
        print(text, file=stream, flush=stream is sys.stderr)


def progress_verbosity() -> int:
    """Return Keras's verbosity: a bar on a terminal, a line an epoch in a log."""
    return 1 if sys.stdout.isatty() else 2


def bar_verbosity() -> int:
    """Return Keras's verbosity for one pass over images: a bar on a terminal, nothing in a log."""
    return 1 if sys.stdout.isatty() else 0
