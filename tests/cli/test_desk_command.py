"""The command mpc-appraisal desk as a process, and its pages in a browser where Chromium is installed."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import sys

import pytest
from browser import CHROMIUM, REASON
from desk import MARKUP, ledger, places, plain, put  # noqa: F401  a fixture
from devtools import Chromium
from offers import offer
from test_request import numbered

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.commands.desk import main
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.offers.book import OfferBook

# Arguments


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["here"], "desk"),
        (["requests=a", "requests=b"], "desk"),
        (["folder=a"], "desk"),
        (["requests="], "desk requests"),
        (["port=80"], "port"),
        (["port=65536"], "port"),
        (["port=x"], "port"),
        (["runs=file"], "desk runs"),
        (["notify="], "notify"),
        (["notify=no-such-program-here x"], "notify"),
        (["notify='unfinished"], "notify"),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, words, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as found:
        main(words)
    assert found.value.name == name


def test_help_names_every_argument(capsys):
    main(["--help"])
    said = capsys.readouterr().out
    for key in ("requests", "ledgers", "runs", "catalogue", "port", "notify"):
        assert f"\n{key}=" in said


def test_it_cannot_be_printed_as_json(capsys):
    with pytest.raises(SystemExit) as end:
        COMMANDS["desk"](["--json"])
    assert end.value.code == 2 and json.loads(capsys.readouterr().out)["name"] == "desk"


def test_without_flask_the_error_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("flask", "werkzeug")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("server", "app"):
        monkeypatch.delitem(sys.modules, f"mpc_appraisal.cli.desk.{name}", raising=False)
    for name in ("flask", "werkzeug"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AppraisalError, match=r"pip install 'mpc_appraisal\[desk\]'"):
        main([])


# The process


@pytest.fixture
def opened(processes, places):
    """Returns the process of the desk, and the address that it has printed."""
    names = ("requests", "ledgers", "runs", "catalogue")
    folders = [f"{name}={getattr(places, name)}" for name in names]
    process = processes.start("desk", [sys.executable, "-m", "mpc_appraisal.cli.app", "desk", *folders])
    process.until("Ctrl-C closes the desk.")
    return process, re.search(r"http://\S+", (process.folder / "stdout.txt").read_text())[0]


def test_the_desk_listens_on_the_loopback_alone_and_logs_no_token(opened, places):
    process, address = opened
    port = int(re.match(r"http://127\.0\.0\.1:(\d+)/enter\?token=[\w-]{43}$", address)[1])
    mine = socket.create_connection(("127.0.0.1", port), timeout=60)
    mine.close()
    with pytest.raises(OSError):  # another address of the loopback, which a server on all addresses would serve
        socket.create_connection(("127.0.0.2", port), timeout=60)
    for host, status in ((f"127.0.0.1:{port}", 403), ("evil.example", 421)):
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        asked.request("GET", "/", headers={"Host": host})
        assert asked.getresponse().status == status
        asked.close()
    assert "token" not in process.err
    process.popen.send_signal(signal.SIGINT)
    assert process.wait(60).code == 0


# Only a browser follows a page's policy, its cookie and its scripts. Chromium is no Python package that the extra could
# bring. Without it, the tests with Flask's client still check each header, form and page.
@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
class TestInABrowser:
    def test_a_request_is_read_and_answered(self, opened, places, tmp_path):
        ledger(places, "digits-a", charges=2)
        request, other = put(places, plain("digits-a"), MARKUP), put(places, numbered(2))
        with Chromium(tmp_path) as browser:
            browser.open(opened[1])
            assert "token" not in browser.evaluate("location.href") and browser.evaluate("document.cookie") == ""
            assert browser.evaluate("document.title") == "(2) Requests"
            browser.click(f'a[href="/requests/{request.id}"]')
            assert MARKUP in browser.evaluate("document.querySelector('h1').innerText")
            assert browser.evaluate("document.images.length") == 0
            assert "0 of 20 plain values" in browser.evaluate("document.body.innerText")
            browser.write("#reason", "a good price")
            browser.click("button[value=yes]")
            assert "approved, not used yet" in browser.evaluate("document.body.innerText")
            assert json.loads((places.requests / f"{request.id}.yes").read_text())["reason"] == "a good price"
            browser.click('nav a[href="/"]')
            # A page of another site is another origin, even on this machine, and has no cookie to send.
            for path in ("/budgets", "/answers", "/listings", "/offers", "/candidates", f"/requests/{other.id}"):
                browser.open(opened[1].partition("/enter")[0] + path)
                assert browser.complaints() == []

    def test_a_new_request_comes_without_a_reload_and_without_scripts_with_one(self, opened, places, tmp_path):
        base = opened[1].partition("/enter")[0]
        with Chromium(tmp_path) as browser:
            browser.open(opened[1])
            assert browser.evaluate("document.title") == "Requests"
            request = put(places, numbered(1))
            browser.until("document.title == '(1) Requests'")
            assert browser.evaluate("document.querySelector('ul.asked a').pathname") == f"/requests/{request.id}"
            browser.send("Emulation.setScriptExecutionDisabled", value=True)
            other = put(places, numbered(2))
            browser.open(f"{base}/")
            assert browser.evaluate("document.querySelectorAll('ul.asked a').length") == 2
            browser.open(f"{base}/requests/{other.id}")
            browser.click("button[value=no]")
            assert RequestQueue(places.requests).read(other.id).state == "no"

    def test_a_page_of_another_site_changes_nothing(self, opened, places, tmp_path):
        request = put(places, numbered(1))
        base = opened[1].partition("/enter")[0]
        with Chromium(tmp_path) as browser:
            browser.open(opened[1])
            browser.open(f"{base}/requests/{request.id}")
            fields = "[...document.querySelectorAll('input')].map(i => i.outerHTML).join('')"
            form = f'<form method=post action="{base}/requests/{request.id}">{browser.evaluate(fields)}'
            page = tmp_path / "evil.html"
            page.write_text(f"{form}<button name=answer value=yes>x</button></form><iframe src='{base}/'></iframe>")
            browser.open(page.as_uri())
            browser.click("button")
            assert "not let in" in browser.evaluate("document.title")
            assert RequestQueue(places.requests).read(request.id).state == "pending"

    @pytest.mark.parametrize("width", [400, 1200])
    def test_no_page_is_wider_than_its_window(self, opened, places, tmp_path, width):
        ledger(places, "digits-a", charges=2)
        request = put(places, plain("digits-a"), "a" * 190)
        OfferBook(places.offers).put(offer())
        with Chromium(tmp_path) as browser:
            browser.screen(width)
            browser.open(opened[1])
            base = opened[1].partition("/enter")[0]
            for path in ("/", "/budgets", "/answers", "/listings", "/offers", "/candidates", f"/requests/{request.id}"):
                browser.open(base + path)
                assert browser.evaluate("document.documentElement.scrollWidth") <= width, path
