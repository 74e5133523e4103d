"""Test of the heatmaps of a classifier on a sample of images, in one view."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig
from tqdm import tqdm

from segpipe.errors import PredictionError
from segpipe.evaluation.headline import describe_test_set
from segpipe.evaluation.run import Run
from segpipe.evaluation.truth import GroundTruth
from segpipe.inference.ensemble import ClassifierEnsemble, Seen
from segpipe.inference.heatmap import heatmap_in_lesion
from segpipe.lesion.crop import mask_box
from segpipe.lesion.localizer import Localization, MaskSource
from segpipe.metrics.bootstrap import MIN_LESIONS, with_intervals
from segpipe.metrics.heatmaps import TURNS, alter_pixels, areas_under, score_heatmaps, score_turns, turn
from segpipe.types import RgbImage

SAMPLE = 200  # images
_SILENT_SECONDS = 3.0
_SEED_DIGITS = 8  # of a hash


@dataclass(frozen=True)
class SampledImage:
    """An image of the sample.

    Attributes:
        path: Path that the image is known by in the results.
        sha256: SHA-256 of its file.
        image: RGB uint8, shape (H, W, 3).
        localization: Lesion in the image.
    """

    path: str
    sha256: str
    image: RgbImage
    localization: Localization


class HeatmapTest:
    """Measures the heatmaps of the images of a sample.

    Each photograph is turned together with its mask, and the crop is cut from the turned photograph, so that the classifier is
    tested and not the segmenter. All heatmaps of an image explain one class: `diagnosis`, or the most probable one in one view.

    Args:
        namer: Classifiers; those of several are explained together and get no deletion and insertion, for their crops differ.
        sample: Number of images at most, 1 or more.
        diagnosis: Code of the class to explain; None for the predicted one.
    """

    def __init__(self, ensemble: ClassifierEnsemble, *, sample: int = SAMPLE, diagnosis: str | None = None) -> None:
        self._namer = ensemble.in_one_view()
        self._sample = sample
        self._diagnosis = diagnosis

    @classmethod
    def of(cls, config: DictConfig, ensemble: ClassifierEnsemble) -> "HeatmapTest | None":
        """The test that the configuration of a run asks for; None where it is left out."""
        if config.explain.method == "none" or config.heatmap_sample == 0:
            return None
        return cls(ensemble, sample=config.heatmap_sample, diagnosis=config.explain.diagnosis)

    def __call__(self, run: Run) -> pd.DataFrame:
        """Measure a sample of the images of a run.

        Args:
            run: Results with the photographs at hand.

        Returns:
            The table of `measure`.
        """
        with_file = run.results[run.results["path"].isin(run.photographs)].drop_duplicates("sha256")
        rows = choose_sample(with_file, self._sample)
        return self.measure((_read_row(run, row) for row in rows.to_dict("records")), len(rows))

    def measure(self, images: Iterable[SampledImage], count: int) -> pd.DataFrame:
        """Measure images one after the other; one for which the network gives a number that is not finite is left out.

        Args:
            images: Images of the sample.
            count: Number of them, for the progress bar.

        Returns:
            One row for each image: `path`, `sha256`, `explained`, and the columns that `score_heatmaps` takes.
        """
        rows: list[dict[str, Any]] = []
        for image in tqdm(images, "testing heatmaps", count, unit="image", delay=_SILENT_SECONDS, leave=False):
            with suppress(PredictionError):
                rows.append(self._measure(image))
        return pd.DataFrame(rows)

    def _measure(self, sampled: SampledImage) -> dict[str, Any]:
        photograph, place = sampled.image, sampled.localization
        crops = self._namer.cut(photograph, place)
        index = self._explained(crops)
        turned = [self._namer.cut(turn(photograph, name), _turn_localization(place, name)) for name in TURNS]
        heatmap, *others = self._namer.explain([crops, *turned], [index] * (1 + len(turned)))
        scores = score_turns(heatmap.values, {name: other.values for name, other in zip(TURNS, others, strict=True)})
        crop = crops[0][0]
        box = crop.box
        if place.source is not MaskSource.WHOLE_IMAGE:
            energy = heatmap_in_lesion(heatmap, place, box)
            even = float(place.mask[box.top : box.bottom, box.left : box.right].mean())
        else:
            energy = even = None
        scores |= {"energy": np.nan if energy is None else energy, "even": np.nan if even is None else even}
        if len(crops) == 1:
            seed = int(sampled.sha256[:_SEED_DIGITS], 16)
            copies = alter_pixels(crop.pixels, heatmap.values, seed=seed)
            scores |= areas_under(self._probabilities([((replace(crop, pixels=pixels),),) for pixels in copies], index))
        return {"path": sampled.path, "sha256": sampled.sha256, "explained": self._namer.classes[index], **scores}

    def _explained(self, crops: Seen) -> int:
        if self._diagnosis is not None:
            return self._namer.classes.index(self._diagnosis)
        return int(self._namer([crops])[0].probs.argmax())

    def _probabilities(self, crops: list[Seen], index: int) -> NDArray[np.float64]:
        return np.array([answer.probs[index] for answer in self._namer(crops)])


def choose_sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Choose images by the order of their hashes, which their names and folders do not change.

    Args:
        rows: Images with the column `sha256`.
        count: Number of images at most.
    """
    return rows.sort_values("sha256").head(count)


def heatmap_metrics(table: pd.DataFrame, truth: GroundTruth, *, resamples: int) -> dict[str, Any]:
    """Compute the metrics of measured heatmaps, with intervals.

    Args:
        table: As `HeatmapTest.measure` gives it, with at least one row.
        truth: Lesion of each image by its `path`, over which the intervals are drawn.
        resamples: Number of bootstrap resamples.

    Returns:
        The part `heatmaps` of `metrics.json`. The energy of a class with fewer than 20 lesions has no interval.
    """
    paths, explained = list(table["path"]), list(table["explained"])
    columns = {name: table[name].to_numpy(np.float64) for name in table.columns.drop(["path", "sha256", "explained"])}
    lesions = truth.groups(paths)
    metrics = with_intervals(lambda weights: score_heatmaps(columns, explained, weights), lesions, resamples=resamples)
    for code in set(explained):
        if len({lesion for lesion, own in zip(lesions, explained, strict=True) if own == code}) < MIN_LESIONS:
            metrics[f"energy_gain_{code}"] |= {"low": None, "high": None}
    return {
        "images": len(table),
        "turns": list(TURNS),
        "intervals_over": truth.interval_unit(paths),
        "metrics": metrics,
        "component": "heatmap",
        "test_set": describe_test_set(list(table["sha256"]), [""] * len(table), dataset=truth.dataset, part=truth.part),
    }


def _turn_localization(place: Localization, name: str) -> Localization:
    mask = turn(place.mask, name)
    return replace(place, mask=mask, box=mask_box(mask))


def _read_row(run: Run, row: Mapping[Any, Any]) -> SampledImage:
    mask = run.mask(row["path"])
    place = Localization(mask, mask_box(mask), MaskSource(row["mask_source"]), ())
    return SampledImage(row["path"], row["sha256"], run.photograph(row["path"]), place)
