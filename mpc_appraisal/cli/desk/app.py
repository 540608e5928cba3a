"""The web application of the desk: which address shows which page, and what every answer goes through.

In go the folders and the guard; out comes a Flask application. Every request passes the guard first, and every answer
gets its headers. A bad input is an error on a page with status 400, and any other fault one with status 500; neither
ends the desk. A page is a function here and a template in templates/.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, redirect, render_template, request, url_for
from jinja2 import ChoiceLoader, PackageLoader, StrictUndefined
from werkzeug.exceptions import HTTPException

from mpc_appraisal.cli.desk import answers, budgets, decisions, listings, offers
from mpc_appraisal.cli.desk.guard import CARD_POLICY, HEADERS, SAFE, Guard, Refusal
from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.reporting.layout import Anchors, add_to
from mpc_appraisal.reporting.page import render

LARGEST_FORM = 1 << 16  # bytes
POLICY = "Content-Security-Policy"


class _Desk(Flask):
    def select_jinja_autoescape(self, filename: str) -> bool:
        """Escape in all templates: Flask itself would leave out those whose names end in .jinja."""
        return True


def make_app(places: Places, guard: Guard, trouble: Callable[[], str] = str) -> Flask:
    """Return the application. Its pages read the folders anew at every request.

    trouble: a function that returns what is wrong with notifications, or an empty text.
    """
    app = _Desk("mpc_appraisal.cli.desk", static_folder=str(Path(__file__).parent / "static"))
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_FORM
    app.jinja_options = {"trim_blocks": True, "undefined": StrictUndefined}
    app.jinja_loader = ChoiceLoader(
        [PackageLoader("mpc_appraisal.cli.desk"), PackageLoader("mpc_appraisal.reporting", "templates")]
    )
    add_to(app.jinja_env)
    app.jinja_env.globals |= {"WORDS": decisions.WORDS, "trouble": trouble}
    app.context_processor(lambda: {"anchor": Anchors(), "csrf": g.get("csrf", "")})
    _guarded(app, guard)
    _of_the_data_owner(app, places)
    _of_the_model_owner(app, places)
    return app


def _guarded(app: Flask, guard: Guard) -> None:
    """Add the door, the checks before each request, and what each answer and error gets."""

    @app.before_request
    def check() -> None:
        guard.check_origin(request.method, request.headers)
        if request.endpoint not in ("enter", "style"):
            g.csrf = guard.session(request.cookies)
        if request.method not in SAFE:
            guard.check_form(g.get("csrf", ""), request.form.get("csrf", ""))

    @app.after_request
    def protect(response: Response) -> Response:
        policy = response.headers.get(POLICY)  # that of a card, which is stricter
        response.headers.update(HEADERS if policy is None else HEADERS | {POLICY: policy})
        return response

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Any:
        if isinstance(error, Refusal):
            return _error(error.code, "This is not let in", str(error))
        if isinstance(error, AppraisalError):
            return _error(400, "This cannot be done", str(error))
        if isinstance(error, HTTPException):
            return _error(error.code or 500, error.name, "The desk has no such page, or does not take this request.")
        traceback.print_exception(error, file=sys.stderr)
        return _error(500, "A fault of the program", "The terminal shows the traceback. The desk goes on.")

    @app.get("/enter")
    def enter() -> Any:
        if request.method == "HEAD":  # a look ahead does not use the address up
            return ""
        session = guard.enter(request.args.get("token", ""))
        with suppress(OSError, ValueError):  # a terminal that was closed
            print(f"This address has been used. The next browser opens {guard.address}", flush=True)
        answer = redirect(url_for("waiting"), 303)
        answer.set_cookie(guard.cookie, session, httponly=True, samesite="Strict")
        return answer

    @app.get("/style.css")
    def style() -> Response:
        return Response(_style(), mimetype="text/css")


def _error(code: int, title: str, text: str) -> tuple[str, int]:
    return render_template("error.html.jinja", title=title, text=text, within=bool(g.get("csrf"))), code


@cache
def _style() -> str:
    own = (Path(__file__).parent / "templates" / "desk.css").read_text(encoding="utf-8")
    return render("style.css.jinja") + own


def _of_the_data_owner(app: Flask, places: Places) -> None:
    """Add the pages of a data owner: requests, budgets, answers, listings and offers."""

    @app.get("/")
    def waiting() -> str:
        return render_template("waiting.html.jinja", found=decisions.queue(places))

    @app.get("/part/waiting")
    def waiting_part() -> str:
        return render_template("waiting_part.html.jinja", found=decisions.queue(places))

    @app.get("/requests/<id>")
    def asked(id: str) -> str:
        return render_template("request.html.jinja", **decisions.one(places, id))

    @app.post("/requests/<id>")
    def decide(id: str) -> Any:
        form = request.form
        decisions.say(
            places, id, form.get("answer", ""), form.get("reason", ""), form.get("digest"), form.get("counterparty")
        )
        return redirect(url_for("asked", id=id), 303)

    @app.get("/budgets")
    def spent() -> str:
        return render_template("budgets.html.jinja", **budgets.tables(places))

    @app.get("/answers")
    def given() -> str:
        return render_template("answers.html.jinja", **answers.given(places))

    @app.get("/offers")
    def offered() -> str:
        return render_template("offers.html.jinja", **offers.all_offers(places))

    @app.get("/listings")
    def listed() -> str:
        return render_template("listings.html.jinja", **listings.all_listings(places))

    @app.get("/listings/<name>")
    def listing(name: str) -> str:
        return render_template("listing.html.jinja", **listings.one_listing(places, name))


def _of_the_model_owner(app: Flask, places: Places) -> None:
    """Add the page of candidates, and the cards of both owners."""

    @app.get("/candidates")
    def compared() -> str:
        return render_template("candidates.html.jinja", **answers.compared(places, request.args.get("sort", "value")))

    @app.get("/card")
    def card() -> Response:
        content = answers.card(places, request.args.get("run", ""), request.args.get("name", ""))
        return Response(content, mimetype="text/html", headers={POLICY: CARD_POLICY})
