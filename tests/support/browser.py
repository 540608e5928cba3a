"""A browser that says how wide a page's tables are: Chromium without a window, where the machine has one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REASON = "no Chromium is installed, which measures how wide the tables of a page are"
DRAWING = re.compile(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+")
MEASURE = """<script>addEventListener("load", () => {
document.querySelectorAll("details").forEach(each => { each.open = true; });
const cut = [...document.querySelectorAll("table")].filter(table => {
  const place = table.getBoundingClientRect();
  return place.left < 0 || place.right > innerWidth || table.scrollWidth > table.parentElement.clientWidth; });
parent.document.title += JSON.stringify({page: %s, width: innerWidth, document: document.documentElement.scrollWidth,
  tables: document.querySelectorAll("table").length, cut: cut.map(table => table.rows[0].innerText)}) + "|END|";
});</script></body>"""


def dom(address: str, folder: Path) -> str:
    """Return the document at an address as HTML, after its scripts have run."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", f"--user-data-dir={folder / 'browser'}", "--dump-dom"]
    done = subprocess.run([*command, address], capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr
    return done.stdout


def measured(pages: Sequence[Path], widths: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Return for each page and width in pixels what the browser measures, with all that folds away opened.

    An entry has the page's path, the width of its window and of the document, the number of tables, and the first row
    of each table that is cut off. Each page is shown in a frame of its own, because a window has a least width.
    """
    frames = []
    for page in pages:
        text = DRAWING.sub("data:,", page.read_text(encoding="utf-8"))
        shown = html.escape(text.replace("</body>", MEASURE % json.dumps(str(page))))
        frames += [
            f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{shown}"></iframe>' for width in widths
        ]
    host = folder / "frames.html"
    host.write_text("<title></title>" + "".join(frames), encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", f"--user-data-dir={folder / 'browser'}", "--dump-dom"]
    done = subprocess.run([*command, host.as_uri()], capture_output=True, text=True, timeout=600)
    title = re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr
    return [json.loads(one) for one in html.unescape(title[1]).split("|END|") if one]
