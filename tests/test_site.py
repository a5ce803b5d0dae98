"""The site that `make docs` has built: links, pages in a browser, search, completeness."""

import threading
import time
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

import deeplens_tf as dl
from deeplens_tf.__main__ import STAGES
from deeplens_tf.config import Config
from deeplens_tf.dataclass_parsing import all_keys
from tests.conftest import REPOSITORY
from tests.evaluation.chromium import browser_tab, find_chromium

SITE = REPOSITORY / "build" / "site"
# The first page only leads to another one.
PAGES = sorted({*SITE.rglob("*.html")} - {SITE / "index.html", *(SITE / "_static").rglob("*.html")})

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGES, reason="no site: make docs"),
]
in_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium: apt install chromium")


class Links(HTMLParser):
    """The targets of a page, and the places in it that have a name."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.names = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.names.add(attributes.get("id", ""))
        self.targets += [attributes[key] for key in ("href", "src") if attributes.get(key)]


def test_each_link_leads_to_a_file_and_a_place_in_it():
    found = {path: Links(path) for path in PAGES}
    broken = []
    for path, links in found.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not file.is_file() or (file in found and place not in found[file].names):
                broken.append(f"{path.relative_to(SITE)}: {target}")
    assert broken == []
    assert sum(len(links.targets) for links in found.values()) > 1000


def test_the_reference_is_complete():
    text = {
        name: (SITE / "docs" / "reference" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("api", "configuration", "stages")
    }
    rooms = [name for name in dl.__all__ if hasattr(getattr(dl, name), "__all__")]
    public = {
        f"deeplens_tf.{room}.{name}"
        for room in rooms
        for name in getattr(dl, room).__all__
        if callable(getattr(getattr(dl, room), name))
    }
    assert len(public) > 100
    assert sorted(name for name in public if f'id="{name}"' not in text["api"]) == []
    sections = {key.partition(".")[0] for key in all_keys(Config) if "." in key}
    for key in all_keys(Config):
        below = any(other.startswith(f"{key}.") for other in all_keys(Config))
        assert below or key in sections or f">{key}<" in text["configuration"], key
    for stage in STAGES:
        assert f"usage: python -m deeplens_tf.{stage}" in text["stages"]


@pytest.fixture(scope="module")
def address():
    """The site on a port of this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=SITE)
    handler.func.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@in_browser
def test_each_page_opens_without_a_word_in_the_console_and_with_its_pictures(address, tmp_path):
    complaints = ("Log.entryAdded", "Runtime.exceptionThrown")
    with browser_tab(tmp_path) as tab:
        for path in PAGES:
            tab.open(f"{address}/{path.relative_to(SITE)}")
            widths = tab.value("Array.from(document.images, (image) => image.naturalWidth)")
            assert min(widths, default=1) > 0, path
            found = [each["params"] for each in tab.events if each["method"] in complaints]
            assert found == [], path


@in_browser
def test_the_search_finds_a_page(address, tmp_path):
    with browser_tab(tmp_path) as tab:
        tab.open(f"{address}/search.html?q=resample")
        script = "document.querySelector('#search-results')?.innerText || ''"
        until = time.monotonic() + 20
        while "Data" not in (found := tab.value(script)) and time.monotonic() < until:
            time.sleep(0.2)
        assert "Data" in found, found
