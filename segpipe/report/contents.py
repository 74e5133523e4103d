"""Contents of the report of a run, for HTML and PDF alike."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.io.images import read_mask
from segpipe.io.passes import follow
from segpipe.io.run_files import MASKS, REPORT_PAGES
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.metrics.segmentation import dice
from segpipe.report.evidence import judge_suspicion
from segpipe.report.overlays import HEATMAPS, SHAPES, outline_path
from segpipe.report.truth import NO_TRUTH, ReportTruth, TrueDiagnosis, TrueMask, true_diagnosis
from segpipe.report.wording import name_with_code
from segpipe.runs.results import Row

_LONGEST_NAME = 255  # bytes, the limit of nearly every file system
_ANY_SIZE = sys.maxsize  # the run has accepted the images by its own max_pixels


@dataclass(frozen=True)
class ReportImage:
    """One image of a report.

    Attributes:
        row: Row of the results.
        name: Name among the results, see `segpipe.runs.source.result_names`.
        has_heatmap: True if there is a picture of its heatmap.
        has_shape: True if there is a picture of its shape.
        suspicious: True for a suspicious image.
        suspicion: Phrases on its suspicion, see `segpipe.report.evidence.judge_suspicion`.
        true: True diagnosis; None if unknown.
        mask: True mask; None if unknown.
    """

    row: Row
    name: Path
    has_heatmap: bool
    has_shape: bool
    suspicious: bool
    suspicion: tuple[str, ...]
    true: TrueDiagnosis | None = None
    mask: TrueMask | None = None

    @property
    def page(self) -> Path:
        """Path of its page, relative to the output folder."""
        page = REPORT_PAGES / self.name.with_suffix(".html")
        # An image's name may have the largest allowed length, and .html is longer than .jpg.
        return page if len(os.fsencode(page.name)) <= _LONGEST_NAME else page.with_suffix(".htm")

    @property
    def picture(self) -> Path:
        """Path of its pictures, relative to each of the folders of pictures."""
        return self.name.with_suffix(".jpg")


@dataclass(frozen=True)
class ReportContents:
    """Images of a run with everything that its report says about them.

    Attributes:
        output: Output folder of the run, with the masks and the pictures.
        images: Images with a result, the largest probability of malignancy first.
        failures: Path and reason of each image without a result.
        summary: Content of `summary.json`.
        truth: Ground truth of the run.
    """

    output: Path
    images: tuple[ReportImage, ...]
    failures: Sequence[tuple[str, str]]
    summary: Mapping[str, Any]
    truth: ReportTruth = NO_TRUTH

    @property
    def rows(self) -> list[Row]:
        """Rows of the images."""
        return [image.row for image in self.images]

    @property
    def trues(self) -> list[TrueDiagnosis | None]:
        """True diagnoses of the images."""
        return [image.true for image in self.images]

    @property
    def dices(self) -> list[float]:
        """Dice of the images that have a true mask."""
        return [image.mask.dice for image in self.images if image.mask is not None]

    @property
    def malignant(self) -> tuple[str, ...]:
        """Codes of the malignant classes."""
        return tuple(self.summary["malignant"])

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Operating points of the run."""
        return _points(self.summary)

    @property
    def coverage(self) -> float | None:
        """Coverage of the prediction sets; None if unknown."""
        coverage: float | None = self.summary.get("run", {}).get("coverage")
        return coverage

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the run by dotted keys; empty without a command."""
        return flatten(self.summary["settings"] or {})

    @property
    def models(self) -> dict[str, Sequence[str]]:
        """SHA-256 of the models by role; a role may have none."""
        return {role: _hashes(model) for role, model in self.summary["models"].items()}

    def explained_class(self, row: Row) -> str | None:
        """Name of the class that a heatmap explains; None if unknown."""
        if "explain.diagnosis" not in self.settings:
            return None
        return name_with_code(self.settings["explain.diagnosis"] or row["diagnosis"])


def collect_contents(
    output: Path,
    rows: Sequence[Row],
    names: Mapping[str, Path],
    failures: Sequence[tuple[str, str]],
    summary: Mapping[str, Any],
    *,
    truth: ReportTruth = NO_TRUTH,
) -> ReportContents:
    """Collect the sorted images of a report, with their truth.

    Args:
        output: Output folder of the run, with the masks and the pictures.
        rows: Rows of the results, see `Finding.to_dict`.
        names: Name of each image among the results by the path of its row, see `result_names`.
        failures: Path and reason of each image without a result.
        summary: Content of `summary.json`.
        truth: True diagnoses and masks, as far as they are known.
    """
    points, malignant = _points(summary), tuple(summary["malignant"])

    def image(row: Row) -> ReportImage:
        name = names[row["path"]]
        heatmap, shape = ((output / folder / name.with_suffix(".jpg")).exists() for folder in (HEATMAPS, SHAPES))
        suspicious, suspicion = judge_suspicion(row, malignant, points)
        true = true_diagnosis(row, truth, malignant=malignant, suspicious=suspicious)
        return ReportImage(row, name, heatmap, shape, suspicious, suspicion, true, _true_mask(row, truth, output / MASKS / name))

    ordered = sorted(rows, key=lambda row: -(row["p_malignant"] or 0))
    images = tuple(map(image, follow(ordered, len(ordered), "images of the report")))
    return ReportContents(output, images, failures, summary, truth)


def _true_mask(row: Row, truth: ReportTruth, predicted: Path) -> TrueMask | None:
    """Compare a mask with the true one; None if that is unknown.

    `predicted` is the file of the predicted mask.
    """
    file = truth.masks.get(row["path"])
    if file is None:
        return None
    mask = read_mask(file, max_pixels=_ANY_SIZE)
    size, outline = outline_path(mask)
    return TrueMask(dice(read_mask(predicted, max_pixels=_ANY_SIZE), mask), size, outline)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into a flat mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _points(summary: Mapping[str, Any]) -> tuple[OperatingPoint, ...]:
    return tuple(OperatingPoint(**point) for point in summary["operating_points"])


def _hashes(model: str | Sequence[str] | None) -> Sequence[str]:
    """Hashes of one model, several, or none."""
    if model is None:
        return ()
    return (model,) if isinstance(model, str) else model
