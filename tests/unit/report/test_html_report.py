"""The pages of a run: all of its lines are there, all links lead to files, and no name gets out of its place."""

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

from segpipe.diagnosis import CODES, MALIGNANT_CODES, known_malignant
from segpipe.errors import OutputError
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap
from segpipe.io.images import Photograph, display_path, write_png
from segpipe.lesion.crop import mask_box
from segpipe.lesion.localizer import Localization, MaskSource
from segpipe.lesion.quality import REASONS, WARNINGS
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.html import write_report
from segpipe.report.overlays import CROPS, HEATMAPS, PHOTOGRAPHS, PICTURES, THUMBNAILS, report_pictures
from segpipe.report.wording import DISCLAIMER, percent
from segpipe.runs.source import result_names
from segpipe.types import Box, RgbImage

HOSTILE_NAMES = [
    "</script><script>alert(1)</script>.jpg",
    "<img src=x onerror=alert(1)>.jpg",
    "a b#c?d=e&f%20g.jpg",
    "quotes \"'`.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "two\nlines\t.jpg",
    "\U0001f9ec 写真.jpg",
    os.fsdecode(b"bytes \xff\xfe.jpg"),
    "scheme:javascript.jpg",
    "back\\slash.jpg",
    "x" * 251 + ".jpg",
]
HOSTILE_CODES = ('"><script>alert(1)</script>', "</script>", "nv", "a\nb", "\udcff", "__proto__")


class Page(HTMLParser):
    """The tags, the links and the text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.source = path, path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def with_tag(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def links(self) -> list[str]:
        return [attributes[key] or "" for _, attributes in self.tags for key in ("href", "src") if key in attributes]

    @property
    def scripts(self) -> list[str]:
        return re.findall(r"<script[^>]*>(.*?)</script>", self.source, flags=re.DOTALL)

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


POINTS = (OperatingPoint("mel", 0.123), OperatingPoint("malignant", 0.234))


def target(page: Path, link: str) -> Path:
    return Path(os.fsdecode(os.fsencode(page.parent) + b"/" + unquote_to_bytes(link)))


def photograph_of(image: RgbImage) -> Photograph:
    return Photograph(image, *image.shape[:2])


def finding(
    height: int = 45, width: int = 60, *, codes: Sequence[str] = CODES, source: MaskSource = MaskSource.UNET, **changes: Any
) -> Finding:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = True
    weights = np.arange(2 * len(codes), len(codes), -1)
    image = np.full((height, width, 3), 200, np.uint8)
    whole = Finding(
        photograph=Photograph(image, height, width),
        localization=Localization(mask, mask_box(mask), source, ()),
        window=Box(height // 8, width // 8, height * 5 // 8 + 1, width * 5 // 8 + 1),
        crop=np.full((32, 32, 3), 120, dtype=np.uint8),
        probabilities=dict(zip(codes, (weights / weights.sum()).tolist(), strict=True)),
        malignant=known_malignant(codes),
        operating_points=POINTS if "mel" in codes else (),
        tta_spread=0.034,
        class_map=ClassMap(np.eye(7, dtype=np.float32), codes[0]),
    )
    return replace(whole, **changes)


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "images": 3,
        "failures": 0,
        "ignored_files": 0,
        "seconds": 1.5,
        "images_per_second": 2.0,
        "settings": {"folder": "photos", "explain": {"method": "gradcam", "diagnosis": None}, "tta": {"views": "d4"}},
        "models": {"segmenter": None, "classifier": "c1a5" * 16},
        "malignant": list(MALIGNANT_CODES),
        "warnings": {},
        "operating_points": [{"target": point.target, "threshold": point.threshold} for point in POINTS],
        "versions": {"python": "3.11.0"},
        "platform": "Linux",
        "notice": "Not a medical device.",
        **changes,
    }


def write(
    output: Path, findings: dict[str, Finding], *, failures: Sequence[tuple[str, str]] = (), **changes: Any
) -> tuple[Page, list[Page]]:
    """Write a report as a run does; returns the page of all images, and that of each in the order of `findings`."""
    names = result_names([Path(name) for name in findings])
    rows = []
    for (relative, name), found in zip(names.items(), findings.values(), strict=True):
        for folder, picture in report_pictures(found).items():
            path = output / folder / name.with_suffix(".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        write_png(output / "masks" / name, found.localization.mask)
        rows.append(replace(found, path=display_path(relative), sha256="5ad0" * 16, latency_ms=12.3).to_dict())
    shown = {display_path(relative): name for relative, name in names.items()}
    report = write_report(output, rows, shown, failures, summary(**changes))
    assert report == output / "report.html"
    page = Page(report)
    return page, [Page(target(report, row["page"])) for row in page.data["rows"]]


def decoded(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        return np.asarray(image)


def test_every_line_of_the_run_is_in_the_data_of_the_table(tmp_path: Path) -> None:
    sources = dict(zip(("a.jpg", "sub/b.png", "sub/c.png"), MaskSource, strict=True))
    report, _ = write(tmp_path, {name: finding(source=source) for name, source in sources.items()})
    rows = report.data["rows"]
    assert {row["path"]: row["source"] for row in rows} == sources
    confidence = finding().confidence
    p_malignant = [pytest.approx(finding().p_malignant), percent(finding().p_malignant)]
    for row in rows:
        assert (row["diagnosis"], row["suspicious"], row["heatmap"]) == ("mel", True, True)
        assert [words.startswith("suspicious for") for words in row["suspicion"]] == [True, True]
        assert row["confidence"] == [pytest.approx(confidence), percent(confidence)]
        assert (row["malignant"], row["spread"]) == (p_malignant, [0.034, "3.4 %"])


@pytest.mark.parametrize("codes", [CODES, HOSTILE_CODES])
def test_no_name_gets_out_of_its_place_and_every_link_leads_to_a_file(tmp_path: Path, codes: tuple[str, ...]) -> None:
    names = [*HOSTILE_NAMES, *(f"<u>&amp;/{name}" for name in HOSTILE_NAMES)]
    report, pages = write(tmp_path, {name: finding(codes=codes) for name in names}, failures=[("<i>.jpg", "<i>\udcff")])
    for page in (report, *pages):
        assert not {"u", "i"} & {tag for tag, _ in page.tags}
        assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
        for link in page.links:
            assert target(page.path, link).is_file(), link
    assert [len(page.with_tag("script")) for page in (report, *pages)] == [2] + [0] * len(pages)
    assert [row["path"] for row in report.data["rows"]] == [display_path(Path(name)) for name in names]
    for row, page in zip(report.data["rows"], pages, strict=True):
        assert row["path"] in page.text
        for folder in report.data["folders"].values():
            assert target(report.path, f"{folder}/{row['picture']}").is_file()


def test_nothing_is_asked_for_outside_the_folder_and_no_other_script_may_run(tmp_path: Path) -> None:
    report, pages = write(tmp_path, {"a.jpg": finding(), "sub/b.jpg": finding()})
    for page in (report, *pages):
        assert not re.search(r"https?:|url\(|@import|\ssrc(set)?=\W*//", page.source)
        assert not any(":" in link or link.startswith("/") for link in page.links)
        assert not page.with_tag("link")
    policies = [page.with_tag("meta")[1]["content"] or "" for page in (report, *pages)]
    assert all(policy.startswith("default-src 'none'; img-src 'self' file:;") for policy in policies)
    digest = base64.b64encode(hashlib.sha256(report.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policies[0]
    assert not any("script-src" in policy for policy in policies[1:])


def test_the_page_of_an_image_says_all_that_is_known_of_it(tmp_path: Path) -> None:
    place = replace(finding().localization, source=MaskSource.CONTOUR, reasons=("unet:in_pieces", "unet:unsure"))
    _, (page,) = write(tmp_path, {"sub/a.jpg": finding(localization=place)})
    words = (
        "sub/a.jpg",
        "melanoma (mel)",
        percent(finding().confidence),
        percent(finding().p_malignant),
        "suspicious for melanoma",
        "suspicious for malignancy",
        "3.4 %",
        "12.3 %",
        "23.4 %",
        "crop 31 x 24 px, scaled to a square",
        "16 pixels wide, 12 high",
    )
    hashes = ("5ad0" * 16, "c1a5" * 16)
    reasons = (f"U-Net refused: {REASONS['in_pieces']}", f"U-Net refused: {REASONS['unsure']}", "adaptive threshold contour")
    for text in (*words, *hashes, *reasons, *(percent(prob) for prob in finding().probabilities.values())):
        assert text in page.text, text
    shown = {Path(attributes["src"] or "").parts[-3] for attributes in page.with_tag("img")}
    assert shown == {Path(folder).name for folder in PICTURES} - {"thumbnails"}


def test_the_disclaimer_stands_on_every_page(tmp_path: Path) -> None:
    report, pages = write(tmp_path, {"a.jpg": finding(), "b.jpg": finding()})
    assert all(DISCLAIMER in page.text for page in (report, *pages))


def test_pages_lead_to_their_neighbours_and_back(tmp_path: Path) -> None:
    report, pages = write(tmp_path, {name: finding() for name in ("a.jpg", "sub/b.jpg", "sub/c.jpg")})
    ways = {"prev": [None, pages[0].path, pages[1].path], "next": [pages[1].path, pages[2].path, None]}
    for number, page in enumerate(pages):
        links = page.with_tag("a")
        assert target(page.path, links[0]["href"] or "").resolve() == report.path.resolve()
        for way, expected in ways.items():
            found = [target(page.path, link["href"] or "").resolve() for link in links if link.get("rel") == way]
            assert found == ([] if expected[number] is None else [expected[number].resolve()])


def test_a_heatmap_that_was_not_made_is_left_out(tmp_path: Path) -> None:
    report, (with_it, without_it) = write(tmp_path, {"a.jpg": finding(), "b.jpg": finding(class_map=None)})
    assert [row["heatmap"] for row in report.data["rows"]] == [True, False]
    assert (len(with_it.with_tag("img")), len(without_it.with_tag("img"))) == (3, 2)
    assert "Heatmap: melanoma" in with_it.text and "Heatmap" not in without_it.text


def columns(report: Page) -> list[str | None]:
    return [header["data-key"] for header in report.with_tag("th")]


def test_columns_and_filters_that_would_be_empty_are_left_out(tmp_path: Path) -> None:
    bare = finding(malignant=(), operating_points=(), tta_spread=None, class_map=None)
    report, _ = write(tmp_path / "bare", {"a.jpg": bare}, malignant=[], operating_points=[])
    assert columns(report) == ["thumbnail", "path", "diagnosis", "confidence", "suspicion", "source"]
    assert report.data["rows"][0]["suspicious"] is False
    assert "suspicious" not in {field.get("name") for field in report.with_tag("input")}
    report, _ = write(tmp_path / "full", {"a.jpg": finding()})
    assert {"malignant", "suspicion", "spread", "heatmap"} <= set(columns(report))
    assert "suspicious" in {field.get("name") for field in report.with_tag("input")}


def test_the_classes_are_those_of_the_rows(tmp_path: Path) -> None:
    report, (page,) = write(tmp_path, {"a.jpg": finding(codes=("benign", "mel"))})
    assert [(item["code"], item["count"]) for item in report.data["classes"]] == [("benign", 1), ("mel", 0)]
    assert [item["malignant"] for item in report.data["classes"]] == [False, True]
    assert "nevus" not in report.text + page.text


def test_a_run_without_results_has_a_report_of_its_failures(tmp_path: Path) -> None:
    report, pages = write(tmp_path, {}, failures=[("b.jpg", "an empty file"), ("a.jpg", "no image")], images=0)
    assert (report.data["rows"], pages) == ([], [])
    assert "a.jpg: no image" in report.text and "b.jpg: an empty file" in report.text and DISCLAIMER in report.text


def test_the_head_says_how_the_run_was_made(tmp_path: Path) -> None:
    report, _ = write(tmp_path, {"a.jpg": finding()})
    for words in (
        "1 image",
        "photos",
        "2.0 images per second",
        "d4",
        "gradcam",
        "melanoma (mel) from a probability of 12.3 %",
        "c1a5c1a5c1a5",
        "3.11.0",
    ):
        assert words in report.text
    assert f"SHA-256 {'c1a5' * 16}" in {tag.get("title") for tag in report.with_tag("code")}


def test_all_models_are_named_and_where_there_is_none_the_pages_say_so(tmp_path: Path) -> None:
    models = {"segmenter": None, "classifier": ["c1a5" * 16, "beef" * 16]}
    report, (page,) = write(tmp_path, {"a.jpg": finding()}, models=models)
    assert "Segmenternone\nClassifierc1a5c1a5c1a5, beefbeefbeef" in report.text
    assert "Segmenter, SHA-256none" in page.text
    assert [code.get("title") for code in report.with_tag("code")][:2] == [f"SHA-256 {model}" for model in models["classifier"]]
    assert "c1a5" * 16 + "beef" * 16 in page.text


def test_a_program_without_settings_or_operating_point_gets_its_report(tmp_path: Path) -> None:
    _, (page,) = write(tmp_path, {"a.jpg": finding()}, settings=None, operating_points=[])
    assert "Heatmap" in page.text and "Heatmap: " not in page.text


def test_the_heatmap_is_named_after_the_class_that_was_asked_for(tmp_path: Path) -> None:
    settings = {"explain": {"method": "gradcam", "diagnosis": "nv"}}
    _, (page,) = write(tmp_path, {"a.jpg": finding()}, settings=settings)
    assert "Heatmap: melanocytic nevus (nv)" in page.text


def test_a_page_that_cannot_be_written_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "pages").write_text("in the way")
    with pytest.raises(OutputError, match=r"a\.html: cannot be written"):
        write(tmp_path, {"a.jpg": finding()})
    assert not (tmp_path / "report.html").exists() and not list(tmp_path.rglob("*.part"))


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": finding(), "b.jpg": finding()})
    report, _ = write(tmp_path, {"a.jpg": finding(tta_spread=0.5)})
    assert [row["spread"] for row in report.data["rows"]] == [[0.5, "50.0 %"]]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("size", "photograph", "thumbnail"),
    [
        ((450, 600), (450, 600), (120, 160)),
        ((1200, 1600), (600, 800), (120, 160)),
        ((1600, 1200), (800, 600), (160, 120)),
        ((60, 80), (60, 80), (60, 80)),
        ((1, 5000), (1, 800), (1, 160)),
        ((5000, 1), (800, 1), (160, 1)),
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_pictures_are_reduced_and_never_enlarged(
    size: tuple[int, int], photograph: tuple[int, int], thumbnail: tuple[int, int]
) -> None:
    pictures = report_pictures(finding(*size))
    assert set(pictures) == set(PICTURES)
    shapes = {folder: decoded(picture).shape[:2] for folder, picture in pictures.items()}
    assert shapes == {PHOTOGRAPHS: photograph, HEATMAPS: photograph, THUMBNAILS: thumbnail, CROPS: (32, 32)}


def test_no_picture_is_made_of_a_heatmap_that_is_not_there() -> None:
    assert HEATMAPS not in report_pictures(finding(class_map=None))


def test_the_outline_lies_on_the_border_of_the_mask_and_a_whole_image_has_none() -> None:
    found = finding(90, 120, photograph=photograph_of(np.full((90, 120, 3), 128, np.uint8)), class_map=None)
    changed = np.abs(decoded(report_pictures(found)[THUMBNAILS]).astype(int) - 128).max(axis=2) > 60
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    box = found.localization.box
    assert abs(rows - [[box.top], [box.bottom - 1]]).min(axis=1).max() <= 1 and abs(columns[0] - box.left) <= 3
    assert not changed[50 - 15 : 50 - 8, 40:50].any()
    whole = np.ones((90, 120), dtype=np.bool_)
    place = Localization(whole, mask_box(whole), MaskSource.WHOLE_IMAGE, ())
    plain = decoded(report_pictures(replace(found, localization=place))[THUMBNAILS])
    assert np.abs(plain.astype(int) - 128).max() <= 2


def test_the_heatmap_lies_on_its_crop_box_and_shows_the_photograph_where_it_is_0() -> None:
    found = finding(90, 120, photograph=photograph_of(np.full((90, 120, 3), 128, np.uint8)))
    values = np.zeros((7, 7), np.float32)
    values[3, 3] = 1
    whole = np.ones((90, 120), dtype=np.bool_)
    place = Localization(whole, mask_box(whole), MaskSource.WHOLE_IMAGE, ())
    picture = decoded(report_pictures(replace(found, localization=place, class_map=ClassMap(values, "mel")))[HEATMAPS])
    changed = np.abs(picture.astype(int) - 128).max(axis=2) > 20
    box = found.crop_box
    centre = np.argwhere(changed).mean(axis=0)
    assert np.abs(centre - [(box.top + box.bottom) / 2, (box.left + box.right) / 2]).max() < 2
    inside = np.zeros_like(changed)
    inside[box.top : box.bottom, box.left : box.right] = True
    assert changed.any() and not (changed & ~inside).any()


def test_a_photograph_and_its_mask_stay_as_they_were() -> None:
    found = finding()
    mask, crop = found.localization.mask.copy(), found.crop.copy()
    report_pictures(found)
    assert (
        (found.photograph.image == 200).all()
        and np.array_equal(mask, found.localization.mask)
        and np.array_equal(crop, found.crop)
    )


def test_threads_draw_what_one_draws() -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8) for seed in range(8)]
    findings = [finding(90, 120, photograph=photograph_of(image)) for image in images]
    alone = [report_pictures(found) for found in findings]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(report_pictures, findings)) == alone


def test_what_cannot_be_relied_on_is_marked_in_the_table_and_on_the_page(tmp_path: Path) -> None:
    place = replace(finding().localization, source=MaskSource.WHOLE_IMAGE, reasons=("unet:too_small",), uniform=True)
    changes = {"warnings": {"uniform_image": 1, "no_lesion_found": 1}}
    report, (sure, unsure) = write(tmp_path, {"a.jpg": finding(), "b.jpg": finding(localization=place)}, **changes)
    assert [row["unsure"] for row in report.data["rows"]] == ["", "uniform image, no lesion found"]
    assert "uniform image: 1, no lesion found: 1" in report.text
    assert "unsure" in {field.get("name") for field in report.with_tag("input")}
    assert all(sentence in unsure.text and sentence not in sure.text for sentence in WARNINGS.values())


def test_a_malignant_diagnosis_is_marked_also_where_no_point_is_reached(tmp_path: Path) -> None:
    points = (OperatingPoint("mel", 1.0),)
    changes = {"operating_points": [{"target": "mel", "threshold": 1.0}]}
    report, (page,) = write(tmp_path, {"a.jpg": finding(operating_points=points)}, **changes)
    (row,) = report.data["rows"]
    assert row["suspicious"] is True and row["suspicion"][0].startswith("suspicious")
    assert "suspicious: " in page.text
