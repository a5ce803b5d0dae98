"""The keys of a configuration file as a JSON schema, with which editors complete and check it.

    python -m deeplens_tf.config_schema > deeplens_tf.schema.json

The types and bounds are those of `config`, the descriptions are the comments of
`configs/defaults.yaml`. A file lists the keys that it changes, so none is required. Names of
encoders, methods and augmentations are suggestions, since plugins add others. What depends on
several keys is checked by the stages alone.
"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from deeplens_tf.config import CONFIGS, DEFAULTS, Config
from deeplens_tf.dataclass_parsing import Bounds, Different, WholeOrName
from deeplens_tf.files.plain_yaml import parse_yaml
from deeplens_tf.registry import Registry

DRAFT = "https://json-schema.org/draft/2020-12/schema"
KEYWORDS = {
    "low": "minimum",
    "high": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
}
JSON_TYPES = {str: "string", bool: "boolean", int: "integer"}
# YAML reads 1e-3 as text, which a configuration takes as the number.
NUMBER = {
    "anyOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^\+?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"},
    ]
}
_KEY = re.compile(r"^( *)(\w+):([^#]*)(?:# (.*))?$")
_CONTINUED = re.compile(r"^ {12,}# (.*)$")


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration file."""
    defaults = parse_yaml((CONFIGS / DEFAULTS).read_bytes())
    schema = _section(Config, defaults, dict(described_keys()), "")
    return {"$schema": DRAFT, "title": "deeplens_tf configuration", **schema}


def described_keys() -> Iterator[tuple[str, str]]:
    """Yield the dotted name of each key of the default configuration and its comment."""
    where: list[str] = []
    key, words = "", [""]
    for line in (CONFIGS / DEFAULTS).read_text().splitlines():
        if continued := _CONTINUED.match(line):
            words.append(continued[1])
        elif found := _KEY.match(line):
            if key:
                yield key, " ".join(words).strip()
            where = [*where[: len(found[1]) // 2], found[2]]
            key, words = ".".join(where), [found[4] or ""]
    yield key, " ".join(words).strip()


def _section(
    kind: type, defaults: Mapping[str, Any], comments: Mapping[str, str], where: str
) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "additionalProperties": False,
        "properties": {
            name: _key(hint, defaults[name], comments, f"{where}.{name}".lstrip("."))
            for name, hint in hints.items()
        },
    }


def _key(hint: Any, default: Any, comments: Mapping[str, str], where: str) -> dict[str, Any]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _section(hint, default, comments, where)
    comment = comments.get(where)
    return {
        **({"description": comment} if comment else {}),
        "default": default,
        **_value(hint),
    }


def _value(hint: Any) -> dict[str, Any]:
    """Return the schema of the values that `dataclass_parsing.convert` takes for a hint."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _limited(_value(inner[0]), inner[1])
    if origin in (typing.Union, types.UnionType):
        (kind,) = (each for each in inner if each is not type(None))
        return {"anyOf": [_value(kind), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _value(inner[1])}
    if origin is tuple and inner[-1] is ...:
        return {"type": "array", "items": _value(inner[0])}
    if origin is tuple:
        length = {"minItems": len(inner), "maxItems": len(inner)}
        return {"type": "array", "prefixItems": [_value(each) for each in inner], **length}
    if hint is float:
        return NUMBER
    return {"type": JSON_TYPES[hint]} if hint in JSON_TYPES else {}


def _limited(schema: dict[str, Any], limit: Any) -> dict[str, Any]:
    if isinstance(limit, Bounds):
        bounds = {
            KEYWORDS[name]: value
            for name, value in dataclasses.asdict(limit).items()
            if value is not None
        }
        return {**schema, **bounds}
    if isinstance(limit, Different):
        return {**schema, "uniqueItems": True}
    if isinstance(limit, WholeOrName):
        whole, name = {"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}
        return {"anyOf": [whole, name]}
    if isinstance(limit, Registry):
        return {"anyOf": [{"enum": sorted(limit.built_in)}, schema]}
    raise TypeError(f"no schema for {limit!r}")


if __name__ == "__main__":
    print(json.dumps(config_schema(), indent=2))
