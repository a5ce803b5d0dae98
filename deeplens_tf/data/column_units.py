"""The units of a table's columns in the YAML that astropy writes: of an ECSV or Parquet table."""

import re
from pathlib import Path

from deeplens_tf.errors import DataError
from deeplens_tf.files.plain_yaml import parse_yaml

MAX_HEADER_CHARACTERS = 1 << 20

_COLUMNS = re.compile(r"^datatype:\s*\n((?:(?:- |  ).*\n?)*)", re.MULTILINE)


def units_in_yaml(path: Path, text: str) -> dict[str, str]:
    """Return the units of the columns that have one, by their names.

    Args:
        path: of the table, for messages.
        text: of which only the section of the columns is parsed.

    Raises:
        DataError: the text is too long, or its section does not describe columns.
    """
    if len(text) > MAX_HEADER_CHARACTERS:
        raise DataError(f"{path}: its header is longer than {MAX_HEADER_CHARACTERS} characters")
    section = _COLUMNS.search(text)
    try:
        columns = parse_yaml(section[1] if section else "") or []
        return {str(column["name"]): str(column["unit"]) for column in columns if "unit" in column}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: its header does not describe columns: {error!s:.80}") from error
