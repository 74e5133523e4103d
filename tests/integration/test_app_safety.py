"""Safety of the web page: metadata, file names, other visitors, bad files and memory."""

import io
import re
import resource
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pypdfium2
import pytest
from app_server import (
    DATA,
    FIGURE,
    REPORT,
    ROOT,
    SAMPLES,
    Server,
    Visit,
    command,
    download,
    errors,
    horizontal_overflow,
    listed,
    open_finding,
    pictures,
    plain_lines,
    predictions,
    remove_upload,
    serve,
    upload,
    visits,
)
from PIL import ExifTags, Image

from segpipe.app.main import CLEANUP_SECONDS
from segpipe.data.synthetic.photo import make_image
from segpipe.report.wording import printable
from segpipe.types import RgbImage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]").expect

MARKER = "Erika Mustermann 1964"
NAMES = (
    "![x](https://127.0.0.1:9/x.png) <b>*_$x$.jpg",
    "\"quotes' `code` &amp; :red[text] <img src=http:x.png onerror=alert(1)>.jpg",
    "# \U0001f9ec 写真 {{ name }} ~~a~~ [a](b).jpg",
    "W" * 200 + ".jpg",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the shipped models."""
    with serve(f"bundles={tmp_path_factory.mktemp('none')}") as server:
        yield server


def png(height: int, width: int) -> bytes:
    """Small PNG file whose header announces many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def jpeg_with_metadata(image: RgbImage) -> bytes:
    """JPEG file with location and owner in all fields for them."""
    exif = Image.Exif()
    for tag in (ExifTags.Base.ImageDescription, ExifTags.Base.Artist, ExifTags.Base.Copyright):
        exif[tag] = MARKER
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 8.0, 14.0)
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = MARKER
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", exif=exif, comment=MARKER, quality=95)
    return file.getvalue()


def payload(name: str, content: bytes) -> dict[str, Any]:
    """File from memory in the format of Playwright."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def shown(name: str) -> str:
    """File name on the page; browsers encode double quotes."""
    return printable(name.replace('"', "%22"))


def with_decompressed_streams(pdf: bytes) -> bytes:
    """PDF followed by the content of its compressed streams."""
    streams = re.findall(rb"/FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    assert streams
    return b"".join([pdf, *(zlib.decompressobj().decompress(stream) for stream in streams)])


def test_downloads_and_pictures_contain_no_camera_metadata(page: "Page") -> None:
    rng = np.random.default_rng(0)
    uploads = [jpeg_with_metadata(make_image(code, rng, (150, 200))[0]) for code in ("mel", "nv")]
    assert all(content.count(MARKER.encode()) == 5 and b"Exif\0\0" in content for content in uploads)
    assert Image.open(io.BytesIO(uploads[0])).getexif().get_ifd(ExifTags.IFD.GPSInfo)
    upload(page, payload("a.jpg", uploads[0]), payload("b.jpg", uploads[1]))
    assert sorted(listed(page)) == ["a.jpg", "b.jpg"]
    table, thumbnails = download(page, "Table (CSV)"), list(pictures(page).values())
    open_finding(page, "a.jpg")
    report, figure = download(page, REPORT), download(page, FIGURE)
    displayed = [*thumbnails, *pictures(page).values()]
    assert len(displayed) == 2 + 6
    for content in (with_decompressed_streams(report), figure, download(page, DATA), table, *displayed):
        assert content and not re.search(rb"Exif\0\0|eXIf|iTXt|zTXt|GPS|" + MARKER.encode(), content)
    for content in (figure, *displayed):
        opened = Image.open(io.BytesIO(content))
        assert not opened.getexif() and MARKER not in str(opened.info)
    assert MARKER not in str(pypdfium2.PdfDocument(report).get_metadata_dict())
    assert MARKER not in page.content()


def test_bad_files_are_one_line_each_and_others_are_analyzed(page: "Page", tmp_path: Path) -> None:
    good, large = SAMPLES[0], tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(200 * 1000 * 1000)
    bad = {
        "cut.jpg": (good.read_bytes()[:20_000], "truncated"),
        "letter.jpg": (b"%PDF-1.7\n" * 100, "not an image"),
        "bomb.png": (png(60_000, 60_000), "60000 x 60000 = 3600000000 pixels"),
        "above.png": (png(7143, 7143), "max_pixels=50000000"),
        "none.jpg": (b"", ""),
    }
    upload(page, *(payload(name, content) for name, (content, _) in bad.items()))
    for line, (name, (_, reason)) in zip(errors(page, len(bad)), bad.items(), strict=True):
        assert line.startswith(f"{name}: ") and reason in line
    assert page.locator(".prediction").count() == 0
    for _ in bad:
        remove_upload(page)
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
    upload(page, large)
    # Streamlit's own message in the list of files.
    (line,) = errors(page, 1)
    assert line == "Error: File must be 20.0MB or smaller."
    expect(page.get_by_test_id("stFileChip")).to_contain_text("large.jpg")
    upload(page, good)
    assert len(predictions(page)) == 1 and len(errors(page, 1)) == 1


def test_file_names_are_escaped_in_errors(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844})
    upload(page, *(payload(name, b"no picture") for name in NAMES))
    for line, name in zip(errors(page, len(NAMES)), NAMES, strict=True):
        assert line.startswith(f"{shown(name)}: not an image")
    alerts = page.get_by_test_id("stAlert")
    assert alerts.locator("img, a, b, code, em, del, .katex").count() == 0
    assert horizontal_overflow(page) == 0


def test_file_names_are_unchanged_in_list_and_downloads(page: "Page") -> None:
    upload(page, *(payload(name, SAMPLES[0].read_bytes()) for name in NAMES))
    assert sorted(listed(page)) == sorted(shown(name) for name in NAMES)
    table = download(page, "Table (CSV)").decode()
    assert all(shown(name) in table for name in NAMES)
    assert horizontal_overflow(page) == 0
    open_finding(page, shown(NAMES[0]))
    expect(page.locator(".filename")).to_have_text(shown(NAMES[0]))
    text = pypdfium2.PdfDocument(download(page, REPORT))[0].get_textpage().get_text_bounded()
    assert shown(NAMES[0]) in text
    assert horizontal_overflow(page) == 0


def test_visitors_see_only_their_own_images(visit: Visit) -> None:
    pages, samples = (visit(), visit()), (SAMPLES[4], SAMPLES[5])
    for page, sample in zip(pages, samples, strict=True):
        upload(page, sample)
    found = [predictions(page) for page in pages]
    assert found[0] != found[1] and len(found[0]) == len(found[1]) == 1
    assert not set(pictures(pages[0])) & set(pictures(pages[1]))
    for page, own, other in zip(pages, samples, reversed(samples), strict=True):
        assert own.name in page.content() and other.name not in page.content()
        assert own.name in download(page, DATA).decode()


def test_uploads_are_never_written_to_disk(page: "Page", server: Server) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    assert 3_000_000 < file.tell() < 5_000_000
    upload(page, SAMPLES[0])
    predictions(page)
    assert download(page, REPORT) and download(page, DATA)
    remove_upload(page)
    expect(page.locator(".prediction")).to_have_count(0)
    # From here on, any write to a file fails and ends the server.
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        upload(page, payload("noise.png", file.getvalue()))
        assert "confidence" in predictions(page)[0]
        assert download(page, REPORT).startswith(b"%PDF") and b"noise.png" in download(page, DATA)
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)


def test_images_of_the_last_visitor_are_removed(browser: "Browser", tmp_path: Path) -> None:
    with serve(f"bundles={tmp_path}", flags=["--server.disconnectedSessionTTL=1"]) as server:
        with visits(browser, server) as visit:
            page = visit()
            upload(page, *SAMPLES[:2])
            open_finding(page, listed(page)[0])
            assert download(page, REPORT)
            assert server.image_bytes > sum(path.stat().st_size for path in SAMPLES[:2])
        end = time.monotonic() + 3 * CLEANUP_SECONDS
        while server.image_bytes and time.monotonic() < end:
            time.sleep(0.5)
        assert server.image_bytes == 0


def test_used_port_is_a_one_line_error(server: Server) -> None:
    second = subprocess.run(command(server.port), cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert second.returncode == 1, second
    (line,) = plain_lines(second.stderr)
    assert second.returncode == 1 and str(server.port) in line


def test_wrong_argument_is_one_line_on_the_page(browser: "Browser") -> None:
    with serve("bundels=x") as server, visits(browser, server) as visit:
        (line,) = errors(visit(), 1)
        assert "bundels" in line


@pytest.mark.slow
def test_a_hundred_uploads_need_no_more_memory_than_twenty(browser: "Browser", tmp_path: Path) -> None:
    with serve(f"bundles={tmp_path}", "tta=none") as server, visits(browser, server) as visit:
        page, memory = visit(), []
        for number in range(100):
            upload(page, SAMPLES[number % len(SAMPLES)])
            predictions(page)
            memory.append(server.memory_kib)
            remove_upload(page)
            page.locator(".prediction").wait_for(state="detached")
        assert max(memory[20:]) <= 1.05 * max(memory[:20]), memory
