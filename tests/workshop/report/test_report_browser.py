"""report.html in a real headless browser: no complaint on the console, images really drawn.

What the script makes of the page is read from the browser's own elements, for the state that the
address names (`#threshold=…&verdict=…&kind=…&sort=…&image=…`) or after a second script's steps.
"""

import json
import re
import shutil
import subprocess
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from evaluations import FILES, MANIFEST, THRESHOLD, USUAL, Page, counted, run, verdict
from patchcore_build.report.html import four_digits
from patchcore_build.report.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--hide-scrollbars",
)  # fmt: skip
SCORES = dict(USUAL)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here; Debian's package `chromium` would run it"
)


def _browse(address, profile, *flags):
    """Open a page; returns what the browser prints and what it wrote on its console."""
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *flags, address],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def _shoot(page, image, profile, width):
    """Draw a page; returns the screenshot and what the browser wrote on its console."""
    flags = (f"--window-size={width},6000", f"--screenshot={image}")
    _, console = _browse(page.as_uri(), profile, *flags)
    return np.asarray(Image.open(image).convert("RGB")), console


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The usual report."""
    folder = tmp_path_factory.mktemp("browser")
    evaluation, gallery = run(folder / "dataset")
    write_report(folder / "report", evaluation, gallery, MANIFEST)
    assert sorted(path.name for path in (folder / "report").iterdir()) == FILES
    return folder / "report" / "report.html"


def _open(page, profile, **state):
    """The page as its own script makes it, with nothing on the console."""
    address = page.as_uri() + (f"#{urlencode(state)}" if state else "")
    dumped, console = _browse(address, profile, "--dump-dom")
    assert console == []
    return Page(dumped)


@pytest.fixture
def after(written, tmp_path):
    """A function: steps of a second script -> the page after each one.

    Every step starts from the page as it is at first. One browser walks through all of them, as
    starting one takes longer than any test.
    """

    def walk(*steps):
        # Our policy would forbid the second script, so that this copy goes without it.
        text = re.sub(r"<meta http-equiv[^>]*>", "", written.read_text(encoding="utf-8"))
        script = "\n".join(f"go(''); {{ {step} }} keep();" for step in steps)
        text = text.replace("</body>", f"<script>{_TOOLS}{script}{_FINISH}</script></body>")
        page = tmp_path / "walk.html"
        page.write_text(text, encoding="utf-8")
        kept = json.loads(_open(page, tmp_path / "profile").by_id("kept").text)
        assert len(kept) == len(steps) > 0
        return [Page(each) for each in kept]

    return walk


_TOOLS = """
const kept = [], byId = (id) => document.getElementById(id);
function go(hash) {
  history.replaceState(null, "", "#" + hash);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
function set(id, value, kind) {
  byId(id).value = value;
  byId(id).dispatchEvent(new Event(kind, { bubbles: true }));
}
function press(key) {
  const target = document.activeElement ?? document.body;
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
}
function keep() {
  kept.push(document.documentElement.outerHTML.replace(/base64,[^"]*/g, "base64,"));
}
"""
_FINISH = """
document.body.append(Object.assign(document.createElement("pre"), { id: "kept" }));
byId("kept").textContent = JSON.stringify(kept);
"""


def _go(**state):
    return f"go({urlencode(state)!r});"


def _large(page):
    """Name, verdict and number of views of the large view; None if it is closed."""
    if "open" not in page.by_id("large").attributes:
        return None
    views = page.by_id("large-views")
    images = [one for one in page.all("img") if views in one.above()]
    return page.by_id("large-name").text, page.by_id("large-verdict").text, len(images)


@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desk"])
def test_the_report_is_drawn_without_complaint(tmp_path, width):
    evaluation, gallery = run(tmp_path / "dataset")
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    page = tmp_path / "report" / "report.html"
    drawn, console = _shoot(page, tmp_path / "whole.png", tmp_path / "profile", width)
    assert console == []
    assert drawn.shape[1] == width
    text = page.read_text(encoding="utf-8")
    broken = text.replace("data:image/jpeg;base64,", "data:image/jpeg;base64,AAAA")
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    without, _ = _shoot(
        tmp_path / "broken.html", tmp_path / "none.png", tmp_path / "profile", width
    )
    colourful = [np.ptp(shot.astype(int), axis=2) > 60 for shot in (drawn, without)]
    # Each image's views bring thousands of coloured pixels, which broken ones do not.
    assert colourful[0].sum() > colourful[1].sum() + 1000 * len(evaluation.images)


def test_the_console_is_really_heard(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('heard')</script>", encoding="utf-8")
    _, console = _shoot(page, tmp_path / "bad.png", tmp_path / "profile", 400)
    assert any("heard" in line for line in console)


def test_a_script_that_is_not_ours_does_not_run(written, tmp_path):
    page = tmp_path / "foreign.html"
    text = written.read_text(encoding="utf-8")
    page.write_text(
        text.replace("</body>", "<script>document.title = 'mine'</script></body>"), encoding="utf-8"
    )
    dumped, console = _browse(page.as_uri(), tmp_path / "profile", "--dump-dom")
    assert Page(dumped).all("title")[0].text == "nuts & bolts: test report"
    assert any("Content Security Policy" in line for line in console)


def test_nothing_is_wider_than_the_window(after):
    """The page's width is set, as headless chromium's own window has a least one."""
    widths = (320, 390, 800)
    measure = (
        "const wide = [...document.querySelectorAll('body *')].filter((one) =>"
        " !one.closest('.scroll, .skip, .unseen, svg, dialog') &&"
        " one.getBoundingClientRect().right > WIDTH + 1);"
        "document.title = wide.map((one) => one.tagName + '.' + one.className).join(' ');"
    )
    narrow = "document.body.style.width = 'WIDTHpx';"
    steps = [f"{narrow}{measure}".replace("WIDTH", str(width)) for width in widths]
    too_wide = "document.querySelector('h1').style.width = '900px';"
    pages = after(*steps, too_wide + steps[-1])
    titles = [page.all("title")[0].text for page in pages]
    assert titles[:-1] == [""] * len(widths)
    assert "H1." in titles[-1]


def test_at_first_the_script_shows_what_the_page_says(written, tmp_path):
    drawn, plain = _open(written, tmp_path / "profile"), Page.read(written)
    assert drawn.cards() == plain.cards()
    assert drawn.figures == plain.figures
    for name in ("true-positive-rate", "false-positive-rate", "threshold"):
        assert drawn.live(name) == plain.live(name)
    assert "disabled" in drawn.by_id("reset").attributes
    assert drawn.by_id("trial").is_shown()
    assert drawn.by_id("filters").is_shown()
    assert _large(drawn) is None


def test_an_address_that_was_passed_on_shows_what_its_sender_saw(written, tmp_path):
    state = {"threshold": "1.3", "kind": "crack", "sort": "highest", "image": "0"}
    page = _open(written, tmp_path / "profile", **state)
    assert [name for name, _ in page.cards()] == ["crack/0.png", "crack/1.png"]
    assert page.live("found") == "2"
    assert _large(page) == ("crack/1.png", "missed", 3)


def test_a_threshold_to_try_gives_the_verdicts_of_the_evaluation(after):
    thresholds = (0.5, 1.25, 2.125, 2.12499999999, 2.5, 3.5, 9.0)
    pages = after(*(_go(threshold=repr(threshold)) for threshold in thresholds))
    for threshold, page in zip(thresholds, pages, strict=True):
        names = ("found", "missed", "false-alarm", "passed")
        counts = dict(zip(names, counted(USUAL, threshold), strict=True))
        assert {name: int(page.live(name)) for name in names} == counts, threshold
        assert page.live("true-positive-rate") == f"{counts['found'] / 3:.1%}"
        assert page.live("false-positive-rate") == f"{counts['false-alarm'] / 3:.1%}"
        assert page.live("found-share") == f"{counts['found']} of 3"
        assert page.live("alarm-share") == f"{counts['false-alarm']} of 3"
        assert page.live("all") == "6"
        for number, kind in enumerate(("good", "crack", "stain")):
            above = [name.startswith(kind) and score > threshold for name, score in USUAL]
            assert page.live(f"kind-{number}") == str(sum(above))
        assert dict(page.cards()) == {
            name: verdict(not name.startswith("good/"), score, threshold) for name, score in USUAL
        }
        assert "disabled" not in page.by_id("reset").attributes
        assert float(page.live("threshold")) == pytest.approx(threshold, rel=1e-3)


def test_numbers_are_written_as_the_evaluation_writes_them(after):
    values = (2.5, 1234.6, 12345.678, 0.00012345, 0.000012345, -3.0, 1e-12, 98765432.1, 0.1)
    pages = after(*(_go(threshold=repr(value)) for value in values))
    assert [page.live("threshold") for page in pages] == [four_digits(value) for value in values]


def test_marks_of_the_charts_move_to_the_threshold_that_is_tried(after):
    near, far = after(_go(threshold="3"), _go(threshold="30"))
    units = near.data()["units"]
    moved = {
        chart: tuple(
            float(number)
            for number in re.findall(
                r"-?\d[-.e\d]*", near.by_id(f"{chart}-at-threshold").attributes["transform"]
            )
        )
        for chart in ("histogram", "roc")
    }
    assert moved["histogram"] == pytest.approx((units["histogram"][0] * (3 - THRESHOLD), 0))
    # At 2, one of three good images is flagged and two of three defects; at 3, none and one.
    assert moved["roc"] == pytest.approx((-units["roc"][0] / 3, -units["roc"][1] / 3))
    assert units["roc"][0] > 0 > units["roc"][1]
    lines = [page.by_id("histogram-at-threshold").attributes["style"] for page in (near, far)]
    assert lines == ["visibility: visible;", "visibility: hidden;"]


FILTERED = (
    ({"verdict": "missed"}, ["crack/1.png"]),
    ({"verdict": "false alarm"}, ["good/2.png"]),
    ({"kind": "crack"}, ["crack/1.png", "crack/0.png"]),
    ({"kind": "good", "verdict": "found"}, []),
    ({"kind": "crack", "sort": "highest"}, ["crack/0.png", "crack/1.png"]),
    ({"sort": "lowest"}, sorted(SCORES, key=SCORES.get)),
    ({"sort": "highest"}, sorted(SCORES, key=SCORES.get, reverse=True)),
    ({"verdict": "found", "threshold": "3"}, ["crack/0.png"]),
    (
        {"threshold": "1.3"},  # wrong ones by their distance, then right ones by theirs
        ["good/2.png", "good/1.png", "crack/1.png", "good/0.png", "stain/0.png", "crack/0.png"],
    ),
)


def test_filters_and_order_leave_the_images_that_match(after):
    pages = after(*(_go(**state) for state, _ in FILTERED))
    for (state, names), page in zip(FILTERED, pages, strict=True):
        assert [name for name, _ in page.cards()] == names, state
        assert page.live("matching") == f"{len(names)} of 6 images match."


def test_an_address_that_names_nothing_changes_nothing(after, written):
    states = (
        {"threshold": "much"}, {"threshold": "Infinity"}, {"kind": "<b>"}, {"verdict": "lost"},
        {"sort": "toString"}, {"image": "-1"}, {"image": "99"}, {"figures": ""},
    )  # fmt: skip
    for state, page in zip(states, after(*(_go(**state) for state in states)), strict=True):
        assert page.cards() == Page.read(written).cards(), state
        assert page.figures == Page.read(written).figures, state
        assert _large(page) is None, state


def test_the_large_view_shows_one_image_with_its_truth_and_its_numbers(after):
    missed, alarm = after(_go(image="0"), _go(image="1"))
    assert _large(missed) == ("crack/1.png", "missed", 3)
    names = ("kind", "score", "threshold", "p-value", "place")
    assert [missed.by_id(f"large-{name}").text for name in names] == [
        "crack", "1.250", "2.000", "0.5000", "1 of 6",
    ]  # fmt: skip
    assert _large(alarm) == ("good/2.png", "false alarm", 2)


def test_arrow_keys_walk_through_the_chosen_images_in_their_order(after):
    opened = "document.querySelector('.card .enlarge').click();"
    walks = (
        (opened, [], ("crack/1.png", "missed", 3)),
        (opened, ["ArrowRight"], ("good/2.png", "false alarm", 2)),
        (opened, ["ArrowRight", "ArrowRight", "ArrowLeft"], ("good/2.png", "false alarm", 2)),
        (opened, ["ArrowLeft"], ("crack/1.png", "missed", 3)),
        (opened, ["ArrowRight"] * 9, ("crack/0.png", "found", 3)),
        ("", ["ArrowRight"], None),
        (
            _go(kind="crack", sort="highest", image="5"),
            ["ArrowRight"],
            ("crack/1.png", "missed", 3),
        ),
    )
    steps = (start + "".join(f"press('{key}');" for key in keys) for start, keys, _ in walks)
    for page, (start, keys, expected) in zip(after(*steps), walks, strict=True):
        assert _large(page) == expected, (start, keys)


def test_the_large_view_opens_by_a_click_and_closes_by_its_button(after):
    click = "document.querySelectorAll('.cards .views')[1].click();"
    opened, closed = after(
        f"{click} document.title = location.hash;",
        f"{click} byId('close').click(); document.title = location.hash;",
    )
    assert (_large(opened)[0], opened.all("title")[0].text) == ("good/2.png", "#image=1")
    assert (_large(closed), closed.all("title")[0].text) == (None, "")


def test_the_browsers_own_way_of_closing_is_noticed(after):
    """Escape closes the dialog without a key for the page: the dialog says `close` afterwards.

    The browser says so with its next frame, which it never draws for a dumped page on a busy
    machine. The event is sent by hand, so that the test waits for nothing.
    """
    close = "byId('large').close(); byId('large').dispatchEvent(new Event('close'));"
    title = "document.title = location.hash || 'forgotten';"
    opened, closed = after(_go(image="1") + title, _go(image="1") + close + title)
    assert (_large(opened)[0], opened.all("title")[0].text) == ("good/2.png", "#image=1")
    assert (_large(closed), closed.all("title")[0].text) == (None, "forgotten")


def test_controls_change_the_page_and_the_address(after):
    (page,) = after(
        "set('exact', '1.3', 'input'); set('kind', '1', 'change'); set('sort', 'lowest', 'change');"
        "document.querySelector('[value=found]').click();"
        "document.title = location.hash + ' ' + byId('slider').value;"
    )
    assert [name for name, _ in page.cards()] == ["crack/0.png"]
    assert page.all("title")[0].text == "#threshold=1.3&verdict=found&kind=crack&sort=lowest 1.3"


def test_reset_returns_to_the_artifacts_threshold(after, written):
    moves = [f"set('{source}', '3', 'input');" for source in ("slider", "exact")]
    reset = "byId('reset').click();"
    pages = after(*moves, *(move + reset for move in moves), "set('exact', '', 'input');")
    assert [page.live("found") for page in pages] == ["1", "1", "2", "2", "2"]
    for page in pages[2:]:
        assert page.figures == Page.read(written).figures
        assert page.cards() == Page.read(written).cards()
        assert "disabled" in page.by_id("reset").attributes
