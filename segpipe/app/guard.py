"""Checks of raw requests before Streamlit sees them, and the headers of every answer."""

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import exists, get_instance

MEBIBYTE = 1024 * 1024
MOST_FILES = 200  # that a visitor may hold; Streamlit takes any number, named on the page or not
MOST_BYTES = 2048 * MEBIBYTE  # of uploads that all visitors hold together
IDLE_SECONDS = 10.0  # between two pieces of a request
REQUEST_SECONDS = 300.0  # for a whole request
_UPLOADS = "/_stcore/upload_file/"
_MEDIA = "/media/"

# Starlette keeps larger parts of a request in a file on disk.
MultiPartParser.spool_max_size = 2 * MEBIBYTE * st.get_option("server.maxUploadSize")


class RequestGuard:
    """ASGI middleware: refuses foreign hosts and origins, slow and too many uploads, and sets security headers.

    Args:
        app: Streamlit's application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._streamlit = app  # checks the host of a websocket itself
        self._app = TrustedHostMiddleware(app, st.get_option("server.allowedHosts") or ["*"], www_redirect=False)
        self._origins = {origin.strip().lower() for origin in st.get_option("server.corsAllowedOrigins")}
        self._headers = build_headers()
        self._coming = 0  # bytes of uploads on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server, for each request and each websocket."""
        if scope["type"] == "http":
            await self._answer(scope, receive, self._with_headers(scope, send))
        elif scope["type"] != "websocket" or self._is_own_origin(Headers(scope=scope)):
            await self._streamlit(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})  # policy violation

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not self._is_own_origin(headers):
            await PlainTextResponse("Foreign origin", 403)(scope, receive, send)
            return
        with self._announced(scope, headers) as has_room:
            if has_room:
                await self._app(scope, _in_time(receive), send)
            else:
                await PlainTextResponse("Too many uploads", 413)(scope, receive, send)

    def _is_own_origin(self, headers: Headers) -> bool:
        """Whether a request comes from the page itself, from an allowed origin, or from no page."""
        origin = headers.get("origin")
        if origin is None or origin.lower() in self._origins:
            return True
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""

    @contextmanager
    def _announced(self, scope: Scope, headers: Headers) -> Iterator[bool]:
        """Count an upload while it comes in; gives whether there is room for it."""
        if scope["method"] != "PUT" or not scope["path"].startswith(_UPLOADS):
            yield True
            return
        length = headers.get("content-length", "")
        size = int(length) if re.fullmatch(r"[0-9]{1,12}", length) else (st.get_option("server.maxUploadSize") + 1) * MEBIBYTE
        held, files = _held_uploads(scope["path"].removeprefix(_UPLOADS).partition("/")[0])
        self._coming += size
        try:
            yield files < MOST_FILES and held + self._coming <= MOST_BYTES
        finally:
            self._coming -= size

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                if scope["path"].startswith(_MEDIA):
                    headers["cache-control"] = "no-store"  # photographs, which no browser shall keep
            await send(message)

        return answer


def build_headers() -> dict[str, str]:
    """The headers of every answer; scripts come from the server alone, and nobody may frame the page."""
    index = Path(st.__file__).parent / "static" / "index.html"
    inline = re.findall(r"<script>(.*?)</script>", index.read_text(encoding="utf-8"), re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in inline]
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "'wasm-unsafe-eval'", *hashes]),
        "style-src": "'self' 'unsafe-inline'",
        "connect-src": "'self' data: blob:",  # the camera's picture is fetched as data
        "img-src": "'self' data: blob:",
        "media-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    }


def _in_time(receive: Receive) -> Receive:
    """Hand on the pieces of a request while they come in time; what follows the last one may take as long as it likes."""
    end = time.monotonic() + REQUEST_SECONDS
    whole = False

    async def next_message() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout(min(IDLE_SECONDS, end - time.monotonic())):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, "Request too slow") from error
        whole = not message.get("more_body", False)
        return message

    return next_message


def _held_uploads(session: str) -> tuple[int, int]:
    """Bytes of the files that all visitors hold, and the number of those of one."""
    if not exists():
        return 0, 0
    storage = get_instance().uploaded_file_mgr.file_storage  # type: ignore[attr-defined]
    sizes = [len(file.data) for files in list(storage.values()) for file in list(files.values())]
    return sum(sizes), len(storage.get(session, ()))
