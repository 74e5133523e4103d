"""Result of one image, the value behind tables, figures and metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segpipe.data.identity import parse_name
from segpipe.diagnosis import full_name
from segpipe.errors import PredictionError
from segpipe.inference.evidence import SIMILAR_COLUMNS, GateResult, Similar
from segpipe.inference.heatmap import ClassMap, heatmap_in_lesion, heatmap_on_image
from segpipe.io.files import display_path, one_line
from segpipe.lesion.localization import LocatedLesion, MaskSource
from segpipe.metrics.conformal import ConformalSets
from segpipe.metrics.operating_points import MALIGNANT, OperatingPoint, reached_targets
from segpipe.metrics.trust import DEFAULT_RULES, Evidence, Trust, TrustRules
from segpipe.types import RgbImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_NAME, _LONGEST_WORDS = 28, 80  # characters in a finding's repr, which has at most 120


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Finding(LocatedLesion):
    """Mask, diagnosis and explanation of one image. Not a medical device.

    The attributes of `LocatedLesion` say where the lesion is; `heatmap` is in pixels of the original photograph, too.

    Attributes:
        crop: Area `window` as the network saw it, RGB uint8, shape (size, size, 3).
        probabilities: Calibrated probability of each class by code, in the card's order; they sum to 1.
        malignant: Codes of the malignant classes; empty where the card names none.
        operating_points: Thresholds of the card, or of the ensemble; empty where none are known.
        tta_spread: Largest standard deviation of a class's probability over the views; None with a single view.
        class_map: Grad-CAM on the grid of the network's features; None with `explain=none`.
        path: File or URL as it was given; None for bytes, PIL images and arrays.
        sha256: SHA-256 of the file's content; None for PIL images and arrays.
        latency_ms: Milliseconds spent on the image; 0 where they were not measured.
        border: Method that made the crop square, see `segpipe.lesion.crop.CropRule`.
        gate: Judgment of the input gate; None with `gate=off`.
        refused: True where `gate=refuse`, and the gate rejects the image; it is then reported as a failure.
        conformal: Thresholds of the prediction sets; None where none are known.
        find_similar: Function that finds the similar cases by the id of the photograph, or None for a photograph without one;
            None where the bundle of the classifier has no index of cases.
        rules: Rules that judge how far to trust the finding.

    Raises:
        PredictionError: A probability, the spread or the class map holds a number that is not finite.
    """

    crop: RgbImage
    probabilities: Mapping[str, float]
    malignant: tuple[str, ...]
    operating_points: tuple[OperatingPoint, ...]
    tta_spread: float | None
    class_map: ClassMap | None
    path: str | None = None
    sha256: str | None = None
    latency_ms: float = 0.0
    border: str = "squeeze"
    gate: GateResult | None = None
    refused: bool = False
    conformal: ConformalSets | None = None
    find_similar: Callable[[str | None], Similar] | None = None
    rules: TrustRules = DEFAULT_RULES

    def __post_init__(self) -> None:
        super().__post_init__()
        heat = () if self.class_map is None else self.class_map.values.ravel()
        if not np.isfinite([*self.probabilities.values(), self.tta_spread or 0.0, *heat]).all():
            raise PredictionError("the prediction holds a number that is not finite; use precision=float32, or another bundle")

    @property
    def diagnosis(self) -> str:
        """Code of the most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """Probability of the most probable class, in [0, 1]."""
        return self.probabilities[self.diagnosis]

    @property
    def p_malignant(self) -> float | None:
        """Probability of all malignant classes; None where none are known."""
        return sum(self.probabilities[code] for code in self.malignant) if self.malignant else None

    @property
    def flagged_for(self) -> tuple[str, ...]:
        """Targets whose operating point is reached."""
        return reached_targets(self.operating_points, self.probabilities, self.malignant)

    @property
    def flagged(self) -> bool | None:
        """True where an operating point is reached; None where none is known."""
        return bool(self.flagged_for) if self.operating_points else None

    @property
    def suspicious(self) -> bool:
        """True where an operating point is reached or the diagnosis is malignant."""
        return bool(self.flagged_for) or self.diagnosis in self.malignant

    @property
    def refusal(self) -> str:
        """Reason for a failure by the gate; empty for a result."""
        return f"the input gate rejects it: {' '.join(self.gate.advice)}" if self.refused and self.gate is not None else ""

    @property
    def prediction_set(self) -> tuple[str, ...] | None:
        """Codes that cover the true class; None if unknown.

        The most probable one comes first. The probability is `conformal.coverage`.
        """
        return None if self.conformal is None else self.conformal.prediction_set(self.probabilities)

    @cached_property
    def similar(self) -> Similar | None:
        """Training cases that look like the lesion; None without an index."""
        image_id = None if self.path is None else parse_name(self.path).stem
        return None if self.find_similar is None else self.find_similar(image_id)

    @cached_property
    def heatmap_in_lesion(self) -> float | None:
        """Fraction of the heatmap in the lesion; None without heatmap."""
        return None if self.class_map is None else heatmap_in_lesion(self.class_map, self.mask, self.crop_box)

    @cached_property
    def trust(self) -> Trust:
        """Judgment on the finding, from all evidence that there is."""
        prediction_set, similar = self.prediction_set, self.similar
        return self.rules.judge(
            Evidence(
                gate=None if self.gate is None else self.gate.ok,
                mask_source=str(self.mask_source),
                unsure=bool(self.warnings),
                spread=self.tta_spread,
                set_size=None if prediction_set is None else len(prediction_set),
                in_lesion=self.heatmap_in_lesion,
                agreeing=None if similar is None else similar.fraction_of(self.diagnosis),
                known=similar is not None and similar.known,
            )
        )

    @cached_property
    def heatmap(self) -> NDArray[np.float32] | None:
        """Grad-CAM heatmap in pixels of the original photograph; None with `explain="none"`.

        Float32 in [0, 1], shape (H, W). It is 0 outside `crop_box`, which the classifier did not see.
        """
        if self.class_map is None:
            return None
        return heatmap_on_image(self.class_map, self.crop_box, self.photograph.height, self.photograph.width)

    @property
    def heatmap_diagnosis(self) -> str | None:
        """Code of the class that the heatmap explains; None with `explain="none"`."""
        return None if self.class_map is None else self.class_map.diagnosis

    def to_dict(self) -> dict[str, Any]:
        """Return the image's line of `results.jsonl`.

        Returns:
            Plain values for JSON by the names of `results.csv`, with `p_<code>` for each class; None where there is no value.
        """
        localization, gate = self.original_localization, self.gate
        return {
            "path": self.path,
            "sha256": self.sha256,
            "status": "ok",
            "diagnosis": self.diagnosis,
            "confidence": self.confidence,
            **{f"p_{code}": probability for code, probability in self.probabilities.items()},
            "p_malignant": self.p_malignant,
            "flagged": self.flagged,
            "mask_source": str(localization.source),
            "mask_reasons": ";".join(localization.reasons),
            "mask_area_fraction": localization.area_fraction,
            **localization.box.named_sides("box"),
            "tta_spread": self.tta_spread,
            "heatmap_in_lesion": self.heatmap_in_lesion,
            "latency_ms": round(self.latency_ms, 3),
            "flagged_for": ";".join(self.flagged_for),
            "warnings": ";".join(localization.warnings),
            **self.crop_box.named_sides("crop"),
            "crop_border": self.border,
            "gate": None if gate is None else gate.text,
            "gate_score": None if gate is None else gate.score,
            "prediction_set": None if self.prediction_set is None else ";".join(self.prediction_set),
            **(dict.fromkeys(SIMILAR_COLUMNS) if self.similar is None else self.similar.to_dict()),
            **self.appearance.to_columns(),
            "trust": self.trust.color,
            "trust_doubts": ";".join(self.trust.doubts),
        }

    def plot(self) -> "Figure":
        """Draw photograph, crop, heatmap and probabilities.

        Returns:
            A figure 16 inches wide, not registered with pyplot: it need not be closed and needs no display.

        Raises:
            MissingExtraError: Matplotlib is not installed, which the extra `plots` brings.
        """
        from segpipe.report.figure import plot_finding

        return plot_finding(self, title=self.name)

    def save(self, path: str | Path) -> None:
        """Save the figure or the values to a file.

        Args:
            path: File that ends in .png, .pdf, .jpg, .jpeg or .svg for the figure of `plot`, or in .json for `to_dict`; missing
                folders are created.

        Raises:
            ValueError: `path` has another ending.
            MissingExtraError: .pdf and .svg need the extra `plots`, which is not installed.
            WriteError: The file cannot be written.
        """
        from segpipe.report.figure import save_finding

        save_finding(self, Path(path))

    @property
    def name(self) -> str:
        """Name of the file without folders; `image` without a file."""
        return "image" if self.path is None else display_path(Path(self.path.rstrip("/\\"))).rpartition("/")[2] or "image"

    def __repr__(self) -> str:
        targets = ["malignancy" if target == MALIGNANT else full_name(target) for target in self.flagged_for]
        words = [f"{self.diagnosis} {self.confidence:.2f}"]
        if self.suspicious:
            words.append(" ".join(["suspicious", *(["for", " and ".join(targets)] if targets else [])]))
        if self.warnings:
            words.append("unsure")
        words.append("mask given" if self.mask_source is MaskSource.GIVEN else f"mask by {self.mask_source}")
        return f"Finding({_shorten(self.name, _LONGEST_NAME)}: {_shorten(', '.join(words), _LONGEST_WORDS)})"

    def _repr_html_(self) -> str:
        """Return the finding as HTML with embedded pictures, for a notebook."""
        from segpipe.report.html_finding import finding_html

        return finding_html(self)


def _shorten(text: str, longest: int) -> str:
    text = one_line(text)
    return text if len(text) <= longest else f"{text[: longest - 9]}...{text[-6:]}"
