"""Output to the terminal, with control characters escaped.

File names, class names and the contents of untrusted files may contain escape sequences, line
breaks or bytes that are not text. All stages print with `print_lines`.
"""

import sys
from typing import TextIO

MAX_PRINTED_LENGTH = 2000


def printable(text: object) -> str:
    r"""Return a text with each character that is not printable escaped, as in `\x1b`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image" or "2 images"; the noun takes an s."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def shortened(text: str) -> str:
    """Return a text cut to the maximum length of a printed line."""
    return text if len(text) <= MAX_PRINTED_LENGTH else f"{text[: MAX_PRINTED_LENGTH - 4]} ..."


def print_lines(*lines: object, stream: TextIO | None = None) -> None:
    r"""Print each argument as one line.

    Args:
        *lines: a line break within one is printed as `\n`.
        stream: standard output if None.
    """
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    for line in lines:
        # Characters outside the terminal's encoding are escaped instead of raising an error.
        text = printable(line).encode(encoding, "backslashreplace").decode(encoding)
        print(text, file=stream, flush=stream is sys.stderr)


def progress_verbosity() -> int:
    """Return Keras's `verbose` for training: a bar on a terminal, one line per epoch in a log."""
    return 1 if sys.stdout.isatty() else 2


def bar_verbosity() -> int:
    """Return Keras's `verbose` for one pass over images: a bar on a terminal, silent in a log."""
    return 1 if sys.stdout.isatty() else 0
