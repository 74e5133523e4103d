"""The web page as a browser meets it: served by a process of its own, visited, given photographs, asked for its downloads."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
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
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
_START_S = 60
_WAIT_MS = 30_000


@dataclass(frozen=True)
class Server:
    """A process that serves the page.

    Attributes:
        process: of Streamlit.
        port: on 127.0.0.1.
        complaints: lines that it has written to stderr so far.
    """

    process: subprocess.Popen[str]
    port: int
    complaints: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Where the page lies."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory_kib(self) -> int:
        """What the process holds of the machine's memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmRSS:")[2].split()[0])

    @property
    def photograph_bytes(self) -> int:
        """What is there of visitors' photographs: the files as they came, and the pictures that were made of them."""
        with urllib.request.urlopen(f"{self.origin}/_stcore/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
        kinds = 'cache_type="(?:UploadedFileManager|st_memory_media_file_storage)"'
        return sum(int(held) for held in re.findall(rf"cache_memory_bytes{{{kinds}.*?}} (\d+)", metrics))

    def listen(self) -> None:
        """Gather what is said on stderr, until its end."""
        assert self.process.stderr
        self.complaints.extend(self.process.stderr)

    def is_up(self) -> bool:
        """Whether the page can be opened."""
        with suppress(OSError), urllib.request.urlopen(f"{self.origin}/_stcore/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False


def command(port: int, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
    """The call of the page's server, with `key=value` arguments and flags of Streamlit's own."""
    page = [sys.executable, "-m", "streamlit", "run", "segpipe/app/main.py"]
    return [*page, f"--server.port={port}", "--server.headless=true", *flags, "--", *arguments]


@contextmanager
def serve(*arguments: str, flags: Sequence[str] = ()) -> Iterator[Server]:
    """A server of the page on a free port, called with the arguments and flags of `command`; it ends with the block."""
    if find_spec("streamlit") is None:
        pytest.skip("needs streamlit: pip install -e .[app]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # A pipe, as no limit on the size of files holds for it.
    process = subprocess.Popen(
        command(port, *arguments, flags=flags), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    )
    server = Server(process, port)
    listener = threading.Thread(target=server.listen, daemon=True)
    listener.start()
    try:
        end = time.monotonic() + _START_S
        while not server.is_up():
            assert process.poll() is None and time.monotonic() < end, server.complaints
            time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()
        listener.join()


@contextmanager
def visits(browser: "Browser", server: Server) -> Iterator[Visit]:
    """Opens the page for one more visitor at each call; at the end nothing failed, and nothing was asked for elsewhere."""
    from playwright.sync_api import expect

    expect.set_options(timeout=_WAIT_MS)
    faults: list[str] = []

    def ask(url: str) -> None:
        if not re.match(rf"(http|ws|blob:http)://127\.0\.0\.1:{server.port}/|data:", url):
            faults.append(f"elsewhere: {url}")

    with ExitStack() as visitors:

        def visit(path: str = "", **options: Any) -> "Page":
            # So tall that nothing scrolls into view under a list that has just been opened, which would close it.
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 2000}} | options)
            visitors.callback(context.close)
            context.set_default_timeout(_WAIT_MS)
            page = context.new_page()
            page.on("request", lambda request: ask(request.url))
            page.on("websocket", lambda socket: ask(socket.url))
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"{server.origin}/{path}")
            return page

        yield visit
    assert faults == []
    assert server.process.poll() is None, f"ended with {server.process.returncode}"
    assert not any("Traceback" in line for line in server.complaints), "".join(server.complaints)


def plain_lines(text: str) -> list[str]:
    """The lines of what a terminal was told, without its colours."""
    return [line for line in _COLOURS.sub("", text).splitlines() if line.strip()]


def upload(page: "Page", *files: Any) -> None:
    """Give photographs, by their paths or as Playwright's `name`, `mimeType` and `buffer`."""
    page.locator("input[type=file]").set_input_files(list(files))


def at_rest(page: "Page") -> None:
    """Wait until Streamlit has drawn all of the page, also after a click that it has not answered yet."""
    for _ in range(2):
        page.wait_for_timeout(100)
        page.locator("[data-test-script-state=notRunning]").wait_for()


def take_away(page: "Page") -> None:
    """Take the first photograph off the page."""
    page.get_by_role("button", name="Remove").first.click()


def answers(page: "Page") -> list[str]:
    """What the findings on the page say at their top, once there is one."""
    page.locator(".answer").first.wait_for()
    at_rest(page)
    return [" ".join(text.split()) for text in page.locator(".answer").all_inner_texts()]


def picture(page: "Page", title: str) -> str:
    """The address of a picture, by the title above it."""
    return str(page.get_by_role("img", name=re.compile(f"^{title}:")).evaluate("one => one.src"))


def pictures(page: "Page") -> dict[str, bytes]:
    """All pictures that the page shows, by their addresses."""
    addresses = page.locator("img").evaluate_all("all => all.map(one => one.src)")
    return {address: page.request.get(address).body() for address in addresses}


def download(page: "Page", label: str) -> bytes:
    """What a button gives to take home, once the page is drawn."""
    at_rest(page)
    with page.expect_download() as coming:
        page.get_by_role("button", name=label).click()
    return Path(coming.value.path()).read_bytes()


def errors(page: "Page", count: int) -> list[str]:
    """The lines in which the page says what is wrong, once there are as many."""
    alerts = page.get_by_test_id("stMain").get_by_role("alert")
    alerts.nth(count - 1).wait_for()
    texts = [text.strip() for text in alerts.all_inner_texts()]
    assert len(texts) == count and not any("\n" in text or "Traceback" in text for text in texts), texts
    return texts


def sideways(page: "Page") -> int:
    """By how many pixels the page could be scrolled sideways."""
    scrolled = "html, [data-testid=stApp], [data-testid=stAppViewContainer], [data-testid=stMain]"
    beyond = page.locator(scrolled).evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
    assert len(beyond) == 4
    return max(beyond)
