"""The pages' HTTP endpoints: who may read them, and what a browser may do with them.

Pages show what traces say, so no other web page may read them, frame them or lead a script into them: no CORS header
is sent, everything but our own two scripts is forbidden, and a server without a token answers only to the names of
this machine, or a stranger's domain could be pointed at it (DNS rebinding). With a token, a browser asks for it as a
password (RFC 7617), and programs send it as they send spans.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tokenomics_plugin.live.addresses import LISTS, PAGES
from tokenomics_plugin.live.desk import Desk, DeskError

__all__ = ["Access", "page_routes"]

_logger = logging.getLogger(__name__)

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HEADERS: Final = {
    # Plotly adds style rules of its own; only data: images, its downloads and our icon.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ASSETS: Final = {
    "page.css": ("tokenomics_plugin.report", "page/page.css", "text/css; charset=utf-8"),
    "page.js": ("tokenomics_plugin.report", "page/page.js", "text/javascript; charset=utf-8"),
    "plotly.min.js": ("plotly", "package_data/plotly.min.js", "text/javascript; charset=utf-8"),
}
_MAX_QUERY: Final = 4_096

_Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may read the pages."""

    host: str
    """Address that the server listens on, in brackets where it has colons."""
    token: str | None
    """What readers must know; `None` where any process of this machine may read."""

    def refusal(self, request: Request) -> Response | None:
        """The answer to a reader who may not; `None` for one who may."""
        if self.token is None:
            name = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
            if name not in _LOCAL_NAMES and name != self.host:
                return PlainTextResponse(
                    f"This server answers to {', '.join(sorted(_LOCAL_NAMES))}; open one of these.\n", status_code=421
                )
            return None
        if hmac.compare_digest(_password(request.headers.get("authorization", "")), self.token.encode()):
            return None
        return PlainTextResponse(
            "Give the collector's token as the password; the user name does not matter.\n",
            status_code=401,
            headers={"WWW-Authenticate": 'Basic realm="tokenomics", charset="UTF-8", Bearer'},
        )


def page_routes(access: Access, desk: Desk) -> list[Route]:
    """The endpoints of all views; each is HTML at its path, and JSON below `/api`."""
    views = [(f"/{view}", _view(desk, view)) for view in (*PAGES, *LISTS)]
    routes = [("/", _start), ("/assets/{name}", _asset), *views]
    routes += [(f"/api{path}", _view(desk, path[1:], is_json=True)) for path, _ in views]
    routes += [
        ("/trace/{subject}", _view(desk, "trace")),
        ("/api/trace/{subject}", _view(desk, "trace", is_json=True)),
    ]
    return [Route(path, _guarded(access, endpoint), methods=["GET"]) for path, endpoint in routes]


def _guarded(access: Access, endpoint: _Endpoint) -> _Endpoint:
    async def guarded(request: Request) -> Response:
        response = access.refusal(request) or await endpoint(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return guarded


async def _start(_request: Request) -> Response:
    return RedirectResponse(f"/{PAGES[0]}")


def _view(desk: Desk, view: str, *, is_json: bool = False) -> _Endpoint:
    async def show(request: Request) -> Response:
        if len(request.url.query) > _MAX_QUERY:
            return _problem(f"The address is longer than {_MAX_QUERY} characters.", 414, is_json=is_json)
        try:
            answer = await desk.ask(
                view,
                subject=request.path_params.get("subject", ""),
                parameters=dict(request.query_params),
                is_json=is_json,
            )
        except DeskError as error:
            _logger.warning("no answer for %s: %s", view, error)
            return _problem(
                "The page could not be made; the collector's log says why. Try again.", 503, is_json=is_json
            )
        return Response(answer.body, status_code=answer.status, media_type=answer.media_type)

    return show


async def _asset(request: Request) -> Response:
    package, path, media_type = _ASSETS.get(request.path_params["name"], ("", "", ""))
    if not package:
        return PlainTextResponse("There is no such file.\n", status_code=404)
    try:
        content = files(package).joinpath(*path.split("/")).read_bytes()
    except ModuleNotFoundError:
        return PlainTextResponse("Charts need plotly: pip install 'tokenomics-plugin[report]'.\n", status_code=501)
    return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})


def _problem(sentence: str, status: int, *, is_json: bool) -> Response:
    if is_json:
        return JSONResponse({"error": sentence}, status_code=status)
    return PlainTextResponse(f"{sentence}\n", status_code=status)


def _password(authorization: str) -> bytes:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1", "replace")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(rest, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
