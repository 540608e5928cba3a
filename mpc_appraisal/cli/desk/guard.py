"""Who may see the desk, and who may change anything: one browser of this machine's user, from the desk's own pages.

In goes a request of a browser; out comes its session, or a refusal. These rules hold:

- The first address holds a token of 256 random bits. It serves once, and a new one is printed then. The browser is
  given a cookie, which no script reads and which no page of another site can send, and is led to an address without
  the token.
- The header Host has to be the desk's own address, so that no other name that leads to 127.0.0.1 opens the desk (DNS
  rebinding). A header Origin or Sec-Fetch-Site of another site is refused.
- A change is a POST with the Origin of the desk and with the session's own random token (CSRF) in its form.
- No page may be framed or kept, and no page runs a script but the desk's own file.

A rule may be added. None may be taken away, because every page of the internet can send requests to 127.0.0.1.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Mapping

from mpc_appraisal.common.errors import AppraisalError

HOST = "127.0.0.1"
SESSIONS = 16  # browsers that are let in at one time; the oldest one is forgotten
SAFE = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    # Not no-referrer, with which a browser would send the Origin null from the desk's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A card has its style within itself. It is shown without scripts, forms and an origin.
CARD_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"


class Refusal(AppraisalError):
    """This error refuses a request of a browser. `code` is the status of the answer."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class Guard:
    """The door of one desk.

    Args:
        port: the port that the desk serves on.
    """

    def __init__(self, port: int):
        self.authority = f"{HOST}:{port}"
        self.cookie = f"desk_{port}"  # a browser sends the cookies of one host to all of its ports
        self._token = secrets.token_urlsafe(32)
        self._sessions: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Return the address that lets one browser in."""
        return f"http://{self.authority}/enter?token={self._token}"

    def enter(self, token: str) -> str:
        """Return the cookie of a new session, and make a new token. Raises Refusal for another token."""
        with self._lock:
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                raise Refusal(403, "This address has been used, or is not the desk's. The terminal shows the next one.")
            self._token, session = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
            self._sessions[session] = secrets.token_urlsafe(32)
            while len(self._sessions) > SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return session

    def check_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Raise Refusal for a request that was not sent to this address, or that a page of another site sent."""
        if headers.get("Host") != self.authority:
            raise Refusal(421, f"The desk answers under http://{self.authority} alone.")
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        own = f"http://{self.authority}"
        if origin not in ((own, None) if method in SAFE else (own,)):
            raise Refusal(403, "This request came from a page of another site, or does not say from which.")
        if method not in SAFE and site not in (None, "same-origin"):
            raise Refusal(403, "This request came from a page of another site.")

    def session(self, cookies: Mapping[str, str]) -> str:
        """Return the CSRF token of the session that the cookie names. Raises Refusal where it names none."""
        with self._lock:
            found = self._sessions.get(cookies.get(self.cookie, ""))
        if found is None:
            raise Refusal(403, "Open the address that the terminal shows, which lets this browser in.")
        return found

    @staticmethod
    def check_form(csrf: str, stated: str) -> None:
        """Raise Refusal unless the form holds the token of its session."""
        if not hmac.compare_digest(csrf.encode(), stated.encode()):
            raise Refusal(403, "This form is not one of the desk's own, or an old one. Load its page again.")
