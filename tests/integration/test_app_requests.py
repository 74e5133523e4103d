"""Raw and malformed requests to the server of the web page."""

import hashlib
import http.client
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from app_server import SAMPLES, Server, serve

pytest.importorskip("streamlit", reason="needs streamlit: pip install -e .[app]")
websockets = pytest.importorskip("websockets.sync.client", reason="comes with streamlit")

from segpipe.app import main  # noqa: E402

SECRET = b"root:x:0:0"
LIMIT = 20 * 1024 * 1024
UNKNOWN = "7c9e6679-7425-40de-944b-e07fc1f90ae7"  # a session that never existed


@dataclass(frozen=True)
class Response:
    """Response of the server."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve without write access to any file; the server must survive all tests."""
    with serve(f"bundles={tmp_path_factory.mktemp('none')}", "device=cpu", "tta=none", "explain=none") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        yield server
        assert server.process.poll() is None
        assert request(server, "GET", "/").status == 200


def request(server: Server, method: str, target: str, body: Any = None, **headers: str) -> Response:
    """Send one request; names of headers have underscores."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, target, skip_host="Host" in fields, skip_accept_encoding=True)
        for name, value in fields.items():
            connection.putheader(name, value)
        if body is not None and "Content-Length" not in fields and "Transfer-Encoding" not in fields:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Response(response.status, response.headers, response.read())
    finally:
        connection.close()


def raw(server: Server, content: bytes) -> bytes:
    """Send bytes and return the response."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@dataclass(frozen=True)
class Visitor:
    """Open connection to the page.

    Attributes:
        socket: Websocket of the connection.
        session: Secret id of the session.
        token: Token against forged requests.
    """

    socket: Any
    session: str
    token: str


def stream(server: Server, *, origin: str | None = None, session: str | None = None) -> Any:
    """Open a websocket to the page, of a new or a given session."""
    return websockets.connect(
        f"ws://127.0.0.1:{server.port}/_stcore/stream",
        origin=origin or server.origin,
        subprotocols=["streamlit", *(["x", session] if session else [])],
        max_size=None,
        max_queue=None,
        open_timeout=20,
    )


@contextmanager
def visit(server: Server, *, session: str | None = None) -> Iterator[Visitor]:
    """Connect a visitor until the end of the block."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    cookie = re.search(r"_streamlit_xsrf=([^;]+)", request(server, "GET", "/_stcore/health").headers["Set-Cookie"])
    assert cookie
    with stream(server, session=session) as connection:
        start = BackMsg()
        start.rerun_script.query_string = ""
        connection.send(start.SerializeToString())
        session_id, message = "", ForwardMsg()
        while message.WhichOneof("type") != "script_finished":  # the models are loaded then
            message.ParseFromString(connection.recv(timeout=60))
            session_id = message.new_session.initialize.session_id or session_id
        yield Visitor(connection, session_id, cookie[1])


@pytest.fixture(scope="module")
def visitor(server: Server) -> Iterator[Visitor]:
    """Connect a visitor for all tests."""
    with visit(server) as visitor:
        yield visitor


def multipart(content: bytes, *, count: int = 1) -> bytes:
    """Build the body of an upload."""
    disposition = b'Content-Disposition: form-data; name="file"; filename="a.jpg"'
    part = b"--b\r\n" + disposition + b"\r\nContent-Type: image/jpeg\r\n\r\n" + content + b"\r\n"
    return part * count + b"--b--\r\n"


def put(server: Server, visitor: Visitor, body: Any, *, file: str = "f", session: str | None = None, **headers: str) -> Response:
    """Upload a file."""
    proof = {"X-Xsrftoken": visitor.token, "Cookie": f"_streamlit_xsrf={visitor.token}"}
    fields = {"Content-Type": "multipart/form-data; boundary=b"} | proof | headers
    target = f"/_stcore/upload_file/{session or visitor.session}/{file}"
    return request(server, "PUT", target, body, **fields)


ROUTES = ("static", "media", "component/x", "_stcore/bidi-components/x", "_stcore/component", "app/static", "")
TRAVERSALS = (
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..%252f..%252f..%252fetc%252fpasswd",
    "..\\..\\..\\..\\etc\\passwd",
    "%5c%5c127.0.0.1%5cshare",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "a%00.js",
    "....//....//....//etc/passwd",
    "%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
    "~root/.bashrc",
    "x" * 6000,
)


@pytest.mark.parametrize("traversal", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_path_traversal_reads_no_file(server: Server, traversal: str) -> None:
    for route in ROUTES:
        response = request(server, "GET", f"/{route}/{traversal}")
        assert response.status in (200, 307, 400, 404)
        assert SECRET not in response.body
        assert b"Traceback" not in response.body
        if response.status == 200:  # Streamlit's empty page, sent for any path
            assert b'<div id="root">' in response.body


@pytest.mark.parametrize(
    "target", ["/segpipe/app/main.py", "/main.py", "/.streamlit/config.toml", "/static/../index.html.map", "//x"]
)
def test_source_and_settings_are_not_served(server: Server, target: str) -> None:
    body = request(server, "GET", target).body
    assert b"import streamlit" not in body
    assert b"allowedHosts" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example", "", "localhost@evil"])
@pytest.mark.parametrize("target", ["/", "/_stcore/health", "/_stcore/metrics", "/_stcore/host-config"])
def test_foreign_host_is_refused(server: Server, host: str, target: str) -> None:
    response = request(server, "GET", target, Host=host)
    assert (response.status, b"<html" in response.body) == (400, False)
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost:9999", "file://", "https://"]
)
def test_foreign_origin_is_refused(server: Server, visitor: Visitor, origin: str) -> None:
    assert request(server, "GET", "/_stcore/health", Origin=origin).status == 403
    assert request(server, "OPTIONS", f"/_stcore/upload_file/{visitor.session}/f", Origin=origin).status == 403
    assert put(server, visitor, multipart(b"x"), Origin=origin).status == 403
    with pytest.raises(Exception, match="403"):
        stream(server, origin=origin)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example"])
def test_dns_rebinding_gets_no_websocket(server: Server, host: str) -> None:
    content = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert re.match(rb"HTTP/1\.1 (400|403) ", raw(server, content.encode()))


@pytest.mark.parametrize("target", ["/", "/_stcore/health", "/media/none.jpg", "/nothing/here.js", "/static/none.js"])
def test_responses_have_security_headers(server: Server, target: str) -> None:
    headers = request(server, "GET", target).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"script-src[^;]*('unsafe-inline'|'unsafe-eval'|https?:|\*)", policy)
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "XXX"])
@pytest.mark.parametrize("target", ["/", "/_stcore/health", "/media/none.jpg", "/static/index.html"])
def test_other_methods_are_refused(server: Server, method: str, target: str) -> None:
    assert request(server, method, target, b"x").status in (400, 404, 405)


@pytest.mark.parametrize("target", ["interact", "mcp"])
def test_agent_interface_is_off(server: Server, target: str) -> None:
    response = request(server, "POST", f"/_stcore/agent/{target}", b"{}", **{"Content-Type": "application/json"})
    assert response.status in (400, 403, 404, 405)


@pytest.mark.parametrize(
    "session", ["0", "..", "%2e%2e%2f%2e%2e", "a/b", "%00", "7c9e6679-7425-40de-944b-e07fc1f90ae7", "x" * 5000]
)
def test_upload_to_a_forged_session_is_refused(server: Server, visitor: Visitor, session: str) -> None:
    assert put(server, visitor, multipart(b"x" * 1000), session=session).status in (400, 404, 405)


@pytest.mark.parametrize("token", ["", "x", "2|aaaa|bbbb|1", "2|deadbeef|00000000000000000000000000000000|1795992069"])
def test_upload_without_its_token_is_refused(server: Server, visitor: Visitor, token: str) -> None:
    assert put(server, visitor, multipart(b"x"), **{"X-Xsrftoken": token}).status == 403
    forged = {"X-Xsrftoken": token, "Cookie": "_streamlit_xsrf=other"}
    assert request(server, "DELETE", f"/_stcore/upload_file/{visitor.session}/f", **forged).status == 403


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=b"),
        (b"x" * 100, "multipart/form-data; boundary=b"),
        (b"x" * 100, "multipart/form-data"),
        (b"--b\r\n\r\n\r\n--b--", "multipart/form-data; boundary=b"),
        (multipart(b"x")[:60], "multipart/form-data; boundary=b"),
        (multipart(b"", count=1100), "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data; name=" + b"n" * 100_000, "multipart/form-data; boundary=b"),
        (multipart(b"x"), "multipart/form-data; boundary=" + "b" * 300),
        (b"a=" + b"1" * 5000, "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
    ],
    ids=range(10),
)
def test_malformed_upload_is_refused(server: Server, visitor: Visitor, body: bytes, kind: str) -> None:
    response = put(server, visitor, body, **{"Content-Type": kind})
    assert 400 <= response.status < 500
    assert b"Traceback" not in response.body
    assert b'File "' not in response.body


def test_upload_above_the_limit_is_refused(server: Server, visitor: Visitor) -> None:
    assert put(server, visitor, multipart(b"x" * (LIMIT + 1))).status == 413
    assert put(server, visitor, b"", **{"Content-Length": str(10**15)}).status == 413
    assert put(server, visitor, b"x", **{"Content-Length": "-1"}).status == 400

    def chunks() -> Iterator[bytes]:
        yield from (b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [multipart(b"")[:-9], *[b"x" * 1024 * 1024] * 60])

    with suppress(ConnectionError):  # the server may hang up before the end
        assert put(server, visitor, chunks(), **{"Transfer-Encoding": "chunked"}).status == 413


@pytest.mark.usefixtures("visitor")
def test_fifty_parallel_uploads_stay_in_memory_and_do_not_block(server: Server) -> None:
    before = server.memory_kib
    content = os.urandom(4 * 1024 * 1024)
    with visit(server) as visitor:
        with ThreadPoolExecutor(50) as pool:
            body = multipart(content)
            uploads = [pool.submit(put, server, visitor, body, file=f"f{number}") for number in range(50)]
            start = time.monotonic()
            assert request(server, "GET", "/_stcore/health").status == 200
            assert time.monotonic() - start < 10
            assert {upload.result().status for upload in uploads} == {204}
        time.sleep(5.5)  # the server caches the count for 5 s
        assert server.image_bytes >= 50 * len(content)
        assert server.memory_kib - before < 4 * 50 * len(content) / 1024
        for number in range(50):
            proof = {"X-Xsrftoken": visitor.token, "Cookie": f"_streamlit_xsrf={visitor.token}"}
            assert request(server, "DELETE", f"/_stcore/upload_file/{visitor.session}/f{number}", **proof).status == 204


def test_number_of_files_of_a_visitor_is_limited(server: Server) -> None:
    with visit(server) as visitor:
        found = [put(server, visitor, multipart(b"x"), file=f"forged{number}").status for number in range(main.MAX_FILES + 3)]
    assert found == [204] * main.MAX_FILES + [413] * 3


def test_visitor_cannot_delete_files_of_another(server: Server, visitor: Visitor) -> None:
    assert put(server, visitor, multipart(b"mine"), file="mine").status == 204
    with visit(server) as other:
        proof = {"X-Xsrftoken": other.token, "Cookie": f"_streamlit_xsrf={other.token}"}
        assert request(server, "DELETE", f"/_stcore/upload_file/{other.session}/mine", **proof).status == 204
        assert b"mine" not in request(server, "GET", f"/_stcore/upload_file/{visitor.session}/mine", **proof).body


def test_names_of_pictures_cannot_be_guessed(server: Server, visitor: Visitor) -> None:
    # Names are hashes of the content, and there is no list of them.
    content = SAMPLES[0].read_bytes()
    for name in (
        *("", "0", "1", "*", "..", SAMPLES[0].name),
        *(f"{hashlib.new(kind, content).hexdigest()}.jpg" for kind in ("md5", "sha1", "sha224", "sha256")),
    ):
        response = request(server, "GET", f"/media/{name}")
        assert response.status in (200, 307, 400, 404)
        assert not response.headers.get("Content-Type", "").startswith("image/")
        assert response.headers["Cache-Control"] == "no-store"


def test_forged_session_is_not_resumed(server: Server, visitor: Visitor) -> None:
    with visit(server, session=UNKNOWN) as other:
        assert other.session not in (UNKNOWN, visitor.session)


@pytest.mark.parametrize("frame", [b"\xff" * 100, b"", "text", b"\x0a" * 100_000, b"\0"], ids=range(5))
def test_malformed_websocket_frame_ends_only_its_connection(server: Server, visitor: Visitor, frame: bytes | str) -> None:
    with stream(server) as connection:
        connection.send(frame)
    assert request(server, "GET", "/_stcore/health").status == 200
    assert put(server, visitor, multipart(b"x"), file="after").status == 204


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET \x00/\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET ../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=range(15),
)
def test_malformed_request_does_not_harm_the_server(server: Server, content: bytes) -> None:
    try:
        response = raw(server, content)
    except OSError:
        response = b""  # the server hung up
    assert not re.match(rb"HTTP/1\.1 5", response)
    assert b"Traceback" not in response
    assert request(server, "GET", "/_stcore/health").status == 200


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-99999", "bytes=" + "9" * 5000, "x", "bytes=5-1", "bytes=0-1,2-3"])
def test_malformed_range_or_cookie_causes_no_server_error(server: Server, value: str) -> None:
    assert request(server, "GET", "/media/none.jpg", Range=value).status == 404
    assert request(server, "GET", "/static/../favicon.png", Range=value).status < 500
    assert request(server, "GET", "/_stcore/health", Cookie=f"_streamlit_xsrf={value}; _streamlit_user={value}").status == 200


def test_slow_requests_are_cut_off_and_do_not_block(server: Server, visitor: Visitor) -> None:
    head = (
        f"PUT /_stcore/upload_file/{visitor.session}/slow HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"X-Xsrftoken: {visitor.token}\r\nCookie: _streamlit_xsrf={visitor.token}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n--b\r\n"
    )
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=2 * main.IDLE_SECONDS) for _ in range(100)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(head.encode() if number % 2 else b"GET / HTTP/1.1\r\nHost: loc")
        start = time.monotonic()
        assert put(server, visitor, multipart(b"x" * 1000), file="quick").status == 204
        assert time.monotonic() - start < 5
        assert slow[1].recv(100).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - start < main.IDLE_SECONDS + 5
    finally:
        for connection in slow:
            connection.close()


def test_log_contains_no_file_names_or_session_errors(server: Server) -> None:
    log = "".join(server.stderr)
    assert "a.jpg" not in log
    assert "Invalid session" not in log
