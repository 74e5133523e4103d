"""Python API: kinds of images, iterators, and methods of a finding."""

import io
import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from findings import drawn_finding
from matplotlib import pyplot
from PIL import Image

import segpipe
from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import ImageError, PredictionError
from segpipe.io.images import read_image
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.figure import encode_figure
from segpipe.runs.folder import run_images
from segpipe.runs.local_engine import LocalEngine
from segpipe.runs.options import RunOptions
from segpipe.runs.source import images_of_files

OF_THE_FILE = ("path", "sha256", "latency_ms")
KINDS: dict[str, Callable[[Path], object]] = {
    "str": str,
    "path": lambda path: path,
    "url": lambda path: path.as_uri(),
    "bytes": lambda path: path.read_bytes(),
    "PIL": Image.open,
    "array": read_image,
}


@pytest.fixture(scope="module")
def pipeline(bundles: Path) -> segpipe.Pipeline:
    """Tiny networks; photographs with sides of 576 pixels or more are reduced."""
    return segpipe.load_pipeline(str(bundles / "classifier"), bundles / "segmenter", device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of unusual kinds; `large` ones are reduced on reading."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    small, other = (Image.fromarray(make_image(code, rng, (120, 160))[0]) for code in ("mel", "nv"))
    small.save(folder / "plain.jpg")
    other.save(folder / "other.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    small.save(folder / "turned.jpg", exif=turned)
    see_through = small.convert("RGBA")
    see_through.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))))
    see_through.save(folder / "see_through.png")
    small.convert("L").save(folder / "gray.png")
    small.quantize(64).save(folder / "palette.png")
    small.convert("CMYK").save(folder / "inks.tif")
    large = Image.fromarray(make_image("bcc", rng, (600, 800))[0])
    large.save(folder / "large.jpg", quality=92)
    large.save(folder / "large.png")
    return folder


@pytest.fixture(scope="module")
def lines(pipeline: segpipe.Pipeline, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Lines of results.jsonl of a run over the photographs, by path."""
    output = tmp_path_factory.mktemp("run")
    run_images(pipeline, images_of_files(sorted(photos.iterdir())), RunOptions(output), LocalEngine(pipeline, 0))
    rows = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    return {row["path"]: {key: row[key] for key in row if key != "run"} for row in rows}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        if key not in OF_THE_FILE:
            assert found[key] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["plain.jpg", "turned.jpg", "see_through.png", "gray.png", "palette.png", "inks.tif"])
def test_every_kind_of_image_has_the_values_of_a_run(
    pipeline: segpipe.Pipeline, photos: Path, lines: dict[str, dict[str, Any]], name: str, kind: str
) -> None:
    source = KINDS[kind](photos / name)
    finding = pipeline.predict(source)  # type: ignore[call-overload]
    found = finding.to_dict()
    assert_equal(found, lines[name])
    has_file = kind in ("str", "path", "url", "bytes")
    assert found["sha256"] == (lines[name]["sha256"] if has_file else None)
    assert found["path"] == {"str": source, "url": source, "path": str(source)}.get(kind)
    assert found["latency_ms"] > 0


@pytest.mark.parametrize(
    ("name", "kind"), [*(("large.jpg", kind) for kind in ("str", "bytes", "url")), *(("large.png", kind) for kind in KINDS)]
)
def test_large_photographs_are_reduced_as_in_a_run(
    pipeline: segpipe.Pipeline, photos: Path, lines: dict[str, dict[str, Any]], name: str, kind: str
) -> None:
    finding = pipeline.predict(KINDS[kind](photos / name))  # type: ignore[call-overload]
    assert finding.photograph.image.shape == (300, 400, 3)
    assert finding.mask.shape == (600, 800)
    assert_equal(finding.to_dict(), lines[name])


@pytest.mark.parametrize("kind", ["PIL", "array"])
def test_large_jpeg_in_memory_is_reduced_by_the_same_factor(
    pipeline: segpipe.Pipeline, photos: Path, lines: dict[str, dict[str, Any]], kind: str
) -> None:
    finding = pipeline.predict(KINDS[kind](photos / "large.jpg"))  # type: ignore[call-overload]
    assert finding.photograph.image.shape == (300, 400, 3)
    for code, probability in finding.probabilities.items():
        assert probability == pytest.approx(lines["large.jpg"][f"p_{code}"], abs=0.05)


def test_finding_has_the_documented_attributes(pipeline: segpipe.Pipeline, photos: Path) -> None:
    finding = pipeline.predict(photos / "large.jpg")
    assert set(finding.probabilities) == set(CODES)
    assert finding.confidence == max(finding.probabilities.values()) == finding.probabilities[finding.diagnosis]
    assert (finding.mask.dtype, finding.mask.shape) == (np.bool_, (600, 800))
    rows, columns = np.nonzero(finding.mask)
    assert finding.box == segpipe.Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert (finding.crop.dtype, finding.crop.shape) == (np.uint8, (96, 96, 3))
    assert finding.mask_source in ("unet", "contour", "whole_image")
    heatmap, box = finding.heatmap, finding.crop_box
    assert heatmap is not None and (heatmap.dtype, heatmap.shape) == (np.float32, (600, 800))
    inside = np.zeros_like(finding.mask)
    inside[box.top : box.bottom, box.left : box.right] = True
    assert 0 < heatmap.max() <= 1 and not heatmap[~inside].any()
    assert finding.heatmap_diagnosis == finding.diagnosis


def test_options_are_those_of_the_command(bundles: Path, photos: Path) -> None:
    models = {"classifier": [bundles / "classifier"], "segmenter": str(bundles / "segmenter")}
    plain = segpipe.load_pipeline(**models, tta="none", explain="none", localize="contour", batch_size=1).predict(
        photos / "plain.jpg"
    )
    assert plain.heatmap is None and plain.heatmap_diagnosis is None and plain.tta_spread is None
    assert plain.mask_source != "unet"
    assert segpipe.load_pipeline(**models, explain_diagnosis="df").predict(photos / "plain.jpg").heatmap_diagnosis == "df"


def test_automatic_precision_is_chosen_by_the_cards(bundles: Path, photos: Path) -> None:
    models = {"classifier": bundles / "classifier", "segmenter": bundles / "segmenter", "tta": "none"}
    found = [segpipe.load_pipeline(**models, precision=name).predict(photos / "plain.jpg") for name in ("auto", "float32")]
    assert found[0].probabilities == found[1].probabilities


# Many images


def test_list_gives_a_list_and_iterator_an_iterator(pipeline: segpipe.Pipeline, photos: Path) -> None:
    names = ["plain.jpg", "other.png", "gray.png"]
    alone = [pipeline.predict(photos / name) for name in names]
    mixed = [str(photos / names[0]), Image.open(photos / names[1]), (photos / names[2]).read_bytes()]
    for together in (pipeline.predict(mixed), pipeline.predict(tuple(mixed)), list(pipeline.predict(iter(mixed)))):
        assert isinstance(together, list)
        for one, other in zip(together, alone, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert pipeline.predict([]) == []
    assert list(pipeline.predict(iter([]))) == []
    assert len(list(pipeline.predict(photos.glob("*.jpg")))) == 3


def test_iterator_is_read_one_batch_at_a_time(bundles: Path, photos: Path) -> None:
    pipeline = segpipe.load_pipeline(
        bundles / "classifier", localize="whole_image", tta="none", explain="none", batch_size=2, device="cpu"
    )
    read: list[int] = []

    def images() -> Iterator[Path]:
        for number in range(7):
            read.append(number)
            yield photos / "plain.jpg"

    findings = pipeline.predict(images())
    assert read == []
    next(findings)
    assert read == [0, 1]
    assert len(list(findings)) == 6


def test_failing_image_is_named_after_the_findings_before_it(pipeline: segpipe.Pipeline, photos: Path) -> None:
    bad = photos.parent / "notes.txt"
    bad.write_text("no image")
    findings = pipeline.predict(iter([photos / "plain.jpg", photos / "other.png", bad, photos / "gray.png"]))
    assert [next(findings).name, next(findings).name] == ["plain.jpg", "other.png"]
    with pytest.raises(ImageError, match=r"^item 2: .*notes\.txt: not an image"):
        next(findings)
    assert list(findings) == []
    with pytest.raises(ImageError, match=r"^item 1: .*notes\.txt"):
        pipeline.predict([photos / "plain.jpg", bad])


def test_error_of_the_iterator_follows_the_findings_before_it(pipeline: segpipe.Pipeline, photos: Path) -> None:
    def images() -> Iterator[Path]:
        yield photos / "plain.jpg"
        raise KeyError("of the caller")

    findings = pipeline.predict(images())
    assert next(findings).name == "plain.jpg"
    with pytest.raises(KeyError, match="of the caller"):
        next(findings)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [(PredictionError("not finite"), PredictionError, "not finite"), (MemoryError(), ImageError, "memory")],
)
def test_image_without_a_prediction_is_named(
    pipeline: segpipe.Pipeline, photos: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], words: str
) -> None:
    gray = read_image(photos / "gray.png")

    def find(self: segpipe.Pipeline, images: list[np.ndarray], **options: Any) -> list[segpipe.Finding]:
        if any(np.array_equal(image, gray) for image in images):
            raise error
        return [drawn_finding(*image.shape[:2]) for image in images]

    monkeypatch.setattr(segpipe.Pipeline, "__call__", find)
    findings = pipeline.predict(iter([photos / "plain.jpg", photos / "gray.png"]))
    assert next(findings).name == "plain.jpg"
    with pytest.raises(kind, match=rf"^item 1: .*gray\.png: .*{words}"):
        next(findings)


def test_images_of_the_caller_are_not_changed(pipeline: segpipe.Pipeline, photos: Path) -> None:
    array = read_image(photos / "plain.jpg")
    with Image.open(photos / "turned.jpg") as picture:
        before = picture.size, array.copy()
        finding = pipeline.predict(array)
        pipeline.predict(picture)
        assert picture.size == before[0] and np.array_equal(array, before[1])
    array[:] = 0
    assert finding.photograph.image.any()


# Methods of a finding


def test_finding_is_described_in_one_short_line(pipeline: segpipe.Pipeline, photos: Path) -> None:
    assert re.fullmatch(
        r"Finding\(plain\.jpg: \w+ [01]\.\d\d(, .*)?, mask by \w+\)", repr(pipeline.predict(photos / "plain.jpg"))
    )
    suspicious = replace(drawn_finding(60, 80), path="runs/photo.jpg", operating_points=(OperatingPoint("mel", 0.0),))
    assert repr(suspicious) == "Finding(photo.jpg: mel 0.18, suspicious for melanoma, mask by unet)"


@pytest.mark.parametrize("path", [None, "", "/", "a\nb.jpg", "x" * 300 + ".jpg", "https://a.b/c?d=" + "e" * 300, "\udcff.jpg"])
@pytest.mark.parametrize("codes", [CODES, ("W" * 90, "a\nb"), ("nv", "mel")])
def test_description_is_one_line_of_at_most_120_characters(path: str | None, codes: tuple[str, ...]) -> None:
    points = tuple(OperatingPoint(code, 0.0) for code in codes)
    text = repr(replace(drawn_finding(60, 80, codes=codes), path=path, operating_points=points))
    assert len(text) <= 120 and text.isprintable() and text.startswith("Finding(")


def test_notebook_shows_pictures_probabilities_and_the_notice(pipeline: segpipe.Pipeline, photos: Path) -> None:
    html = pipeline.predict(photos / "plain.jpg")._repr_html_()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert [Image.open(io.BytesIO(b64decode(picture))).size for picture in pictures] == [
        (160, 120),
        (96, 96),
        (160, 120),
        (160, 120),
    ]
    assert "Not a medical device" in html and "plain.jpg" in html
    assert all(text in html for text in ("How far to trust this: ", "Numbers of the lesion"))
    assert all(f"({code})" in html for code in CODES)
    assert not re.search(r'(src|href)="(?!data:)', html) and "<script" not in html and "@import" not in html


def test_notebook_escapes_text_of_files_and_cards() -> None:
    codes = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')
    html = replace(drawn_finding(60, 80, codes=codes), path="<b>&\"'.jpg")._repr_html_()
    assert "<script" not in html and "<b>&" not in html and "<img src=x" not in html
    assert "&lt;script&gt;" in html


def test_plot_is_the_figure_of_the_report(photos: Path, pipeline: segpipe.Pipeline, tmp_path: Path) -> None:
    finding = pipeline.predict(photos / "plain.jpg")
    figure = finding.plot()
    assert figure.get_figwidth() == 16 and pyplot.get_fignums() == []
    finding.save(tmp_path / "new" / "finding.png")
    drawn = np.asarray(Image.open(io.BytesIO(encode_figure(finding, "plain.jpg"))).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "finding.png").convert("RGB")), drawn)


@pytest.mark.parametrize(("ending", "head"), [("pdf", b"%PDF"), ("jpg", b"\xff\xd8"), ("JPEG", b"\xff\xd8"), ("svg", b"<?xml")])
def test_format_of_a_saved_figure_is_that_of_the_extension(tmp_path: Path, ending: str, head: bytes) -> None:
    drawn_finding(60, 80).save(str(tmp_path / f"finding.{ending}"))
    assert (tmp_path / f"finding.{ending}").read_bytes().startswith(head)
    assert [path.name for path in tmp_path.iterdir()] == [f"finding.{ending}"]


def test_json_is_the_line_of_the_results(tmp_path: Path) -> None:
    finding = replace(drawn_finding(60, 80), path="a.jpg", sha256="0" * 64)
    finding.save(tmp_path / "finding.json")
    assert json.loads((tmp_path / "finding.json").read_text()) == finding.to_dict()


# The package itself


def test_bundle_of_either_kind_is_loaded(bundles: Path) -> None:
    assert isinstance(segpipe.load_bundle(bundles / "classifier"), ClassifierBundle)
    segmenter = segpipe.load_bundle(str(bundles / "segmenter"))
    assert isinstance(segmenter, SegmenterBundle) and segmenter.card.input.size == 64


def test_image_is_read_from_text_path_or_bytes(photos: Path) -> None:
    path = photos / "turned.jpg"
    expected = segpipe.read_image(path)
    assert expected.shape == (160, 120, 3)
    for source in (str(path), path.read_bytes()):
        np.testing.assert_array_equal(segpipe.read_image(source), expected)


def test_public_names_exist_and_are_listed() -> None:
    assert set(segpipe.__all__) <= set(dir(segpipe))
    assert all(getattr(segpipe, name) is not None for name in segpipe.__all__)
    with pytest.raises(AttributeError, match=r"'load_pipelin'; it has .*load_pipeline"):
        segpipe.load_pipelin  # noqa: B018


def test_import_loads_only_the_standard_library() -> None:
    code = "import sys; bare = set(sys.modules); import segpipe; print(*(set(sys.modules) - bare))"
    # Without site-packages, whose .pth files may import anything.
    environment = {**os.environ, "PYTHONPATH": str(Path(segpipe.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names | {"segpipe"}
    assert [name for name in found if name.startswith("segpipe")] == ["segpipe"]
