"""HTML report of a run: complete rows, valid links, escaped names."""

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from findings import add_evidence, without_evidence
from PIL import Image

from segpipe.diagnosis import CODES, MALIGNANT_CODES, known_malignant
from segpipe.errors import OutputError
from segpipe.inference.evidence import ADVICE
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap
from segpipe.io.files import display_path
from segpipe.io.images import write_png
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.lesion.quality import REASONS, WARNINGS
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.evidence import KNOWN
from segpipe.report.html_report import write_report
from segpipe.report.overlays import (
    AXES_COLOR,
    CROPS,
    HEATMAPS,
    PHOTOGRAPHS,
    PICTURES,
    SHAPES,
    THUMBNAILS,
    draw_axes,
    make_preview,
    report_pictures,
)
from segpipe.report.truth import NO_TRUTH, ReportTruth
from segpipe.report.wording import DISCLAIMER, percent
from segpipe.runs.results import Row
from segpipe.runs.source import result_names
from segpipe.types import Box, Photograph, RgbImage, mask_box

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
    """Tags, links and text of a page."""

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


def make_photograph(image: RgbImage) -> Photograph:
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
    """Write a report as a run does, and return its overview and the page of each finding."""
    names = result_names([Path(name) for name in findings])
    rows = []
    for (relative, name), found in zip(names.items(), findings.values(), strict=True):
        for folder, picture in report_pictures(found).items():
            path = output / folder / name.with_suffix(".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        write_png(output / "masks" / name, found.localization.mask)
        rows.append(replace(found, path=display_path(relative), sha256="5ad0" * 16, latency_ms=12.3).to_dict())
    return write_rows(output, rows, names, failures=failures, **changes)


def write_rows(
    output: Path,
    rows: Sequence[Row],
    names: Mapping[Path, Path],
    *,
    failures: Sequence[tuple[str, str]] = (),
    training_images: Path | None = None,
    truth: ReportTruth = NO_TRUTH,
    **changes: Any,
) -> tuple[Page, list[Page]]:
    row_names = {display_path(relative): name for relative, name in names.items()}
    report = write_report(output, rows, row_names, failures, summary(**changes), training_images=training_images, truth=truth)
    assert report == output / "report.html"
    page = Page(report)
    return page, [Page(target(report, row["page"])) for row in page.data["rows"]]


def decoded(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        return np.asarray(image)


def test_table_data_contain_every_row_of_the_run(tmp_path: Path) -> None:
    sources = dict(zip(("a.jpg", "sub/b.png", "sub/c.png", "sub/d.png"), MaskSource, strict=True))
    report, _ = write(tmp_path, {name: finding(source=source) for name, source in sources.items()})
    rows = report.data["rows"]
    assert {row["path"]: row["source"] for row in rows} == sources
    confidence = finding().confidence
    p_malignant = [pytest.approx(finding().p_malignant), percent(finding().p_malignant)]
    for row in rows:
        assert (row["diagnosis"], row["suspicious"], row["heatmap"]) == ("mel", True, True)
        assert [phrase.startswith("suspicious for") for phrase in row["suspicion"]] == [True, True]
        assert row["confidence"] == [pytest.approx(confidence), percent(confidence)]
        assert (row["malignant"], row["spread"]) == (p_malignant, [0.034, "3.4 %"])


@pytest.mark.parametrize("codes", [CODES, HOSTILE_CODES])
def test_names_are_escaped_and_links_lead_to_files(tmp_path: Path, codes: tuple[str, ...]) -> None:
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


def test_pages_load_nothing_from_outside_and_allow_no_other_script(tmp_path: Path) -> None:
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


def test_page_of_an_image_contains_all_values(tmp_path: Path) -> None:
    localization = replace(finding().localization, source=MaskSource.CONTOUR, reasons=("unet:in_pieces", "unet:unsure"))
    _, (page,) = write(tmp_path, {"sub/a.jpg": finding(localization=localization)})
    values = (
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
        "16 x 12 px",
    )
    hashes = ("5ad0" * 16, "c1a5" * 16)
    reasons = (f"U-Net rejected: {REASONS['in_pieces']}", f"U-Net rejected: {REASONS['unsure']}", "adaptive-threshold contour")
    for text in (*values, *hashes, *reasons, *(percent(prob) for prob in finding().probabilities.values())):
        assert text in page.text, text
    folders = {Path(attributes["src"] or "").parts[-3] for attributes in page.with_tag("img")}
    assert folders == {Path(folder).name for folder in PICTURES} - {"thumbnails"}


def test_disclaimer_is_on_every_page(tmp_path: Path) -> None:
    report, pages = write(tmp_path, {"a.jpg": finding(), "b.jpg": finding()})
    assert all(DISCLAIMER in page.text for page in (report, *pages))


def test_pages_link_to_their_neighbors_and_the_overview(tmp_path: Path) -> None:
    report, pages = write(tmp_path, {name: finding() for name in ("a.jpg", "sub/b.jpg", "sub/c.jpg")})
    targets = {"prev": [None, pages[0].path, pages[1].path], "next": [pages[1].path, pages[2].path, None]}
    for number, page in enumerate(pages):
        links = page.with_tag("a")
        assert target(page.path, links[0]["href"] or "").resolve() == report.path.resolve()
        for rel, expected in targets.items():
            found = [target(page.path, link["href"] or "").resolve() for link in links if link.get("rel") == rel]
            assert found == ([] if expected[number] is None else [expected[number].resolve()])


def test_missing_heatmap_is_left_out(tmp_path: Path) -> None:
    report, (with_heatmap, without_heatmap) = write(tmp_path, {"a.jpg": finding(), "b.jpg": finding(class_map=None)})
    assert [row["heatmap"] for row in report.data["rows"]] == [True, False]
    assert (len(with_heatmap.with_tag("img")), len(without_heatmap.with_tag("img"))) == (4, 3)
    assert "Heatmap: melanoma" in with_heatmap.text and "Heatmap" not in without_heatmap.text


def columns(report: Page) -> list[str | None]:
    return [header["data-key"] for header in report.with_tag("th")]


def test_empty_columns_and_filters_are_left_out(tmp_path: Path) -> None:
    bare = finding(malignant=(), operating_points=(), tta_spread=None, class_map=None)
    report, _ = write(tmp_path / "bare", {"a.jpg": bare}, malignant=[], operating_points=[])
    assert columns(report) == ["thumbnail", "path", "diagnosis", "confidence", "suspicion", "trust", "source"]
    assert report.data["rows"][0]["suspicious"] is False
    assert "suspicious" not in {field.get("name") for field in report.with_tag("input")}
    report, _ = write(tmp_path / "full", {"a.jpg": finding()})
    assert {"malignant", "suspicion", "spread", "heatmap"} <= set(columns(report))
    assert "suspicious" in {field.get("name") for field in report.with_tag("input")}


def test_classes_are_those_of_the_rows(tmp_path: Path) -> None:
    report, (page,) = write(tmp_path, {"a.jpg": finding(codes=("benign", "mel"))})
    assert [(item["code"], item["count"]) for item in report.data["classes"]] == [("benign", 1), ("mel", 0)]
    assert [item["malignant"] for item in report.data["classes"]] == [False, True]
    assert "nevus" not in report.text + page.text


def test_report_of_a_run_without_results_lists_its_failures(tmp_path: Path) -> None:
    report, pages = write(tmp_path, {}, failures=[("b.jpg", "an empty file"), ("a.jpg", "no image")], images=0)
    assert (report.data["rows"], pages) == ([], [])
    assert "a.jpg: no image" in report.text and "b.jpg: an empty file" in report.text and DISCLAIMER in report.text


def test_overview_contains_settings_and_versions(tmp_path: Path) -> None:
    report, _ = write(tmp_path, {"a.jpg": finding()})
    for text in (
        "1 image",
        "photos",
        "2.0 images per second",
        "8, flips and quarter turns",
        "Grad-CAM",
        "melanoma (mel) from a probability of 12.3 %",
        "c1a5c1a5c1a5",
        "3.11.0",
    ):
        assert text in report.text
    assert f"SHA-256 {'c1a5' * 16}" in {tag.get("title") for tag in report.with_tag("code")}


def test_pages_list_the_hashes_of_all_models_or_none(tmp_path: Path) -> None:
    models = {"segmenter": None, "classifier": ["c1a5" * 16, "beef" * 16]}
    report, (page,) = write(tmp_path, {"a.jpg": finding()}, models=models)
    assert "Segmenternone\nClassifierc1a5c1a5c1a5, beefbeefbeef" in report.text
    assert "Segmenter, SHA-256none" in page.text
    assert [code.get("title") for code in report.with_tag("code")][:2] == [f"SHA-256 {model}" for model in models["classifier"]]
    assert "c1a5" * 16 + "beef" * 16 in page.text


def test_report_needs_no_settings_or_operating_points(tmp_path: Path) -> None:
    _, (page,) = write(tmp_path, {"a.jpg": finding()}, settings=None, operating_points=[])
    assert "Heatmap" in page.text and "Heatmap: " not in page.text


def test_heatmap_title_has_the_explained_class(tmp_path: Path) -> None:
    settings = {"explain": {"method": "gradcam", "diagnosis": "nv"}}
    _, (page,) = write(tmp_path, {"a.jpg": finding()}, settings=settings)
    assert "Heatmap: melanocytic nevus (nv)" in page.text


def test_failed_write_is_an_error_and_leaves_no_files(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "pages").write_text("in the way")
    with pytest.raises(OutputError, match=r"a\.html: cannot be written"):
        write(tmp_path, {"a.jpg": finding()})
    assert not (tmp_path / "report.html").exists() and not list(tmp_path.rglob("*.part"))


def test_second_report_replaces_the_first(tmp_path: Path) -> None:
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
    assert shapes == {PHOTOGRAPHS: photograph, HEATMAPS: photograph, SHAPES: photograph, THUMBNAILS: thumbnail, CROPS: (32, 32)}


def test_missing_heatmap_has_no_picture() -> None:
    assert HEATMAPS not in report_pictures(finding(class_map=None))


def test_outline_is_on_the_border_of_the_mask_and_missing_for_a_whole_image() -> None:
    found = finding(90, 120, photograph=make_photograph(np.full((90, 120, 3), 128, np.uint8)), class_map=None)
    changed = np.abs(decoded(report_pictures(found)[THUMBNAILS]).astype(int) - 128).max(axis=2) > 60
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    box = found.localization.box
    assert abs(rows - [[box.top], [box.bottom - 1]]).min(axis=1).max() <= 1 and abs(columns[0] - box.left) <= 3
    assert not changed[50 - 15 : 50 - 8, 40:50].any()
    whole = np.ones((90, 120), dtype=np.bool_)
    localization = Localization(whole, mask_box(whole), MaskSource.WHOLE_IMAGE, ())
    plain = decoded(report_pictures(replace(found, localization=localization))[THUMBNAILS])
    assert np.abs(plain.astype(int) - 128).max() <= 2


def test_heatmap_is_inside_the_crop_box_and_transparent_at_0() -> None:
    found = finding(90, 120, photograph=make_photograph(np.full((90, 120, 3), 128, np.uint8)))
    values = np.zeros((7, 7), np.float32)
    values[3, 3] = 1
    whole = np.ones((90, 120), dtype=np.bool_)
    localization = Localization(whole, mask_box(whole), MaskSource.WHOLE_IMAGE, ())
    picture = decoded(report_pictures(replace(found, localization=localization, class_map=ClassMap(values, "mel")))[HEATMAPS])
    changed = np.abs(picture.astype(int) - 128).max(axis=2) > 20
    box = found.crop_box
    center = np.argwhere(changed).mean(axis=0)
    assert np.abs(center - [(box.top + box.bottom) / 2, (box.left + box.right) / 2]).max() < 2
    inside = np.zeros_like(changed)
    inside[box.top : box.bottom, box.left : box.right] = True
    assert changed.any() and not (changed & ~inside).any()


def test_drawing_leaves_the_finding_unchanged() -> None:
    found = finding()
    mask, crop = found.localization.mask.copy(), found.crop.copy()
    report_pictures(found)
    assert (
        (found.photograph.image == 200).all()
        and np.array_equal(mask, found.localization.mask)
        and np.array_equal(crop, found.crop)
    )


def test_drawing_is_thread_safe() -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8) for seed in range(8)]
    findings = [finding(90, 120, photograph=make_photograph(image)) for image in images]
    sequential = [report_pictures(found) for found in findings]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(report_pictures, findings)) == sequential


def test_warnings_are_shown_in_the_table_and_on_the_page(tmp_path: Path) -> None:
    localization = replace(finding().localization, source=MaskSource.WHOLE_IMAGE, reasons=("unet:too_small",), uniform=True)
    changes = {"warnings": {"uniform_image": 1, "no_lesion_found": 1}}
    report, (reliable, unsure) = write(tmp_path, {"a.jpg": finding(), "b.jpg": finding(localization=localization)}, **changes)
    assert [row["unsure"] for row in report.data["rows"]] == ["", "uniform image, no lesion found"]
    assert "uniform image: 1, no lesion found: 1" in report.text
    assert "unsure" in {field.get("name") for field in report.with_tag("input")}
    assert all(sentence in unsure.text and sentence not in reliable.text for sentence in WARNINGS.values())


def test_malignant_diagnosis_is_suspicious_below_all_thresholds(tmp_path: Path) -> None:
    points = (OperatingPoint("mel", 1.0),)
    changes = {"operating_points": [{"target": "mel", "threshold": 1.0}]}
    report, (page,) = write(tmp_path, {"a.jpg": finding(operating_points=points)}, **changes)
    (row,) = report.data["rows"]
    assert row["suspicious"] is True and row["suspicion"][0].startswith("suspicious")
    assert "suspicious: " in page.text


def test_evidence_is_on_the_page_and_trust_in_the_table(tmp_path: Path) -> None:
    reliable = add_evidence(finding(), agreeing=8, possible=1)
    doubtful, refused = add_evidence(finding()), add_evidence(finding(), gate=("out_of_focus",))
    findings = {"a.jpg": reliable, "b.jpg": doubtful, "c.jpg": refused}
    report, pages = write(tmp_path, findings, run={"coverage": 0.9})
    assert [row["trust"][:2] for row in report.data["rows"]] == [[0, "green"], [1, "amber"], [2, "red"]]
    for page, color in zip(pages, ("green", "amber", "red"), strict=True):
        assert f"How far to trust this: {color}" in page.text and "ISIC_0" in page.text
    for text in ("melanoma or melanocytic nevus", "90 %", "3 of 8 similar cases", "Numbers of the lesion"):
        assert text in pages[1].text, text
    assert ADVICE["out_of_focus"] in pages[2].text and ADVICE["out_of_focus"] not in pages[1].text
    assert "was in the training data" not in pages[1].text


def test_training_image_is_named_as_such(tmp_path: Path) -> None:
    _, pages = write(tmp_path, {"ISIC_3.jpg": add_evidence(finding()), "other.jpg": add_evidence(finding())})
    assert [KNOWN in page.text for page in pages] == [True, False]


def test_row_of_an_older_version_says_nothing_about_trust(tmp_path: Path) -> None:
    rows = [
        without_evidence(replace(add_evidence(finding()), path=name, sha256="5ad0" * 16).to_dict()) for name in ("a.jpg", "b.jpg")
    ]
    report, pages = write_rows(tmp_path, rows, result_names([Path("a.jpg"), Path("b.jpg")]))
    assert "trust" not in columns(report)
    for page in pages:
        assert "melanoma (mel)" in page.text
        assert not re.search("How far to trust|Similar cases|Numbers of the lesion|Prediction set", page.text)


def test_axes_are_drawn_through_the_center_of_the_lesion() -> None:
    height, width = 300, 400
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[100:160, 100:301] = True
    image = np.full((height, width, 3), 90, np.uint8)
    found = finding(height, width, photograph=Photograph(image, 2 * height, 2 * width), window=Box(0, 0, height, width))
    found = replace(found, localization=Localization(mask, mask_box(mask), MaskSource.UNET, ()))
    preview = make_preview(found, max_side=width // 2)
    yellow = np.abs(draw_axes(preview, found).astype(int) - AXES_COLOR).max(axis=2) < 30
    rows, across = np.flatnonzero(yellow[:, 75]), np.flatnonzero(yellow[60])
    assert np.abs(rows - 129.5 / 2).max() <= 2 and len(rows) >= 2
    assert np.abs(across - 200 / 2).max() <= 2 and len(across) >= 2
    assert not yellow[:48].any() and not yellow[:, 153:].any()


def test_similar_cases_have_pictures_where_the_training_images_are(tmp_path: Path) -> None:
    photographs = tmp_path / "training" / "part_1"
    photographs.mkdir(parents=True)
    for name in ("ISIC_0.jpg", "ISIC_1.png", "other.jpg"):
        Image.fromarray(np.full((300, 400, 3), 90, np.uint8)).save(photographs / name)
    (photographs / "ISIC_2.jpg").write_bytes(b"no image")
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(photographs / "ISIC_3_segmentation.png")
    found = {name: add_evidence(finding()) for name in ("a.jpg", "sub/b.jpg")}
    _, pages = write(tmp_path / "out", found, training_images=tmp_path / "training")
    for page in pages:
        shown = [image["src"] or "" for image in page.with_tag("img") if "similar" in (image["src"] or "")]
        assert [Path(link).name for link in shown] == ["ISIC_0.jpg", "ISIC_1.jpg"]
        assert all(decoded(target(page.path, link).read_bytes()).shape == (120, 160, 3) for link in shown)
        assert "ISIC_2" in page.text
    assert len(list((tmp_path / "out" / "report" / "similar").iterdir())) == 2


def test_similar_case_is_never_written_outside_the_report(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / "training" / "a.jpg")
    row = replace(add_evidence(finding()), path="b.jpg", sha256="5ad0" * 16).to_dict() | {
        "similar": "../../../a:nv:0.1;/a:nv:0.2"
    }
    write_rows(tmp_path / "out", [row], result_names([Path("b.jpg")]), training_images=tmp_path / "training")
    assert not list(tmp_path.rglob("a.jpg.part")) and [path.parent.name for path in tmp_path.rglob("a.jpg")] == ["training"]


SCREENED = ("nv", "bkl", "mel")


def screened(nv: float, bkl: float, mel: float, **changes: Any) -> Finding:
    """Finding of three classes, of which melanoma is flagged from a probability of 0.2."""
    points = (OperatingPoint("mel", 0.2),)
    return finding(codes=SCREENED, probabilities={"nv": nv, "bkl": bkl, "mel": mel}, **{"operating_points": points, **changes})


# Predicted and true diagnosis of each image; the last one is missed.
SCREENING = {
    "found.jpg": (screened(0.1, 0.2, 0.7), "mel"),
    "flagged.jpg": (screened(0.5, 0.2, 0.3), "mel"),
    "nevus.jpg": (screened(0.9, 0.06, 0.04), "nv"),
    "keratosis.jpg": (screened(0.7, 0.25, 0.05), "bkl"),
    "missed.jpg": (screened(0.8, 0.1, 0.1), "mel"),
    "unknown.jpg": (screened(0.6, 0.2, 0.2), None),
}


def write_screening(output: Path, *, truth: ReportTruth | None = None) -> tuple[Page, dict[str, Page]]:
    diagnoses = {name: code for name, (_, code) in SCREENING.items() if code is not None}
    known = ReportTruth(diagnoses) if truth is None else truth
    changes = {"malignant": ["mel"], "operating_points": [{"target": "mel", "threshold": 0.2}]}
    report, pages = write(output, {name: found for name, (found, _) in SCREENING.items()}, truth=known, **changes)
    return report, {row["path"]: page for row, page in zip(report.data["rows"], pages, strict=True)}


def test_rows_and_pages_say_what_is_right_wrong_and_missed(tmp_path: Path) -> None:
    report, pages = write_screening(tmp_path)
    truths = {row["path"]: row["truth"] for row in report.data["rows"]}
    assert truths == {
        "found.jpg": ["mel", "right", 0],
        "flagged.jpg": ["mel", "wrong", 1],
        "nevus.jpg": ["nv", "right", 0],
        "keratosis.jpg": ["bkl", "wrong", 1],
        "missed.jpg": ["mel", "wrong", 2],
        "unknown.jpg": None,
    }
    for name, page in pages.items():
        assert ("the true diagnosis is" in page.text) is (truths[name] is not None)
        assert ("missed malignant" in page.text) is (name == "missed.jpg")


def test_confusion_matrix_counts_the_labeled_images(tmp_path: Path) -> None:
    report, _ = write_screening(tmp_path)
    cells = {
        (button["data-truth"], button["data-diagnosis"]): (button["aria-label"] or "").rpartition(": ")[2]
        for button in report.with_tag("button")
        if {"data-truth", "data-diagnosis"} <= button.keys()
    }
    expected = {("mel", "mel"): "1", ("mel", "nv"): "2", ("nv", "nv"): "1", ("bkl", "nv"): "1"}
    assert cells == expected
    shown = " ".join(report.text.split())
    assert "2 of 3 (66.7 %)" in shown
    assert "0 of 2 (0.0 %)" in shown and "1 without a true diagnosis" in report.text


def test_images_are_sorted_by_the_probability_of_malignancy(tmp_path: Path) -> None:
    report, pages = write_screening(tmp_path)
    names = [row["path"] for row in report.data["rows"]]
    assert names == ["found.jpg", "flagged.jpg", "unknown.jpg", "missed.jpg", "keratosis.jpg", "nevus.jpg"]
    assert report.data["sort"] == {"key": "malignant", "descending": True}
    (following,) = [link for link in pages["found.jpg"].with_tag("a") if link.get("rel") == "next"]
    assert following["title"] == "flagged.jpg"


def test_report_without_truth_compares_nothing(tmp_path: Path) -> None:
    report, pages = write_screening(tmp_path, truth=NO_TRUTH)
    fields = {field.get("name") for field in report.with_tag("input")}
    assert not {"wrong", "malignant", "missed"} & fields and "suspicious" in fields
    assert not {"truth", "dice"} & set(columns(report))
    assert not any("Compared with the truth" in page.text or "true outline" in page.text for page in (report, *pages.values()))


def test_true_masks_give_dice_and_outline(tmp_path: Path) -> None:
    masks = {}
    for name, (found, _) in SCREENING.items():
        mask = found.localization.mask.copy()
        if name == "missed.jpg":
            mask[: mask.shape[0] // 2] = False
        masks[name] = tmp_path / "true" / Path(name).with_suffix(".png")
        write_png(masks[name], mask)
    report, pages = write_screening(tmp_path / "out", truth=ReportTruth(masks=masks))
    dices = {row["path"]: row["dice"][0] for row in report.data["rows"]}
    assert 0 < dices.pop("missed.jpg") < 0.5 and set(dices.values()) == {1.0}
    assert "dice" in columns(report) and "truth" not in columns(report)
    page = pages["found.jpg"]
    assert "1.000" in page.text
    (outline, _) = page.with_tag("path")
    height, width = SCREENING["found.jpg"][0].localization.mask.shape
    assert page.with_tag("svg")[0]["viewbox"] == f"0 0 {width} {height}"
    corners = [tuple(map(float, point.split(","))) for point in re.findall(r"[\d.]+,[\d.]+", outline["d"] or "")]
    box = SCREENING["found.jpg"][0].localization.box
    assert {x for x, _ in corners} == {box.left + 0.5, box.right - 0.5}
    assert {y for _, y in corners} == {box.top + 0.5, box.bottom - 0.5}


def test_tiles_have_the_intervals_of_the_metrics(tmp_path: Path) -> None:
    metric = {"value": 0.5, "low": 0.25, "high": 0.75}
    metrics = {"classification": {"metrics": {"balanced_accuracy": metric}}, "left_out": {"unreadable mask": ["x.png"]}}
    report, _ = write_screening(tmp_path, truth=ReportTruth({"found.jpg": "mel"}, {}, metrics))
    shown = report.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "50.0 %" in shown and "25.0 % to 75.0 %" in shown
    assert "1 x unreadable mask" in report.text
    assert "missed" not in {field.get("name") for field in report.with_tag("input")}
