"""Helpers for tests of the served web page: server, visitors, uploads and downloads."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
SAMPLES = sorted((ROOT / "data" / "samples").glob("*.jpg"))
REPORT, FIGURE, DATA = "Report (PDF)", "Figure (PNG)", "Data (JSON)"
Visit = Callable[..., "Page"]
_COLORS = re.compile(r"\x1b\[[\d;]*m")
_START_S = 60
_WAIT_MS = 30_000


@dataclass(frozen=True)
class Server:
    """Process that serves the page.

    Attributes:
        process: Process of Streamlit.
        port: Port on 127.0.0.1.
        stderr: Lines written to stderr so far.
    """

    process: subprocess.Popen[str]
    port: int
    stderr: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Origin of the page."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory_kib(self) -> int:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmRSS:")[2].split()[0])

    @property
    def image_bytes(self) -> int:
        """Bytes of uploads, and of the pictures made of them."""
        with urllib.request.urlopen(f"{self.origin}/_stcore/metrics", timeout=5) as response:
            metrics = response.read().decode()
        kinds = 'cache_type="(?:UploadedFileManager|st_memory_media_file_storage)"'
        return sum(int(size) for size in re.findall(rf"cache_memory_bytes{{{kinds}.*?}} (\d+)", metrics))

    def listen(self) -> None:
        """Collect the lines of stderr until its end."""
        assert self.process.stderr
        self.stderr.extend(self.process.stderr)

    def is_up(self) -> bool:
        """Return True if the page can be opened."""
        with suppress(OSError), urllib.request.urlopen(f"{self.origin}/_stcore/health", timeout=5) as response:
            return bool(response.status == 200)
        return False


def command(port: int, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
    """Command line of the server, with `key=value` arguments and flags of Streamlit."""
    page = [sys.executable, "-m", "streamlit", "run", "segpipe/app/main.py"]
    return [*page, f"--server.port={port}", "--server.headless=true", *flags, "--", *arguments]


@contextmanager
def serve(*arguments: str, flags: Sequence[str] = ()) -> Iterator[Server]:
    """Serve the page on a free port with the arguments of `command`."""
    if find_spec("streamlit") is None:
        pytest.skip("needs streamlit: pip install -e .[app]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # A pipe, which limits on file sizes do not affect.
    process = subprocess.Popen(
        command(port, *arguments, flags=flags), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    )
    server = Server(process, port)
    reader = threading.Thread(target=server.listen, daemon=True)
    reader.start()
    try:
        end = time.monotonic() + _START_S
        while not server.is_up():
            assert process.poll() is None and time.monotonic() < end, server.stderr
            time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join()


@contextmanager
def visits(browser: "Browser", server: Server) -> Iterator[Visit]:
    """Open the page for a new visitor at each call; check for errors and foreign requests at the end."""
    from playwright.sync_api import expect

    expect.set_options(timeout=_WAIT_MS)
    faults: list[str] = []

    def check_request(url: str) -> None:
        if not re.match(rf"(http|ws|blob:http)://127\.0\.0\.1:{server.port}/|data:", url):
            faults.append(f"foreign request: {url}")

    with ExitStack() as visitors:

        def visit(path: str = "", **options: Any) -> "Page":
            # Tall enough that nothing scrolls, which would close an open list.
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 2000}} | options)
            visitors.callback(context.close)
            context.set_default_timeout(_WAIT_MS)
            page = context.new_page()
            page.on("request", lambda request: check_request(request.url))
            page.on("websocket", lambda socket: check_request(socket.url))
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"{server.origin}/{path}")
            return page

        yield visit
    assert faults == []
    assert server.process.poll() is None, f"ended with {server.process.returncode}"
    assert not any("Traceback" in line for line in server.stderr), "".join(server.stderr)


def plain_lines(text: str) -> list[str]:
    """Lines of terminal output without colors."""
    return [line for line in _COLORS.sub("", text).splitlines() if line.strip()]


def upload(page: "Page", *files: Any) -> None:
    """Upload images, given as paths or as Playwright's `name`, `mimeType` and `buffer`."""
    page.locator("input[type=file]").set_input_files(list(files))


def wait_until_drawn(page: "Page") -> None:
    """Wait until Streamlit has drawn the page, also right after a click."""
    for _ in range(2):
        page.wait_for_timeout(100)
        page.locator("[data-test-script-state=notRunning]").wait_for()


def remove_upload(page: "Page") -> None:
    """Remove the first upload."""
    page.get_by_role("button", name="Remove").first.click()


def predictions(page: "Page") -> list[str]:
    """Wait for results, and return their headlines."""
    page.locator(".prediction").first.wait_for()
    wait_until_drawn(page)
    return [" ".join(text.split()) for text in page.locator(".prediction").all_inner_texts()]


def pictures(page: "Page") -> dict[str, bytes]:
    """Content of all pictures on the page by their URL, which holds it."""
    urls = page.locator("img").evaluate_all("images => images.map(image => image.src)")
    return {url: b64decode(url.partition(";base64,")[2], validate=True) for url in urls}


def open_settings(page: "Page") -> None:
    """Open the settings below the results."""
    wait_until_drawn(page)
    page.get_by_text("Settings", exact=True).click()


def listed(page: "Page") -> list[str]:
    """Wait for the list of results, and return its names in their order."""
    page.locator(".row").first.wait_for()
    wait_until_drawn(page)
    return page.locator(".row .name").all_inner_texts()


def open_finding(page: "Page", name: str) -> None:
    """Open a finding from the list of results."""
    page.get_by_role("button", name=f"Open {name}", exact=True).click()
    page.locator(".prediction").first.wait_for()
    wait_until_drawn(page)


def download(page: "Page", label: str) -> bytes:
    """Download the file of a button."""
    wait_until_drawn(page)
    with page.expect_download() as event:
        page.get_by_role("button", name=label).click()
    return Path(event.value.path()).read_bytes()


def errors(page: "Page", count: int) -> list[str]:
    """Wait for a number of errors on the page, and return their lines."""
    alerts = page.get_by_test_id("stMain").get_by_role("alert")
    alerts.nth(count - 1).wait_for()
    texts = [text.strip() for text in alerts.all_inner_texts()]
    assert len(texts) == count and not any("\n" in text or "Traceback" in text for text in texts), texts
    return texts


def horizontal_overflow(page: "Page") -> int:
    """Pixels by which the page is wider than its window."""
    scrolling = "html, [data-testid=stApp], [data-testid=stAppViewContainer], [data-testid=stMain]"
    overflows = page.locator(scrolling).evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
    assert len(overflows) == 4
    return max(overflows)
