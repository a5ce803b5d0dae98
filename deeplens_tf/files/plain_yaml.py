"""YAML as plain data: no references, no tags that create objects, no repeated keys.

A reference repeats the value it points to, so a few lines can expand to more data than fits in
memory. A configuration has no use for references.
"""

from collections.abc import Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

MAX_DIGITS = 400  # more than any quantity has; parsing takes time quadratic in their number


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ConstructorError(None, None, "a reference (*)", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        # With an explicit tag !!map the node may be of any kind; the base class refuses those.
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        seen: set[str] = set()
        for key, _ in pairs:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, f"the key {key.value:.80} twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
            problem = f"a number of more than {MAX_DIGITS} digits"
            raise ConstructorError(None, None, problem, node.start_mark)
        return super().construct_scalar(node)


def parse_yaml(text: str | bytes) -> Any:
    """Return the plain data that a YAML text describes.

    Raises:
        ValueError: the text is not plain data in YAML; the message is one line.
    """
    try:
        # The loader is a SafeLoader, which creates only plain data.
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"{error.problem}{where}") from error
    # Dates and numbers that Python cannot represent, deep nesting, undecodable bytes.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    # PyYAML does not check that a value matches an explicit tag: !!map [a], !!bool maybe.
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError("a value does not match its tag (!!)") from error


def yaml_text(values: Any) -> str:
    """Return plain data as YAML, the keys in their order."""
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text
