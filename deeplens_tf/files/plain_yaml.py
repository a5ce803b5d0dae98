"""YAML as plain data: no references, no tags that make objects, no key twice.

A reference repeats what it stands for, so that a few lines can stand for more than any memory
holds. A configuration has no use for one.
"""

from collections.abc import Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

MAX_DIGITS = 400  # a longer number is no quantity, and reading one takes more than its length


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise ConstructorError(None, None, "a reference (*)", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in getattr(node, "value", []):
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, f"the key {key.value:.80} twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
            raise ConstructorError(None, None, "a number without end", node.start_mark)
        return super().construct_scalar(node)


def parse_yaml(text: str | bytes) -> Any:
    """Return the plain data that a text in YAML stands for.

    Raises:
        ValueError: with the reason in one line, for anything else.
    """
    try:
        # The loader is a SafeLoader, which makes nothing but plain data.
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        where = f" in line {place.line + 1}" if place else ""
        raise ValueError(f"{error.problem}{where}") from error
    # The others: a date or a number that Python cannot hold, brackets without end, odd bytes.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from error
