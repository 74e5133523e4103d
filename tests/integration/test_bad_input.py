"""Unusual images and bundles: a result or one line of error."""

import json
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ended, Script, Trained, call, results
from PIL import Image

from segpipe.io.images import read_image, read_mask
from segpipe.types import RgbImage

Writer = Callable[[Path, RgbImage], None]


def bytes_of(content: bytes) -> Writer:
    return lambda path, photo: path.write_bytes(content) and None


def save(convert: Callable[[Image.Image], Image.Image], **options: object) -> Writer:
    return lambda path, photo: convert(Image.fromarray(photo)).save(path, **options)


def truncate(path: Path, photo: RgbImage) -> None:
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def half_with_end(path: Path, photo: RgbImage) -> None:
    Image.fromarray(photo).save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3] + b"\xff\xd9")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(path: Path, photo: RgbImage) -> None:
    """Write a small PNG that decodes to 7.5 GB."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000_000), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


REFUSED: dict[str, tuple[str, Writer | None, str]] = {
    "missing": ("photo.jpg", None, "no such file; check the path"),
    "star": ("*.jpg", None, "no such file; a * is not expanded, use folder=DIR"),
    "empty": ("photo.jpg", bytes_of(b""), "an empty file (0 bytes)"),
    "truncated_jpeg": ("photo.jpg", truncate, "truncated"),
    "truncated_png": ("photo.png", truncate, "truncated"),
    "truncated_tiff": ("photo.tif", truncate, "truncated"),
    "truncated_bmp": ("photo.bmp", truncate, "truncated"),
    "truncated_webp": ("photo.webp", truncate, "truncated"),
    "no_image": ("photo.jpg", bytes_of(b"image,label\n"), "not an image: whatever its name"),
    "html": ("photo.png", bytes_of(b"<!doctype html><title>404</title>"), "not an image"),
    "gif": ("photo.jpg", save(lambda image: image, format="GIF"), "format GIF, which is not read"),
    "folder": ("photo.jpg", lambda path, photo: path.mkdir(), "is a folder; use folder="),
    "link_to_nowhere": ("photo.jpg", lambda path, photo: path.symlink_to("nowhere"), "no such file"),
    "avif": ("photo.avif", bytes_of(b"\0\0\0\x18ftypavif"), "format AVIF, which is not read"),
    "heic": ("photo.heic", bytes_of(b"\0\0\0\x18ftypheic"), "HEIC"),  # damaged, or without the extra not read
    "one_pixel": ("photo.png", save(lambda image: image.crop((0, 0, 1, 1))), "both sides must have at least 8"),
    "one_row": ("photo.png", save(lambda image: image.crop((0, 0, 80, 1))), "both sides must have at least 8"),
    "half_jpeg_with_end": ("photo.jpg", half_with_end, "damaged"),
    "bomb": ("photo.png", bomb, "has 50000 x 50000 = 2500000000 pixels, more than max_pixels=150000000"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_unreadable_image_is_one_line_and_status_2(pipeline: Script, photo: RgbImage, tmp_path: Path, kind: str) -> None:
    name, write, reason = REFUSED[kind]
    if write is not None:
        write(tmp_path / name, photo)
    ended = pipeline(image=name)
    assert ended.status == 2, ended.err
    assert ended.error.startswith(f"{name}: ")
    assert reason in ended.error
    assert ended.err == f"error: {ended.error}\n"
    assert not list(tmp_path.glob("out/masks/*"))


def sixteen_bits(path: Path, photo: RgbImage) -> None:
    Image.fromarray(photo.mean(axis=2).astype(np.uint16) * 257).save(path)


def with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(Image.new("L", image.size, 200))
    return image


def rotated(image: Image.Image) -> Image.Image:
    """Rotate an image and set the EXIF orientation that undoes it."""
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    return turned


READ: dict[str, tuple[str, Writer]] = {
    "grey": ("photo.png", save(lambda image: image.convert("L"))),
    "16_bit": ("photo.png", sixteen_bits),
    "palette": ("photo.png", save(lambda image: image.convert("P"))),
    "alpha": ("photo.png", save(with_alpha)),
    "cmyk": ("photo.jpg", save(lambda image: image.convert("CMYK"), quality=95)),
    "wrong_ending": ("photo.jpg", save(lambda image: image, format="PNG")),
    "no_ending": ("photo", save(lambda image: image, format="PNG")),
    "eight_pixels": ("photo.png", save(lambda image: image.crop((0, 0, 8, 8)))),
    "eight_rows": ("photo.png", save(lambda image: image.crop((0, 0, 80, 8)))),
    "all_black": ("photo.png", save(lambda image: Image.new("RGB", image.size))),
    "all_white": ("photo.png", save(lambda image: Image.new("RGB", image.size, "white"))),
}


def assert_result(ended: Ended, name: str, height: int, width: int) -> dict[str, str]:
    """Check the row, mask and figure of one image; return the row."""
    assert ended.status == 0, ended.err
    (row,) = results(Path("out")).to_dict("records")
    assert (row["path"], row["status"]) == (name, "ok")
    assert sum(float(value) for column, value in row.items() if column.startswith("p_") and column != "p_malignant") == (
        pytest.approx(1, abs=1e-6)
    )
    (mask,) = Path("out/masks").iterdir()
    assert read_mask(mask).shape == (height, width)
    (figure,) = Path("out/figures").iterdir()
    assert read_image(figure).shape[2] == 3
    return row


@pytest.mark.parametrize("kind", READ)
def test_unusual_image_has_a_result_of_its_size(pipeline: Script, photo: RgbImage, tmp_path: Path, kind: str) -> None:
    name, write = READ[kind]
    write(tmp_path / name, photo)
    shape = read_image(tmp_path / name).shape
    assert_result(pipeline(image=name, figures=True), name, *shape[:2])


@pytest.mark.parametrize("kind", ["all_black", "all_white"])
def test_image_without_a_lesion_is_used_whole_with_a_reason(pipeline: Script, photo: RgbImage, tmp_path: Path, kind: str) -> None:
    name, write = READ[kind]
    write(tmp_path / name, photo)
    assert pipeline(image=name, localize="contour").status == 0
    (row,) = results(Path("out")).to_dict("records")
    assert (row["mask_source"], float(row["mask_area_fraction"])) == ("whole_image", 1)
    assert row["mask_reasons"].startswith("contour:")


def test_exif_orientation_does_not_change_the_result(pipeline: Script, photo: RgbImage, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "upright.png")
    upright = assert_result(pipeline(image="upright.png", figures=True), "upright.png", 60, 80)
    lying = rotated(Image.fromarray(photo))
    lying.save(tmp_path / "lying.png", exif=lying.getexif())
    assert Image.open(tmp_path / "lying.png").size == (60, 80)
    found = assert_result(pipeline(image="lying.png", figures=True, overwrite=True), "lying.png", 60, 80)
    differ = {name for name, value in upright.items() if value != found[name]}
    assert differ == {"path", "sha256", "latency_ms"}


def test_limit_of_pixels_is_a_key(pipeline: Script, photo: RgbImage, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    refused = pipeline(image="photo.png", max_pixels=4799)
    assert refused.status == 2
    assert refused.error == (
        "photo.png: has 80 x 60 = 4800 pixels, more than max_pixels=4799; make it smaller, or raise max_pixels"
    )
    assert pipeline(image="photo.png", max_pixels=4800, overwrite=True).status == 0


@pytest.mark.slow
def test_image_of_108_megapixels_has_a_result(pipeline: Script, photo: RgbImage, tmp_path: Path) -> None:
    Image.fromarray(photo).resize((12_000, 9_000)).save(tmp_path / "photo.jpg")
    row = assert_result(pipeline(image="photo.jpg", figures=True), "photo.jpg", 9_000, 12_000)
    assert int(row["box_bottom"]) > 3_000


NAMES = [
    "with blanks .jpg",
    "key=value.jpg",
    "[a],{b},(c).jpg",
    "[a].jpg",
    "'single' \"double\".jpg",
    "a,b.jpg",
    "# not a comment.jpg",
    "Ünïcode é 写真.jpg",
    "${oc.env:HOME}.jpg",
    "back\\slash\\.jpg",
    "null.jpg",
    "~tilde @at !bang %s.jpg",
    "-dash.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_is_literal(pipeline: Script, photo: RgbImage, tmp_path: Path, name: str) -> None:
    Image.fromarray(photo).save(tmp_path / name)
    ended = pipeline(image=name, figures=True, tta="none")
    assert_result(ended, name, 60, 80)
    assert Path("out/masks", f"{name.removesuffix('.jpg')}.png").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_folder_and_output_is_literal(
    trained: Trained, photo: RgbImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    Image.fromarray(photo).save(tmp_path / name / "photo.png")
    values = {"folder": name, "output": f"{name}/out", "device": "cpu", "tta": "none", "explain": "none", "figures": False}
    ended = call("run_pipeline", *trained.bundles, **values)
    assert ended.status == 0, ended.err
    assert results(tmp_path / name / "out")["path"].tolist() == ["photo.png"]


# Bundles


def break_bundle(folder: Path, kind: str) -> None:
    weights, card = folder / "model.safetensors", folder / "card.json"
    match kind:
        case "empty":
            weights.unlink()
            card.unlink()
        case "no_weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "pickled":
            weights.write_bytes(pickle.dumps({"weight": 1}))
        case "card_is_no_json":
            card.write_text("{")
        case "foreign_card":
            card.write_text(json.dumps({"architecture": "resnet"}))
        case "other_weights":
            content = json.loads(card.read_text())
            other = {"segmenter": {"decoder_channels": [8] * 5}, "classifier": {"name": "test_resnet"}}
            content["arguments"] |= other[content["kind"]]
            card.write_text(json.dumps(content))
        case "strange_builder":
            content = json.loads(card.read_text())
            content["arguments"] = {"_target_": "os.system", "command": "true"}
            card.write_text(json.dumps(content))


BROKEN = {
    "empty": "a bundle must be a folder with model.safetensors and card.json",
    "no_weights": "model.safetensors cannot be read",
    "truncated": "model.safetensors is damaged or no safetensors file",
    "pickled": "model.safetensors is damaged or no safetensors file",
    "card_is_no_json": "card.json is damaged",
    "foreign_card": "card.json is not that of a segpipe-bundle",
    "other_weights": "weights and card do not belong together",
    "strange_builder": "",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("role", ["segmenter", "classifier"])
def test_broken_bundle_is_one_line_and_status_2(
    trained: Trained, pipeline: Script, photo: RgbImage, tmp_path: Path, role: str, kind: str
) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    shutil.copytree(trained.folder / {"segmenter": "seg", "classifier": "cls"}[role] / "bundle", tmp_path / "broken")
    break_bundle(tmp_path / "broken", kind)
    ended = pipeline(f"bundle.{role}=broken", image="photo.png")
    assert ended.status == 2, ended.err
    assert ended.error.startswith("broken: ")
    assert BROKEN[kind] in ended.error
    assert not Path("out/results.csv").exists()


@pytest.mark.parametrize(("role", "other"), [("segmenter", "cls"), ("classifier", "seg")])
def test_bundle_of_the_other_kind_is_refused(
    trained: Trained, pipeline: Script, photo: RgbImage, tmp_path: Path, role: str, other: str
) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    ended = pipeline(f"bundle.{role}={trained.folder / other / 'bundle'}", image="photo.png")
    assert ended.status == 2
    assert f"must be the bundle of a {role}, got that of a " in ended.error


@pytest.mark.parametrize("role", ["segmenter", "classifier"])
def test_bundle_that_is_missing_or_a_file_is_refused(pipeline: Script, photo: RgbImage, tmp_path: Path, role: str) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    missing = pipeline(f"bundle.{role}=absent", image="photo.png")
    assert (missing.status, missing.error) == (2, f"bundle.{role} must be an existing path, got 'absent'; check its spelling")
    a_file = pipeline(f"bundle.{role}=photo.png", image="photo.png")
    assert a_file.status == 2
    assert a_file.error.startswith("photo.png: a bundle must be a folder with")
