"""Server of the web page: request checks, response headers, expired sessions.

It is started by `segpipe app`, or by `streamlit run segpipe/app/main.py -- key=value ...`. The keys are those of
`segpipe.config.commands.AppConfig`; the server's own settings are in `.streamlit/config.toml`. Streamlit runs `pages.py` after
each click. All uses of Streamlit's internals are in this module. Not a medical device.
"""

import asyncio
import base64
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import Runtime, exists, get_instance

from segpipe.app.frame import SCRIPT

MEBIBYTE = 1024 * 1024
MAX_FILES = 200  # uploads of one session; Streamlit itself has no limit
MAX_BYTES = 2048 * MEBIBYTE  # uploads of all sessions together
IDLE_SECONDS = 10.0  # between two chunks of a request
REQUEST_SECONDS = 300.0  # for a whole request
CLEANUP_SECONDS = 10.0  # between two removals of expired sessions
_UPLOADS = "/_stcore/upload_file/"
_MEDIA = "/media/"

# Starlette writes larger parts of a request to disk.
MultiPartParser.spool_max_size = 2 * MEBIBYTE * st.get_option("server.maxUploadSize")


class RequestGuard:
    """ASGI middleware that limits requests and sets security headers.

    It refuses foreign hosts and origins, slow requests, and uploads beyond the limits.

    Args:
        app: Streamlit's application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._streamlit = app  # checks the host of websockets itself
        self._app = TrustedHostMiddleware(app, st.get_option("server.allowedHosts") or ["*"], www_redirect=False)
        self._origins = {origin.strip().lower() for origin in st.get_option("server.corsAllowedOrigins")}
        self._headers = build_headers()
        self._incoming = 0  # bytes of uploads in progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a websocket."""
        if scope["type"] == "http":
            await self._respond(scope, receive, self._with_headers(scope, send))
        elif scope["type"] != "websocket" or self._is_own_origin(Headers(scope=scope)):
            await self._streamlit(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})  # policy violation

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not self._is_own_origin(headers):
            await PlainTextResponse("Foreign origin", 403)(scope, receive, send)
            return
        with self._admit_upload(scope, headers) as admitted:
            if admitted:
                await self._app(scope, _with_timeout(receive), send)
            else:
                await PlainTextResponse("Too many uploads", 413)(scope, receive, send)

    def _is_own_origin(self, headers: Headers) -> bool:
        """Accept the page itself, allowed origins, and requests without one."""
        origin = headers.get("origin")
        if origin is None or origin.lower() in self._origins:
            return True
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""

    @contextmanager
    def _admit_upload(self, scope: Scope, headers: Headers) -> Iterator[bool]:
        """Count an upload in progress, and yield False beyond the limits."""
        if scope["method"] != "PUT" or not scope["path"].startswith(_UPLOADS):
            yield True
            return
        length = headers.get("content-length", "")
        size = int(length) if re.fullmatch(r"[0-9]{1,12}", length) else (st.get_option("server.maxUploadSize") + 1) * MEBIBYTE
        held, files = _count_uploads(scope["path"].removeprefix(_UPLOADS).partition("/")[0])
        self._incoming += size
        try:
            yield files < MAX_FILES and held + self._incoming <= MAX_BYTES
        finally:
            self._incoming -= size

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                if scope["path"].startswith(_MEDIA):
                    headers["cache-control"] = "no-store"  # images of visitors
            await send(message)

        return send_with_headers


def build_headers() -> dict[str, str]:
    """Build the response headers: only known scripts, no framing."""
    index = Path(st.__file__).parent / "static" / "index.html"
    inline = re.findall(r"<script>(.*?)</script>", index.read_text(encoding="utf-8"), re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in [*inline, SCRIPT]]
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "'wasm-unsafe-eval'", *hashes]),
        "style-src": "'self' 'unsafe-inline'",
        "connect-src": "'self' data: blob:",  # the camera's picture is a data URL
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


def _with_timeout(receive: Receive) -> Receive:
    """Limit the time between chunks and for the whole request."""
    end = time.monotonic() + REQUEST_SECONDS
    complete = False

    async def next_message() -> Message:
        nonlocal complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout(min(IDLE_SECONDS, end - time.monotonic())):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, "Request too slow") from error
        complete = not message.get("more_body", False)
        return message

    return next_message


def _count_uploads(session: str) -> tuple[int, int]:
    """Count the bytes of all uploads, and the files of one session."""
    if not exists():
        return 0, 0
    storage = get_instance().uploaded_file_mgr.file_storage  # type: ignore[attr-defined]
    sizes = [len(file.data) for files in list(storage.values()) for file in list(files.values())]
    return sum(sizes), len(storage.get(session, ()))


@asynccontextmanager
async def remove_expired_sessions(_: st.App) -> AsyncIterator[None]:
    """Remove expired sessions regularly for as long as the server runs.

    Without it, the last visitor's images would stay in memory until another visitor comes.
    """
    _schedule_removal(get_instance())
    yield


def _schedule_removal(runtime: Runtime) -> None:
    asyncio.get_running_loop().call_later(CLEANUP_SECONDS, _remove_and_repeat, runtime)


def _remove_and_repeat(runtime: Runtime) -> None:
    # Scheduled first: the event loop logs an error, and later runs are not affected.
    _schedule_removal(runtime)
    _remove_expired(runtime)


def _remove_expired(runtime: Runtime) -> None:
    """Shut down expired sessions and release their images and downloads.

    Streamlit has no public access to the sessions: an AttributeError means that its version stores them elsewhere.
    """
    expired = runtime._session_mgr._session_storage._cache.expire()  # type: ignore[attr-defined]
    for _, info in expired:
        info.session.shutdown()
        # Streamlit's event loop may keep the session object, so its content is removed.
        info.session.session_state.clear()
        info.session._fragment_storage.clear()
    if expired:
        # shutdown() only marks what was offered for download; a second call removes it.
        runtime.media_file_mgr.remove_orphaned_files()


logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
app = st.App(
    Path(__file__).with_name("pages.py"),
    lifespan=remove_expired_sessions,
    middleware=[Middleware(RequestGuard)],
)
