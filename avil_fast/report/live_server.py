"""A page that is served to this machine alone, to whoever has its token."""

from __future__ import annotations

import hmac
import secrets
import socket
import socketserver
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Drawn:
    """A page, and the nonce of its script."""

    version: str
    body: bytes
    nonce: str
    last: bool
    """Nothing comes after it: what it shows has ended."""


class PageSource(Protocol):
    """What is served; every method is called in a thread of the server."""

    def drawn(self) -> Drawn:
        """The page as it is now."""

    def state(self) -> bytes:
        """JSON by which a page that is open tells whether it is out of date."""

    def seen(self, drawn: Drawn) -> None:
        """A browser has this page."""


class LiveServer(ThreadingHTTPServer):
    """Makes no DNS lookup when it binds, and closes open connections when it stops."""

    daemon_threads = False

    def __init__(self, source: PageSource, port: int) -> None:
        self.source = source
        self.token = secrets.token_urlsafe(24)
        self._open: set[socket.socket] = set()
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    """Serves requests that carry the token; all others get an empty 404."""

    server: LiveServer
    timeout = 10

    def do_GET(self) -> None:
        source, what = self.server.source, self._asked_for()
        if what == "":
            drawn = source.drawn()
            self._answer(200, "text/html; charset=utf-8", drawn.body, drawn.nonce)
            source.seen(drawn)
        elif what == "state":
            self._answer(200, "application/json", source.state())
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def _asked_for(self) -> str | None:
        """What of the page; None for whoever is not to have it.

        A name of another host is that of a site which had it point here, to read the page with its own script.
        """
        host = self.headers.get("Host", "").rpartition(":")[0]
        start, token, *what = self.path.split("/", 2) if self.path.count("/") > 1 else ("", "", "")
        is_ours = hmac.compare_digest(token.encode(), self.server.token.encode())
        return what[0] if is_ours and not start and host in (HOST, "localhost") else None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._answer(code, "text/plain", b"")

    def _answer(self, code: int, kind: str, body: bytes, nonce: str = "") -> None:
        script = f"script-src 'nonce-{nonce}'; connect-src 'self'; style-src 'unsafe-inline'; " if nonce else ""
        self.send_response_only(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; {script}base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is the run's."""
