"""`report.html` in a browser: its pictures, its console, and the keyboard."""

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.evaluation.model_report import evaluate_run
from tests.conftest import write_blobs
from tests.evaluation.chromium import browser_tab, find_chromium
from tests.evaluation.runs import finetuned

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: apt-get install chromium"),
]
FOCUSED = "document.activeElement"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a small classifier."""
    root = tmp_path_factory.mktemp("page")
    write_blobs(root / "lenses_test", 5, seed=1)
    folder = write_blobs(root / "lenses", 6, seed=0)
    overrides = ["data.image_size=16", f"data.cache={root}/cache"]
    config = load_config("finetune", overrides, str(folder))
    return evaluate_run(finetuned(root / "run", config), config)[0] / "report.html"


@pytest.fixture
def tab(report, tmp_path):
    """A browser that has loaded the page."""
    with browser_tab(tmp_path) as tab:
        tab.open(report)
        yield tab


def test_the_page_loads_alone_and_shows_every_picture(tab, report):
    widths = tab.value("Array.from(document.images, (image) => image.naturalWidth)")
    assert len(widths) == report.read_text().count("<img ") > 10
    assert min(widths) > 0
    requested = {
        event["params"]["request"]["url"].partition(",")[0]
        for event in tab.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert requested <= {report.as_uri(), "data:image/png;base64"}
    reports = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in tab.events if event["method"] in reports] == []
    assert tab.value("document.title").startswith("Evaluation of run")


def test_the_policy_of_the_page_stops_a_script(tab):
    # Otherwise an empty console could also mean that the browser reports nothing.
    script = "Object.assign(document.createElement('script'), {text: 'x = 1'})"
    tab.value(f"document.body.append({script})")
    assert tab.value("typeof x") == "undefined"
    tab.value("1")  # the report of the refusal has arrived before this answer
    assert any(event["method"] == "Log.entryAdded" for event in tab.events)


def test_the_keyboard_reaches_the_skip_link_and_opens_what_is_folded(tab):
    tab.press("Tab", 9)
    assert tab.value(f"{FOCUSED}.className") == "skip"
    assert tab.value(f"{FOCUSED}.getBoundingClientRect().left") >= 0  # seen while it has the focus
    count = tab.value("document.querySelectorAll('summary').length")
    reached = set()
    while tab.value(f"{FOCUSED}.tagName") != "BODY":  # where the focus comes round again
        tab.press("Tab", 9)
        if tab.value(f"{FOCUSED}.tagName") == "SUMMARY":
            reached.add(tab.value(f"{FOCUSED}.textContent"))
            assert tab.value(f"getComputedStyle({FOCUSED}).outlineStyle") == "solid"
            tab.press("Enter", 13)
            assert tab.value(f"{FOCUSED}.parentElement.open")
    assert len(reached) == count > 3
    assert "All settings (YAML)" in reached


@pytest.mark.parametrize("width", [320, 1280])
def test_no_screen_is_too_narrow(tab, width):
    tab.resize(width, 800)
    assert tab.value("document.documentElement.scrollWidth") <= width


def test_the_dark_scheme_is_dark_with_readable_text(tab):
    def lightness(name):
        colour = tab.value(f"getComputedStyle(document.body).{name}")
        return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))

    for dark in (False, True):
        tab.resize(800, 800, dark)
        ink, paper = lightness("color"), lightness("backgroundColor")
        assert (ink > paper) == dark
        assert abs(ink - paper) > 500
