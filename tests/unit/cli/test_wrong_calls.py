"""Wrong calls of the Python API, refused in one line with rule, value and next step."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from findings import drawn_finding
from PIL import Image

import segpipe
from segpipe.errors import BundleError, ConfigError, ImageError, SegpipeError

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
Samples = SimpleNamespace  # bundles, folder of files, pipeline, finding


@pytest.fixture(scope="module")
def samples(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("files")
    (folder / "training" / "bundle").mkdir(parents=True)
    (folder / "training" / "bundle" / "card.json").write_text("{}")
    (folder / "notes.txt").write_text("no image")
    (folder / "empty.jpg").touch()
    Image.fromarray(IMAGE).save(folder / "image.jpg")
    (folder / "cut.jpg").write_bytes((folder / "image.jpg").read_bytes()[:900])
    pipeline = segpipe.load_pipeline(bundles / "classifier", localize="whole_image", tta="none", explain="none", device="cpu")
    return Samples(bundles=bundles, folder=folder, pipeline=pipeline, finding=drawn_finding(60, 80))


LOADING: dict[str, tuple[Callable[[Samples], object], type[Exception], str]] = {
    'load_pipeline(tta="D4")': (lambda p: segpipe.load_pipeline(tta="D4"), ConfigError, "none, flips, d4, crops, got 'D4'"),
    "load_pipeline(tta=8)": (lambda p: segpipe.load_pipeline(tta=8), ConfigError, "none, flips, d4, crops, got 8"),
    "load_pipeline(explain=True)": (lambda p: segpipe.load_pipeline(explain=True), ConfigError, "gradcam, none, got True"),
    'load_pipeline(localize="u-net")': (
        lambda p: segpipe.load_pipeline(localize="u-net"),
        ConfigError,
        "unet, contour, .*'u-net'",
    ),
    'load_pipeline(precision="fp16")': (lambda p: segpipe.load_pipeline(precision="fp16"), ConfigError, "float16, got 'fp16'"),
    'load_pipeline(device="gpu")': (
        lambda p: segpipe.load_pipeline(device="gpu"),
        ConfigError,
        "auto, cpu, cuda, .*got 'gpu'; auto takes",
    ),
    "load_pipeline(device=0)": (lambda p: segpipe.load_pipeline(device=0), ConfigError, "auto, cpu, cuda, .*got 0"),
    'load_pipeline(device="cuda:99")': (lambda p: segpipe.load_pipeline(device="cuda:99"), ConfigError, "device=cuda:99 .*auto"),
    "load_pipeline(batch_size=0)": (lambda p: segpipe.load_pipeline(batch_size=0), ConfigError, "batch_size must be 1.*got 0"),
    "load_pipeline(explain_diagnosis=3)": (lambda p: segpipe.load_pipeline(explain_diagnosis=3), ConfigError, "got 3"),
    'load_pipeline(explain_diagnosis="melanoma")': (
        lambda p: segpipe.load_pipeline(p.bundles / "classifier", p.bundles / "segmenter", explain_diagnosis="melanoma"),
        ConfigError,
        "mel, nv, .*got 'melanoma'",
    ),
    "load_pipeline([])": (lambda p: segpipe.load_pipeline([]), ConfigError, "at least one bundle, got an empty list; None"),
    'load_pipeline("")': (lambda p: segpipe.load_pipeline(""), ConfigError, "path of a bundle's folder, got ''"),
    "load_pipeline(5)": (lambda p: segpipe.load_pipeline(5), ConfigError, "a path, a list of paths or None, got 5"),
    "load_pipeline([None])": (lambda p: segpipe.load_pipeline([None]), ConfigError, r"classifier\[0\] .*got None"),
    'load_pipeline(segmenter=["a"])': (lambda p: segpipe.load_pipeline(segmenter=["a"]), ConfigError, r"segmenter .*got \['a'\]"),
    'load_pipeline("absent")': (
        lambda p: segpipe.load_pipeline(str(p.folder / "absent")),
        BundleError,
        "absent: .*model.safetensors and card.json; no such folder",
    ),
    'load_pipeline("training")': (
        lambda p: segpipe.load_pipeline(p.folder / "training"),
        BundleError,
        "the output of a training holds one in .*training/bundle",
    ),
    'load_pipeline("model.safetensors")': (
        lambda p: segpipe.load_pipeline(p.bundles / "classifier" / "model.safetensors"),
        BundleError,
        "a bundle must be a folder .*card.json; a file",
    ),
    'load_pipeline("segmenter")': (
        lambda p: segpipe.load_pipeline(p.bundles / "segmenter"),
        BundleError,
        "bundle of a classifier, got that of a segmenter",
    ),
    'load_pipeline(["a", "a"])': (
        lambda p: segpipe.load_pipeline([p.bundles / "classifier"] * 2),
        BundleError,
        "each model once, got the same one",
    ),
    "load_bundle(None)": (lambda p: segpipe.load_bundle(None), ValueError, "path of a bundle, got NoneType"),
    'load_bundle("absent")': (lambda p: segpipe.load_bundle("absent"), BundleError, "no such folder"),
}

IMAGES: dict[str, tuple[Callable[[Samples], object], type[Exception], str]] = {
    'predict("absent.jpg")': (lambda p: p.pipeline.predict("absent.jpg"), ImageError, "absent.jpg: no such file; check the path"),
    'predict("*.jpg")': (lambda p: p.pipeline.predict("*.jpg"), ImageError, r"not expanded, give Path\(folder\)\.glob"),
    "predict(folder)": (lambda p: p.pipeline.predict(p.folder), ImageError, "is a folder; segpipe.predict_folder"),
    'predict("notes.txt")': (lambda p: p.pipeline.predict(p.folder / "notes.txt"), ImageError, "notes.txt: not an image: .*JPEG"),
    'predict("empty.jpg")': (lambda p: p.pipeline.predict(p.folder / "empty.jpg"), ImageError, r"empty file \(0 bytes\)"),
    'predict("cut.jpg")': (lambda p: p.pipeline.predict(p.folder / "cut.jpg"), ImageError, "cut.jpg: .*truncated"),
    'predict("")': (lambda p: p.pipeline.predict(""), ValueError, "a path or a URL, got an empty text"),
    'predict("s4://a/b.jpg")': (lambda p: p.pipeline.predict("s4://a/b.jpg"), ImageError, "s4://a/b.jpg: cannot be read"),
    'predict(b"")': (lambda p: p.pipeline.predict(b""), ImageError, "0 bytes"),
    'predict(b"text")': (lambda p: p.pipeline.predict(b"no image"), ImageError, "must be JPEG, PNG, BMP, TIFF, WebP or HEIC"),
    "predict(None)": (lambda p: p.pipeline.predict(None), ValueError, "RGB array, uint8 .*got NoneType; .*cv2.imread gives None"),
    "predict(5)": (lambda p: p.pipeline.predict(5), ValueError, "a path, a URL, .*got int"),
    "predict(open(...))": (lambda p: p.pipeline.predict((p.folder / "image.jpg").open("rb")), ValueError, r"file\.read\(\)"),
    "predict({image})": (lambda p: p.pipeline.predict({"a.jpg"}), ValueError, r"got set; .*list\(images\)"),
    "predict(tensor)": (lambda p: p.pipeline.predict(torch.zeros(3, 9, 9)), ValueError, r"torch\.Tensor \(3, 9, 9\).*permute"),
    "predict(grey array)": (lambda p: p.pipeline.predict(IMAGE[..., 0]), ValueError, r"uint8 \(60, 80\); repeat a gray image"),
    "predict(RGBA array)": (
        lambda p: p.pipeline.predict(np.dstack([IMAGE, IMAGE[..., :1]])),
        ValueError,
        r"uint8 \(60, 80, 4\); drop the alpha channel with image\[\.\.\., :3\], or .*BGRA",
    ),
    "predict(float array)": (lambda p: p.pipeline.predict(IMAGE / 255), ValueError, r"float64 .*\(255 \* image\)\.round"),
    "predict(channels first)": (lambda p: p.pipeline.predict(IMAGE.transpose(2, 0, 1)), ValueError, r"transpose\(1, 2, 0\)"),
    "predict(batch array)": (lambda p: p.pipeline.predict(IMAGE[None]), ValueError, r"\(1, 60, 80, 3\); give list\(images\)"),
    "predict(empty array)": (lambda p: p.pipeline.predict(IMAGE[:0]), ValueError, "at least 8 pixels"),
    "predict(tiny array)": (lambda p: p.pipeline.predict(IMAGE[:3, :3]), ValueError, "at least 8 pixels"),
    "predict(tiny PIL image)": (lambda p: p.pipeline.predict(Image.new("RGB", (5, 9))), ImageError, "has 5 x 9 pixels; .*8"),
    "predict(PIL image of floats)": (lambda p: p.pipeline.predict(Image.new("F", (50, 50))), ImageError, "kind 'F' .*RGB"),
    "predict(too large)": (lambda p: p.pipeline.predict(IMAGE, max_pixels=100), ImageError, "4800 pixels, .*max_pixels=100"),
    "predict(max_pixels=0)": (lambda p: p.pipeline.predict(IMAGE, max_pixels=0), ValueError, "max_pixels must be .*got 0"),
    "predict([good, bad])": (lambda p: p.pipeline.predict([IMAGE, IMAGE[..., 0]]), ValueError, "^item 1: image must be RGB"),
    "predict([[image]])": (lambda p: p.pipeline.predict([[IMAGE]]), ValueError, "^item 0: .*got list"),
    "pipeline(image)": (lambda p: p.pipeline(IMAGE), ValueError, r"use pipeline\.predict\(image\)"),
    "read_image(None)": (lambda p: segpipe.read_image(None), ValueError, "a path or the bytes of an image file, got NoneType"),
    'finding.save("a.gif")': (lambda p: p.finding.save("a.gif"), ValueError, r"\.png, \.pdf, .*got 'a\.gif'"),
    'finding.save("a")': (lambda p: p.finding.save("a"), ValueError, r"\.json, got 'a'"),
}


@pytest.mark.parametrize("call", [*LOADING, *IMAGES])
def test_wrong_call_is_refused_with_the_next_step(samples: Samples, call: str) -> None:
    act, kind, words = (LOADING | IMAGES)[call]
    with pytest.raises((SegpipeError, ValueError)) as caught:
        act(samples)
    message = str(caught.value)
    assert isinstance(caught.value, kind)
    assert re.search(words, message), message
    assert "\n" not in message and len(message) < 400
