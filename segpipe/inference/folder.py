"""Many images, one batch after another, and what is written of each."""

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from segpipe.card import library_versions
from segpipe.errors import ImageError
from segpipe.image_io import RgbImage, display_path, read_image, write_png
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import heatmap_on_image
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.results import append_row, result_row, write_failures, write_results
from segpipe.inference.source import Source, batched, result_names

File = tuple[Path, Path]
SHOWN = 3  # findings that go to the terminal, whatever the size of the folder


class FigureWriter(Protocol):
    """Draws the panel of one image into a file."""

    def __call__(self, path: Path, image: RgbImage, finding: Finding, *, title: str) -> None:
        """See `segpipe.report.figure.write_figure`."""


@dataclass(frozen=True)
class Outputs:
    """What is written of each image beside its line and its mask.

    Attributes:
        folder: of the run.
        write_figure: draws the panel; None for no figures.
        crops: write the crop as the network saw it.
        heatmaps: write the heatmap in the size of the image.
    """

    folder: Path
    write_figure: FigureWriter | None = None
    crops: bool = False
    heatmaps: bool = False


@dataclass(frozen=True)
class Done:
    """How a run ended.

    Attributes:
        rows: of the images with a result, in the order of work, see `result_row`.
        failures: path and reason of the rest.
        shown: path, finding and figure of the first few images, for the terminal; the figure is None where none was drawn.
        seconds: from the first image to the last.
    """

    rows: tuple[Mapping[str, Any], ...]
    failures: tuple[tuple[str, str], ...]
    shown: tuple[tuple[Path, Finding, Path | None], ...]
    seconds: float


def run_images(pipeline: Pipeline, source: Source, outputs: Outputs, *, batch_size: int, max_pixels: int) -> Done:
    """Work through images in batches and write their lines, masks and pictures; a bad file is noted and passed over.

    Args:
        pipeline: from images to findings.
        source: the images.
        outputs: what to write, into a folder that exists.
        batch_size: images that are read at once.
        max_pixels: cap on the size of an image.
    """
    started = time.perf_counter()
    names = result_names([relative for _, relative in source.files])
    rows: list[dict[str, Any]] = []
    failures = list(source.failures)
    shown: list[tuple[Path, Finding, Path | None]] = []
    progress = tqdm(total=len(source.files), unit="image", disable=len(source.files) < 2)
    for batch in batched(source.files, batch_size):
        begun = time.perf_counter()
        photographs = list(_read(batch, failures, max_pixels=max_pixels))
        findings = pipeline([photograph.image for photograph in photographs]) if photographs else []
        latency_ms = 1000 * (time.perf_counter() - begun) / len(batch)
        for photograph, finding in zip(photographs, findings, strict=True):
            relative = photograph.relative
            figure = _write_pictures(outputs, names[relative], photograph.image, finding)
            rows.append(result_row(display_path(relative), photograph.sha256, finding, latency_ms=latency_ms))
            append_row(outputs.folder / "results.jsonl", rows[-1])
            if len(shown) < SHOWN:
                shown.append((relative, finding, figure))
        progress.update(len(batch))
    progress.close()
    write_results(outputs.folder / "results.csv", rows, pipeline.namer.bundle.card.classes)
    write_failures(outputs.folder / "failures.csv", failures)
    return Done(tuple(rows), tuple(failures), tuple(shown), time.perf_counter() - started)


@dataclass(frozen=True)
class _Photograph:
    """A file that was read: its path relative to the folder, its content, and the SHA-256 of it."""

    relative: Path
    image: RgbImage
    sha256: str


def _read(batch: Sequence[File], failures: list[tuple[str, str]], *, max_pixels: int) -> Iterator[_Photograph]:
    for path, relative in batch:
        try:
            yield _Photograph(relative, read_image(path, max_pixels=max_pixels), _sha256(path))
        except ImageError as error:
            failures.append((display_path(relative), str(error).removeprefix(f"{display_path(path)}: ")))
        except OSError as error:  # it vanished between the two looks at it
            failures.append((display_path(relative), f"cannot be read ({error.strerror})"))


def write_summary(output: Path, done: Done, source: Source, pipeline: Pipeline, *, settings: Any) -> dict[str, Any]:
    """Write `summary.json`, and return what it holds: counts, images per second, settings, model hashes, versions.

    Args:
        output: of the run.
        done: how it ended.
        source: the images.
        pipeline: that it ran with.
        settings: the configuration of the call, as plain values; None where a program called.
    """
    segmenter, point = pipeline.locator.bundle, pipeline.namer.bundle.card.operating_point
    summary = {
        "images": len(done.rows),
        "failures": len(done.failures),
        "ignored_files": source.ignored,
        "seconds": round(done.seconds, 3),
        "images_per_second": round(len(done.rows) / max(done.seconds, 1e-9), 3),
        "settings": settings,
        "models": {
            "segmenter": None if segmenter is None else segmenter.sha256,
            "classifier": pipeline.namer.bundle.sha256,
        },
        "operating_point": None if point is None else {"diagnosis": point.diagnosis, "threshold": point.threshold},
        "versions": library_versions(),
        "platform": platform.platform(),
        "notice": "Not a medical device.",
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return summary


def _write_pictures(outputs: Outputs, name: Path, image: RgbImage, finding: Finding) -> Path | None:
    """Write what is wanted of one image; returns the figure's path where one was drawn."""
    write_png(outputs.folder / "masks" / name, finding.localization.mask)
    if outputs.crops:
        write_png(outputs.folder / "crops" / name, finding.crop)
    if outputs.heatmaps and finding.heatmap is not None:
        values = heatmap_on_image(finding.heatmap, finding.crop_box, *image.shape[:2])
        write_png(outputs.folder / "heatmaps" / name, np.rint(values * 255).astype(np.uint8))
    if outputs.write_figure is None:
        return None
    figure = outputs.folder / "figures" / name
    outputs.write_figure(figure, image, finding, title=name.stem)
    return figure


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
