"""`map.html` in a browser: the mouse, the keyboard, its switches and its console."""

import json

import pytest

from deeplens_tf.inference import mapping
from tests.evaluation.chromium import browser_tab, find_chromium
from tests.inference.maps import embedded_blobs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: apt-get install chromium"),
]
DETAILS = "[...document.querySelectorAll('dd')].map((cell) => cell.textContent)"
ARROW_RIGHT, ESCAPE = ("ArrowRight", 39), ("Escape", 27)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A map of thirty images, with a stand-in for UMAP."""
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "umap_coordinates", lambda features: features[:, 2:4].astype(float))
        patch.setattr(mapping, "require_umap", lambda asked: True)
        mapping.map_embeddings(embedded_blobs(root, 10), root / "map")
    return root / "map/map.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browser_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser, page):
    browser.events.clear()
    browser.resize(1280, 900)
    browser.open(page)
    return browser


def go_to(tab, row):
    """Move the mouse to a point, and return what the page says about it."""
    box = "canvas.getBoundingClientRect()"
    x, y = (tab.value(f"{box}.{edge} + {place}({row})") for edge, place in EDGES)
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    return tab.value(DETAILS)


EDGES = (("left", "left"), ("top", "top_"))


def click(tab, selector):
    tab.value(f"document.querySelector({json.dumps(selector)}).click()")


def test_pointing_at_a_dot_shows_its_image_and_what_is_known_of_it(tab, page):
    for row, words in (
        (3, ["axion/003.npy", "axion", "1e-21"]),
        (25, ["no_sub/005.npy", "no_sub", "no value"]),
    ):
        file, of_class, mass = go_to(tab, row)
        assert (file, of_class) == tuple(words[:2])
        assert mass == words[2] or float(mass) == pytest.approx(float(words[2]))
        assert tab.value("byId('shown').alt") == f"Image of {file}"
        while not tab.value("byId('shown').complete"):
            pass
        assert tab.value("byId('shown').naturalWidth") == 32
    # The spot of an image of the last class is in its upper right, as figures draw it.
    spot = (
        "(() => { const pixels = document.createElement('canvas');"
        "pixels.width = pixels.height = 32; const other = pixels.getContext('2d');"
        "other.drawImage(byId('shown'), 0, 0);"
        "const found = other.getImageData(0, 0, 32, 32).data;"
        "return [[24, 8], [8, 24]].map(([x, y]) => found[4 * (32 * y + x)]); })()"
    )
    bright, dark = tab.value(spot)
    assert bright > dark + 50
    reports = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in tab.events if event["method"] in reports] == []
    requested = {
        event["params"]["request"]["url"].partition(",")[0]
        for event in tab.events
        if event["method"] == "Network.requestWillBeSent"
    }
    allowed = {page.as_uri(), "data:image/jpeg;base64", "data:image/png;base64"}
    assert requested <= allowed


def test_only_the_pages_own_script_runs(tab):
    script = "Object.assign(document.createElement('script'), {text: 'injected = 1'})"
    tab.value(f"document.body.append({script})")
    assert tab.value("typeof injected") == "undefined"


def test_the_keyboard_goes_from_dot_to_dot(tab):
    reached = []
    while tab.value("document.activeElement.id") != "map":
        tab.press("Tab", 9)
    assert tab.value("getComputedStyle(canvas).outlineStyle") == "solid"
    for _ in range(3):
        tab.press(*ARROW_RIGHT)
        reached.append(tab.value("[selected, left(selected)]"))
    assert [x for _, x in reached] == sorted(x for _, x in reached)
    assert len({row for row, _ in reached}) == 3
    assert tab.value("byId('shown').alt").startswith("Image of ")
    assert tab.value("byId('details').getAttribute('aria-live')") == "polite"
    tab.press(*ESCAPE)
    assert tab.value("[selected, byId('shown').hidden]") == [-1, True]


def test_switches_change_the_map_the_colors_and_what_is_hidden(tab):
    assert tab.value("at.x") == tab.value("data.planes[1].x")
    click(tab, "input[name=plane][value='0']")
    while tab.value("at.x !== data.planes[0].x"):
        pass
    assert "component 1" in tab.value("byId('axes').textContent")
    assert tab.value("colorOf(0) === colorOf(9) && colorOf(0) !== colorOf(10)")
    click(tab, "#legend button")  # axion
    assert tab.value("[isShown(0), isShown(10)]") == [False, True]
    assert tab.value("document.querySelector('#legend button').ariaPressed") == "false"
    tab.value("byId('coloring').value = '1'")
    tab.value("byId('coloring').dispatchEvent(new Event('change'))")
    assert tab.value("[isShown(0), colorOf(0) !== colorOf(9)]") == [True, True]
    assert tab.value("byId('legend').textContent") == "with a value10no value20"
    click(tab, "input[value=images]")
    tab.value("draw()")
    row = tab.value("[...tiles.values()][0].i")
    assert tab.value("tiles.size") > 3
    assert go_to(tab, row)[0] == tab.value(f"data.columns[0].texts[{row}]")


def test_a_name_is_found(tab):
    tab.value("byId('find').value = 'CDM/00'")
    tab.value("byId('find').dispatchEvent(new Event('input'))")
    assert tab.value("byId('found').textContent") == "10 of 30"
    tab.value("byId('find').focus()")
    tab.press("Enter", 13)
    assert tab.value(DETAILS)[0] == "cdm/000.npy"


@pytest.mark.parametrize("width", [320, 1280])
def test_no_screen_is_too_narrow(tab, width):
    tab.resize(width, 800, dark=True)
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("canvas.width") > 250
