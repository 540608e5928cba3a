"""Chromium without a window, driven over a pipe by the protocol of its developer tools, with no other library.

    with Chromium(folder) as browser:
        browser.open("http://127.0.0.1:1234/")
        browser.click("button[value=yes]")
        browser.evaluate("document.title")

A message is JSON that ends in a zero byte: descriptor 3 of the browser reads them, and 4 writes them. Every wait has an
end: TimeoutError after `PATIENCE` seconds.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from browser import CHROMIUM

# A program that moves two pipes to the descriptors that the browser expects, and becomes the browser.
MOVED = """import fcntl, os, sys
pipes = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for place, one in zip((3, 4), pipes):
    os.dup2(one, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 120.0  # seconds, on a machine that is busy with other tests


class Chromium:
    """One browser with one page.

    Args:
        folder: where its profile is made.
        scripts: whether pages may run scripts.
    """

    def __init__(self, folder: Path, scripts: bool = True):
        self._requests, self._answers = os.pipe(), os.pipe()
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={folder / 'profile'}", "--no-first-run", "--disable-dev-shm-usage"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", MOVED, str(self._requests[0]), str(self._answers[1]), *command],
            pass_fds=(self._requests[0], self._answers[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(self._requests[0])
        os.close(self._answers[1])
        self._left, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        if not scripts:
            self.send("Emulation.setScriptExecutionDisabled", value=True)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._requests[1])
        os.close(self._answers[0])

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result. Events that come before it are kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._requests[1], json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            found = self._next(end)
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            self.events.append(found)

    def open(self, address: str) -> None:
        """Open an address as if it were typed, and wait until the page is loaded."""
        self.events.clear()
        self.send("Page.navigate", url=address)
        self.loaded()

    def loaded(self) -> None:
        """Wait for the event that the page is loaded, and forget it."""
        end = time.monotonic() + PATIENCE
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(end))
        self.events = [event for event in self.events if event.get("method") != "Page.loadEventFired"]

    def evaluate(self, expression: str) -> Any:
        """Return the JSON value of an expression, a promise's when it is fulfilled."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Click on the middle of the element, as a mouse does, and wait until the next page is loaded."""
        x, y = self._middle(selector)
        self.events.clear()
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.loaded()

    def write(self, selector: str, text: str) -> None:
        """Write a text into the element."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        self.send("DOM.focus", nodeId=self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"])
        self.send("Input.insertText", text=text)

    def until(self, expression: str) -> None:
        """Wait until the expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.1)

    def screen(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the width of the page, as on a phone where it is small, and whether it is dark."""
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, file: Path) -> None:
        """Write what the page shows, from its top to its end, as PNG."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """Return what the browser's console has complained of on this page, such as a refused script."""
        self.evaluate("1")  # what came before it is read then
        logged = [event["params"]["entry"] for event in self.events if event.get("method") == "Log.entryAdded"]
        thrown = [
            e["params"]["exceptionDetails"]["text"] for e in self.events if e.get("method") == "Runtime.exceptionThrown"
        ]
        return [entry["text"] for entry in logged if entry["level"] in ("error", "warning")] + thrown

    def _middle(self, selector: str) -> tuple[float, float]:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert node, f"no {selector}"
        self.send("DOM.scrollIntoViewIfNeeded", nodeId=node)
        corners = self.send("DOM.getContentQuads", nodeId=node)["quads"][0]
        return sum(corners[::2]) / 4, sum(corners[1::2]) / 4

    def _next(self, end: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as ready:
            ready.register(self._answers[0], selectors.EVENT_READ)
            while b"\0" not in self._left:
                if not ready.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError("Chromium does not answer")
                more = os.read(self._answers[0], 1 << 20)
                assert more, "Chromium has ended"
                self._left += more
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)
