"""Pages from templates, whose texts may come from untrusted files.

Characters that are not printable are escaped as in the terminal, long texts are cut, and what HTML
would interpret is escaped.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from deeplens_tf.terminal import printable, shortened


def rendered(template: Path, **values: Any) -> str:
    """Return a page as HTML; the same values give the same text.

    Args:
        template: file of Jinja2, of the package.
        **values: what the template names.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(**values)


def data_in_page(value: Any) -> Markup:
    """Return plain data as JSON that cannot end the element `script` around it."""
    return htmlsafe_json_dumps(value, dumps=json.dumps, separators=(",", ":"), allow_nan=False)


def script_in_page(path: Path) -> tuple[Markup, str]:
    """Return a script of the package, and its digest for the policy of the page."""
    text = path.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"


def text_in_page(value: object) -> str:
    """Return a text as pages show it: printable, and cut if it is very long."""
    return shortened(printable(value))


def _shown(value: Any) -> Any:
    return value if hasattr(value, "__html__") else text_in_page(value)
