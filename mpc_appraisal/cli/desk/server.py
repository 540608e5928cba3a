"""The server of the desk: Werkzeug's, with threads, bound to 127.0.0.1 alone.

In go the folders and a port; the server runs until it is interrupted. It serves one user of one machine, for which
Werkzeug's server is enough. It logs no address, because the first address holds a token.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from mpc_appraisal.cli.desk.app import make_app
from mpc_appraisal.cli.desk.guard import HOST, Guard
from mpc_appraisal.cli.desk.notify import Notifier
from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.common.errors import InputError

PATIENCE = 30  # seconds that a connection may be silent


class _Quiet(WSGIRequestHandler):
    timeout = PATIENCE

    def log(self, type: str, message: str, *args: object) -> None:
        """Log nothing."""

    def version_string(self) -> str:
        return "desk"


def bind(places: Places, port: int, trouble: Callable[[], str] = str) -> tuple[BaseWSGIServer, Guard]:
    """Return the server, which listens already, and its guard. Raises InputError for a port that is taken."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(64)
        guard = Guard(listening.getsockname()[1])
        app = make_app(places, guard, trouble)
        # The server takes a copy of the descriptor.
        server = make_server(HOST, 0, app, threaded=True, request_handler=_Quiet, fd=listening.fileno())
    except OSError as error:
        raise InputError("port", f"{port} ({error.strerror or error})", "a port that is free") from error
    finally:
        listening.close()
    server.daemon_threads = True
    return server, guard


def serve(places: Places, port: int, notify: list[str] | None = None) -> None:
    """Print the address and serve until an interruption. Raises InputError for a port that is taken.

    notify: the words of the command that runs for each event; None for no notifications.
    """
    notifier = None if notify is None else Notifier(places, notify)
    server, guard = bind(places, port, lambda: notifier.trouble if notifier else "")
    print(f"The desk is open. One browser may enter by {guard.address}", flush=True)
    print("Ctrl-C closes the desk.", file=sys.stderr, flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()
    server.server_close()
    if notifier is not None:
        notifier.close()
