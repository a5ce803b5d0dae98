"""Parts of the site that are made from the code: the keys of a configuration, the stages' options.

A Sphinx extension with two directives, `configuration-keys` and `stages`, and formulas in MathML.
"""

import importlib
import inspect
import json
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from deeplens_tf.__main__ import STAGES
from deeplens_tf.config_schema import config_schema

COMPARISONS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
LARGEST = 2**31 - 1  # a bound that nobody meets


def configuration_page() -> Iterator[str]:
    """Yield lines of Markdown: a definition for each key, a heading for each section."""
    sections = config_schema()["properties"]
    top = {name: each for name, each in sections.items() if "properties" not in each}
    yield from _definitions(top, "")
    for name, section in sections.items():
        if name not in top:
            yield from (f"## {name}", "", section["description"], "")
            yield from _definitions(section["properties"], f"{name}.")


def _definitions(keys: dict[str, Any], where: str) -> Iterator[str]:
    for name, each in keys.items():
        if "properties" in each:
            yield from _definitions(each["properties"], f"{where}{name}.")
        else:
            default = json.dumps(each["default"])
            yield from (f"`{where}{name}`", f": {each['description']}.", "")
            yield from (f"  {accepted(each)}. Default: `{default}`", "")


def accepted(schema: dict[str, Any]) -> str:
    """Return in words which values a part of the schema accepts."""
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in COMPARISONS.items()
        if schema.get(key, LARGEST) != LARGEST
    ]
    bounds = f" {' and '.join(limits)}" if limits else ""
    if "anyOf" in schema:
        parts = [accepted(each) for each in schema["anyOf"] if "pattern" not in each]
        return " or ".join(parts) + bounds
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("items") or schema["prefixItems"][0]
        return f"list of: {accepted(items)}"
    if schema.get("type") == "object":
        return f"mapping of names to: {accepted(schema['additionalProperties'])}"
    names = {"string": "text", "boolean": "true or false", "integer": "whole number"}
    kind = schema.get("type", "any value")
    return names.get(kind, kind) + bounds


def stages_page() -> Iterator[str]:
    """Yield lines of Markdown: the help of each stage."""
    for stage, summary in STAGES.items():
        parser = importlib.import_module(f"deeplens_tf.{stage}").build_parser()
        heading = f"{summary[0].upper()}{summary[1:]}."
        yield from (f"## {stage}", "", heading, "", "```text", parser.format_help(), "```", "")


class Generated(SphinxDirective):
    """Markdown that a function makes."""

    def run(self) -> list[nodes.Node]:
        """Return the parsed page."""
        pages = {"configuration-keys": configuration_page, "stages": stages_page}
        text = "\n".join(pages[self.name]())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def is_of_keras(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool:
    """Leave out methods that a class takes from Keras unchanged; Keras documents them."""
    defined = getattr(inspect.unwrap(thing) if callable(thing) else thing, "__module__", None)
    return skip or str(defined).startswith("keras.")


def write_formula(writer: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers show without a script from elsewhere."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    writer.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, the formulas and the filter."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    app.connect("autodoc-skip-member", is_of_keras)
    for name in ("configuration-keys", "stages"):
        app.add_directive(name, Generated)
    return {"parallel_read_safe": True}
