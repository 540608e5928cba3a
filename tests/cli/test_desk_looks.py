"""Every page of the desk in a browser, narrow and wide, light and dark: it is whole, legible and labelled."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from browser import CHROMIUM, REASON
from desk_scene import scene
from devtools import Chromium

from mpc_appraisal.cli.desk.server import bind
from mpc_appraisal.governance.approval.queue import RequestQueue

# Only a browser knows colours, widths and labels as they are drawn, and no Python package brings Chromium. Without it,
# test_desk.py still checks each page's forms, headings and words with Flask's client.
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=REASON)
LEGIBLE, LARGE, BOUNDARY = 4.5, 3.0, 3.0  # the least contrasts of WCAG 2.2, level AA: 1.4.3 and 1.4.11
TARGET = 24  # pixels, the least height of what is clicked outside of a text (2.5.8)

# What is seen: the texts with their colours, boxes with more in them than they show, and what lacks a name.
SEEN = r"""(() => {
  const colour = (one, what) => getComputedStyle(one)[what].match(/[\d.]+/g).map(Number);
  const ground = one => {
    for (; one; one = one.parentElement) { const found = colour(one, "backgroundColor");
      if (found.length < 4 || found[3] > 0) return found.slice(0, 3); }
    return null; };
  const hidden = one => !one.getClientRects().length || one.closest("thead") && getComputedStyle(
    one.closest("thead")).position === "absolute";
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const one = node.parentElement, style = getComputedStyle(one);
    if (!node.data.trim() || hidden(one) || one.closest("script, textarea")) continue;
    const range = document.createRange(); range.selectNodeContents(node);
    const sides = [...range.getClientRects()].map(box => [box.left, box.right]).flat();
    let opacity = 1;
    for (let each = one; each; each = each.parentElement) opacity *= getComputedStyle(each).opacity;
    texts.push({text: node.data.trim().slice(0, 40), ink: colour(one, "color"), ground: ground(one), opacity,
      pixels: parseFloat(style.fontSize), weight: Number(style.fontWeight),
      left: Math.min(...sides), right: Math.max(...sides)}); }
  const every = [...document.body.querySelectorAll("*")].filter(one => !hidden(one));
  const name = one => `${one.tagName} ${one.className} ${one.textContent.slice(0, 30)}`;
  return {texts, width: document.documentElement.scrollWidth,
    cut: every.filter(one => one.clientWidth && one.scrollWidth > one.clientWidth + 1).map(name),
    controls: every.filter(one => one.matches("button, textarea, input, select")).map(one => ({
      name: name(one), edge: colour(one, "borderTopColor"), ground: ground(one.parentElement)})),
    unnamed: every.filter(one => one.matches("textarea, input, select") && !one.labels.length
      || one.matches("progress, nav") && !one.ariaLabel || one.matches("img") && !one.alt
      || one.matches("a, button") && !one.textContent.trim()).map(name),
    small: every.filter(one => one.matches("nav a, button") && one.getBoundingClientRect().height < %d).map(name),
    levels: every.filter(one => one.matches("h1, h2, h3, h4")).map(one => Number(one.tagName[1])),
    current: document.querySelectorAll("nav [aria-current]").length,
    page: ground(document.body), title: document.title, language: document.documentElement.lang};
})()"""


def luminance(colour: list[float]) -> float:
    """The relative luminance of a colour of sRGB, as WCAG 2.2 defines it."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A browser that was let in, the address of the desk, and the paths of all pages."""
    folder = tmp_path_factory.mktemp("desk")
    places = scene(folder / "owner")
    server, guard = bind(places, 0)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    asked = [one.id for one in RequestQueue(places.requests).all() if one.request is not None]
    paths = ["/", "/budgets", "/answers", "/listings", "/candidates", "/candidates?sort=price", "/nowhere"]
    paths += [f"/listings/{name}" for name in ("digits-a", "digits-b", "customers-2026")]
    with Chromium(folder) as browser:
        browser.open(guard.address)
        yield browser, guard.address.partition("/enter")[0], paths + [f"/requests/{id}" for id in asked]
    with suppress(OSError):
        server.shutdown()
    serving.join(60)
    server.server_close()


def test_contrast_is_that_of_the_standard():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([118, 118, 118], [255, 255, 255]) == pytest.approx(4.54, abs=0.005)  # the least grey that passes


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_every_page_is_whole_legible_and_labelled(desk, width, dark):
    browser, base, paths = desk
    browser.screen(width, dark=dark)
    for path in paths:
        browser.open(base + path)
        seen = browser.evaluate(SEEN % TARGET)
        assert seen["width"] <= width and not seen["cut"] and not seen["unnamed"] and not seen["small"], (path, seen)
        assert seen["levels"].count(1) == 1 and seen["levels"][0] == 1, path
        assert all(b <= a + 1 for a, b in zip(seen["levels"], seen["levels"][1:], strict=False)), path
        assert seen["title"] and seen["language"] == "en" and seen["current"] == (path != "/nowhere"), path
        assert len(seen["texts"]) > 5 and (luminance(seen["page"]) < 0.2) == dark
        for text in seen["texts"]:
            large = text["pixels"] >= 24 or (text["pixels"] >= 18.66 and text["weight"] >= 700)
            assert text["opacity"] == 1 and text["left"] >= 0 and text["right"] <= width, (path, text)
            assert contrast(text["ink"], text["ground"]) >= (LARGE if large else LEGIBLE), (path, text)
        for control in seen["controls"]:
            assert contrast(control["edge"], control["ground"]) >= BOUNDARY, (path, control)


def test_what_a_page_says_of_requests_and_budgets(desk):
    browser, base, _ = desk
    browser.screen(1200)
    browser.open(base + "/")
    page = browser.evaluate("document.body.innerText")
    assert "5 waiting for your answer" in page and "Asks to open: values with noise." in page
    assert 'Purpose: deciding whether to buy the data ("a supplier for 2027").' in page
    assert "Refused. Reason: The price was agreed" in page and "Approved, not used yet." in page
    browser.open(base + "/budgets")
    page = browser.evaluate("document.body.innerText")
    assert "acme has 1 of 20 plain values left." in page and "acme has 0 of 3 plain values left." in page
    assert "acme has epsilon 0.08699 of 2.2 left." in page
    browser.open(base + "/listings")
    page = browser.evaluate("document.body.innerText")
    assert "eleven countries, with the class of their next order" in page and "appraisal-and-purchase" in page
    browser.open(base + "/listings/customers-2026")
    assert browser.evaluate("[...document.querySelectorAll('th')].filter(one => /euros 3$/.test(one.innerText)).length")
