"""The encoders that come with the package: each is a run folder with a model card.

The head of a card, in YAML, has the SHA-256 of every other file of its folder.
"""

import difflib
import hashlib
from pathlib import Path
from typing import Any

from deeplens_tf.errors import RequestError
from deeplens_tf.files.plain_yaml import parse_yaml

SHIPPED = Path(__file__).parent.parent / "weights"
CARD = "README.md"


def shipped_encoders() -> dict[str, Path]:
    """Return the encoders that come with the package: name -> file of the model card."""
    return {card.parent.name: card for card in sorted(SHIPPED.glob(f"*/{CARD}"))}


def card_head(card: Path) -> dict[str, Any]:
    """Return what the head of a model card says."""
    head: dict[str, Any] = parse_yaml(card.read_text(encoding="utf-8").split("---\n")[1])
    return head


def place_of(path_or_name: str | Path) -> Path:
    """Return the folder of a shipped encoder, or a path as it is.

    A text that is the name of a shipped encoder means that encoder; `./name`, or a `Path`, is a
    path.

    Raises:
        RequestError: the text is also a path, or a file is not the one that was published.
    """
    card = shipped_encoders().get(str(path_or_name))
    if card is None or isinstance(path_or_name, Path):
        return Path(path_or_name)
    if Path(path_or_name).exists():
        raise RequestError(
            f"{path_or_name}: a shipped encoder, and here also a path: write ./{path_or_name} for "
            "the path, or work in another folder"
        )
    _require_unchanged(card)
    return card.parent


def suggestion(path_or_name: str | Path) -> str:
    """Return the names of the shipped encoders for a message, the most similar one first."""
    names, given = list(shipped_encoders()), str(path_or_name)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    listed = f"the name of a shipped encoder: {', '.join(names)}"
    return f"{listed} (did you mean {near[0]}?)" if near else listed


def copy_advice(folder: Path) -> str:
    """Return how to use a shipped encoder where a run folder is expected; "" for other names."""
    card = shipped_encoders().get(str(folder))
    if card is None:
        return ""
    return (
        f", and the shipped encoder has no reports: finetune --encoder {folder} first; or, to "
        f"probe it, cp -r {card.parent} runs/{folder}, then --run runs/{folder} --data FOLDER"
    )


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _require_unchanged(card: Path) -> None:
    for name, published in card_head(card)["sha256"].items():
        file = card.with_name(name)
        found = sha256_of(file) if file.is_file() else "missing"
        if found != published:
            raise RequestError(
                f"{file}: not the published file: its SHA-256 is {found}, not {published}; install "
                "the package again"
            )
