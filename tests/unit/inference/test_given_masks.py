"""Findings with a given mask: the found one gives the same finding, another one another finding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segpipe
from segpipe.data.synthetic.photo import make_image
from segpipe.errors import ConfigError, ImageError
from segpipe.inference.finding import Finding
from segpipe.inference.stages import Localizer
from segpipe.io.images import write_png
from segpipe.lesion.localization import MaskSource, localize
from segpipe.report.evidence import trust_text
from segpipe.report.figure import encode_figure
from segpipe.report.terminal import finding_table
from segpipe.report.wording import image_caption
from segpipe.types import BoolMask, RgbImage, mask_box

HEIGHT, WIDTH = 300, 400
# Fields that a given mask changes even where it is the found one.
OWN = {"mask_source", "mask_reasons", "latency_ms", "path", "sha256"}
WORDS = "given by the user"


@pytest.fixture(scope="module")
def pipeline() -> segpipe.Pipeline:
    """The shipped models, which have all evidence."""
    return segpipe.load_pipeline(tta="flips", device="cpu")


@pytest.fixture(scope="module")
def image() -> RgbImage:
    return make_image("mel", np.random.default_rng(0), (HEIGHT, WIDTH))[0]


@pytest.fixture(scope="module")
def found(pipeline: segpipe.Pipeline, image: RgbImage) -> Finding:
    finding = pipeline.predict(image)
    assert finding.mask_source == "unet"
    return finding


@pytest.fixture
def part(found: Finding) -> BoolMask:
    """Upper left quarter of the found mask."""
    mask = found.mask.copy()
    mask[:, (found.box.left + found.box.right) // 2 :] = False
    mask[(found.box.top + found.box.bottom) // 2 :] = False
    return mask


def values(finding: Finding) -> dict[str, Any]:
    return {name: value for name, value in finding.to_dict().items() if name not in OWN}


def test_found_mask_gives_the_same_finding(pipeline: segpipe.Pipeline, image: RgbImage, found: Finding) -> None:
    given = pipeline.predict(image, mask=found.mask)
    assert values(given) == values(found)
    assert (given.mask_source, given.mask_reasons, given.warnings) == ("given", (), found.warnings)
    assert given.gate and found.gate and given.gate.score == found.gate.score is not None
    for name in ("mask", "crop", "heatmap"):
        np.testing.assert_array_equal(getattr(given, name), getattr(found, name))


def test_another_mask_changes_crop_and_numbers(
    pipeline: segpipe.Pipeline, image: RgbImage, found: Finding, part: BoolMask
) -> None:
    given = pipeline.predict(image, mask=part)
    np.testing.assert_array_equal(given.mask, part)
    assert given.box == mask_box(part) and given.crop_box != found.crop_box
    assert given.to_dict()["mask_area_fraction"] == pytest.approx(part.mean())
    assert given.appearance.minor_diameter_px < 0.8 * found.appearance.minor_diameter_px
    assert max(abs(given.probabilities[code] - found.probabilities[code]) for code in found.probabilities) > 1e-3
    assert sum(given.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("size", [(2000, 2400), (2003, 2401)])
def test_mask_of_a_large_photograph_is_kept_to_the_pixel(pipeline: segpipe.Pipeline, size: tuple[int, int]) -> None:
    image, mask = make_image("nv", np.random.default_rng(1), size)
    found = pipeline.predict(image)
    assert found.photograph.image.shape[0] == -(-size[0] // 2) and found.mask.shape == size
    same = pipeline.predict(image, mask=found.mask)
    assert values(same) == values(found)
    given = pipeline.predict(image, mask=mask)
    np.testing.assert_array_equal(given.mask, mask)
    assert given.box == mask_box(mask) and given.heatmap is not None and given.heatmap.shape == size


def test_mask_files_and_lists(
    pipeline: segpipe.Pipeline, image: RgbImage, found: Finding, part: BoolMask, tmp_path: Path
) -> None:
    write_png(tmp_path / "part.png", part)
    single = pipeline.predict(image, mask=tmp_path / "part.png")
    several = pipeline.predict([image, image, image], mask=[str(tmp_path / "part.png"), None, part])
    assert [finding.mask_source for finding in several] == ["given", "unet", "given"]
    for finding, expected in zip(several, (single, found, single), strict=True):
        assert finding.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
        np.testing.assert_array_equal(finding.mask, expected.mask)


NONE = np.zeros((HEIGHT, WIDTH), np.bool_)
ONE = ~NONE


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (ONE.T, ["mask", f"{HEIGHT} x {WIDTH}", f"got {WIDTH} x {HEIGHT}"]),
        (NONE, ["mask", "0 true pixels"]),
        (ONE.astype(np.uint8), ["mask", "bool", "uint8", "> 127"]),
        (ONE[None], ["mask", "(H, W)"]),
        ([ONE], ["mask", "numpy array", "list"]),
    ],
)
def test_unusable_mask_is_one_line(pipeline: segpipe.Pipeline, image: RgbImage, mask: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        pipeline.predict(image, mask=mask)
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


def test_mask_without_a_pixel_of_the_reduced_photograph_is_refused(pipeline: segpipe.Pipeline) -> None:
    image, mask = make_image("nv", np.random.default_rng(1), (2000, 2400))
    mask[:] = False
    mask[1001, 1001] = True
    with pytest.raises(ValueError, match="got 1 true pixels"):
        pipeline.predict(image, mask=mask)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: write_png(path, ONE.T), [f"{HEIGHT} x {WIDTH}", f"got {WIDTH} x {HEIGHT}"]),
        (lambda path: write_png(path, NONE), ["0 true pixels"]),
        (lambda path: Image.fromarray(make_image("mel", np.random.default_rng(0), (60, 80))[0]).save(path), ["two values"]),
        (lambda path: None, ["no such file"]),
        (lambda path: path.write_bytes(b"none"), ["not an image"]),
    ],
)
def test_unusable_mask_file_is_one_line_with_its_path(
    pipeline: segpipe.Pipeline, image: RgbImage, tmp_path: Path, write: Callable[[Path], object], words: list[str]
) -> None:
    path = tmp_path / "mask.png"
    write(path)
    with pytest.raises(ImageError) as refused:
        pipeline.predict([image], mask=[path])
    text = str(refused.value)
    assert text.startswith(f"item 0: {path}: ") and all(word in text for word in words) and "\n" not in text


@pytest.mark.parametrize(
    ("source", "mask", "words"),
    [
        (lambda image: [image, image], [None], ["2 entries", "got 1"]),
        (lambda image: [image], ONE, ["list"]),
        (lambda image: iter([image]), [ONE], ["iterator"]),
    ],
)
def test_masks_must_fit_the_images(
    pipeline: segpipe.Pipeline, image: RgbImage, source: Callable[[RgbImage], Any], mask: Any, words: list[str]
) -> None:
    with pytest.raises(ValueError) as refused:
        pipeline.predict(source(image), mask=mask)
    assert str(refused.value).startswith("mask must") and all(word in str(refused.value) for word in words)


def test_given_mask_is_no_doubt_and_is_named(pipeline: segpipe.Pipeline, image: RgbImage, part: BoolMask, tmp_path: Path) -> None:
    given = pipeline.predict(image, mask=part)
    assert "contour" not in given.trust.doubts
    green = trust_text({**given.to_dict(), "trust": "green", "trust_doubts": ""})
    assert green is not None and any(WORDS in reason for reason in green.reasons)
    assert WORDS in image_caption(MaskSource.GIVEN) and "mask given" in repr(given)
    assert WORDS in finding_table("a.jpg", given, tmp_path)
    assert encode_figure(given, "a").startswith(b"\x89PNG")


def test_gate_judges_the_given_mask(pipeline: segpipe.Pipeline, image: RgbImage, found: Finding) -> None:
    wide = pipeline.predict(image, mask=ONE)
    assert wide.gate and found.gate
    assert set(wide.gate.reasons) - set(found.gate.reasons) >= {"out_of_frame"}
    assert wide.gate.score == found.gate.score


def test_given_mask_needs_no_segmenter(image: RgbImage, part: BoolMask) -> None:
    pipeline = segpipe.load_pipeline(tta="none", explain="none", localize="whole_image", device="cpu")
    given = pipeline.predict(image, mask=part)
    assert given.mask_source == "given" and given.gate is not None and given.gate.score is None


def test_no_method_finds_a_given_mask(image: RgbImage) -> None:
    with pytest.raises(ConfigError, match="localize must be one of"):
        segpipe.load_pipeline(localize="given")
    for call in (lambda: localize(image, None, start=MaskSource.GIVEN), lambda: Localizer(None, start=MaskSource.GIVEN)([image])):
        with pytest.raises(ValueError, match="start must be one of unet, contour, whole_image, got 'given'"):
            call()
