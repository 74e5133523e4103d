"""Faithfulness test of heatmaps, in one view, on a sample of images."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.bundle.card_file import SHIPPED
from segpipe.errors import PredictionError
from segpipe.evaluation.heatmap_metrics import heatmap_metrics, heatmap_table
from segpipe.evaluation.run import Run
from segpipe.evaluation.text import images_text
from segpipe.evaluation.truth import GroundTruth, read_truth
from segpipe.inference.ensemble import ClassifierEnsemble, EnsembleCrops
from segpipe.inference.heatmap import heatmap_in_lesion
from segpipe.inference.resources import default_batch_size
from segpipe.inference.runtimes import Runtime
from segpipe.inference.stages import Localizer
from segpipe.inference.tta import VIEWS
from segpipe.io.files import display_path
from segpipe.io.images import read_image
from segpipe.io.passes import follow
from segpipe.io.storage import content_hash
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.metrics.heatmaps import TURNS, alter_pixels, areas_under, score_turns, turn
from segpipe.runs.source import images_of_folder
from segpipe.types import RgbImage, mask_box

SAMPLE = 200  # images
RESAMPLES = 1000
_SEED_DIGITS = 8  # of a hash


@dataclass(frozen=True)
class HeatmapSample:
    """Images that heatmaps are tested on.

    Attributes:
        folder: Folder of images, searched with its subfolders.
        split: Table of the split, which also gives the lesions; None takes all images.
        part: Part of the split.
        images: Largest number of images, 1 or more.
        segmenter: Bundle of the segmenter.
        runtime: Runtime of the networks, see `segpipe.inference.runtimes.Runtime`.
        device: Device of the networks, see `segpipe.inference.resources.choose_device`.
    """

    folder: Path
    split: Path | None = None
    part: str | None = None
    images: int = SAMPLE
    segmenter: Path = SHIPPED / "segmenter"
    runtime: str = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class SampledImage:
    """Image of the sample with its lesion.

    Attributes:
        path: Path of the image in the results.
        sha256: SHA-256 of its file.
        image: RGB uint8, shape (H, W, 3).
        localization: Lesion in the image.
    """

    path: str
    sha256: str
    image: RgbImage
    localization: Localization


class HeatmapTest:
    """Faithfulness test of the heatmaps of a classifier.

    Each image is turned together with its mask, and the crop is cut from the turned image, so that the test is of the classifier
    and not of the segmenter. All heatmaps of an image explain one class: `diagnosis`, or the most probable one in one view.

    Args:
        ensemble: Classifiers to test; several ones are explained together and get no deletion and insertion, because their crops
            differ.
        sample: Largest number of images, 1 or more.
        diagnosis: Code of the class to explain; None for the predicted one.
    """

    def __init__(self, ensemble: ClassifierEnsemble, *, sample: int = SAMPLE, diagnosis: str | None = None) -> None:
        self._ensemble = ensemble.in_one_view()
        self._sample = sample
        self._diagnosis = diagnosis

    @classmethod
    def of(cls, ensemble: ClassifierEnsemble, *, method: str, sample: int, diagnosis: str | None) -> "HeatmapTest | None":
        """Make the test of a run.

        Args:
            ensemble: Classifiers to test.
            method: Method of the heatmaps, `none` for no heatmaps.
            sample: Largest number of images; 0 for no test.
            diagnosis: Code of the class to explain; None for the predicted one.

        Returns:
            Test, or None without heatmaps or without a sample.
        """
        return None if method == "none" or sample == 0 else cls(ensemble, sample=sample, diagnosis=diagnosis)

    def __call__(self, run: Run) -> pd.DataFrame:
        """Measure a sample of the images of a run.

        Args:
            run: Results with available image files.

        Returns:
            Table of `measure`.
        """
        with_file = run.results[run.results["path"].isin(run.image_files)].drop_duplicates("sha256")
        rows = choose_sample(with_file, self._sample)
        return self.measure((_read_row(run, row) for row in rows.to_dict("records")), len(rows))

    def measure(self, images: Iterable[SampledImage], count: int) -> pd.DataFrame:
        """Measure images one by one, except those with a non-finite prediction.

        Args:
            images: Images of the sample.
            count: Number of images, for the progress bar.

        Returns:
            `path`, `sha256`, `explained` of each image, and the columns of `segpipe.metrics.heatmaps.score_heatmaps`.
        """
        rows: list[dict[str, Any]] = []
        for image in follow(images, count, "testing heatmaps"):
            with suppress(PredictionError):
                rows.append(self._measure(image))
        return pd.DataFrame(rows)

    def _measure(self, sampled: SampledImage) -> dict[str, Any]:
        image, localization = sampled.image, sampled.localization
        crops = self._ensemble.cut(image, localization)
        index = self._explained(crops)
        turned = [self._ensemble.cut(turn(image, name), _turn_localization(localization, name)) for name in TURNS]
        heatmap, *others = self._ensemble.explain([crops, *turned], [index] * (1 + len(turned)))
        scores = score_turns(heatmap.values, {name: other.values for name, other in zip(TURNS, others, strict=True)})
        crop = crops[0][0]
        box = crop.box
        if localization.source is not MaskSource.WHOLE_IMAGE:
            energy = heatmap_in_lesion(heatmap, localization.mask, box)
            even = float(localization.mask[box.slices()].mean())
        else:
            energy = even = None
        scores |= {"energy": np.nan if energy is None else energy, "even": np.nan if even is None else even}
        if len(crops) == 1:
            seed = int(sampled.sha256[:_SEED_DIGITS], 16)
            copies = alter_pixels(crop.pixels, heatmap.values, seed=seed)
            scores |= areas_under(self._probabilities([((replace(crop, pixels=pixels),),) for pixels in copies], index))
        return {"path": sampled.path, "sha256": sampled.sha256, "explained": self._ensemble.classes[index], **scores}

    def _explained(self, crops: EnsembleCrops) -> int:
        if self._diagnosis is not None:
            return self._ensemble.classes.index(self._diagnosis)
        return int(self._ensemble([crops])[0].probs.argmax())

    def _probabilities(self, crops: list[EnsembleCrops], index: int) -> NDArray[np.float64]:
        return np.array([prediction.probs[index] for prediction in self._ensemble(crops)])


def choose_sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Choose images by the order of their hashes.

    The sample is independent of names and folders.

    Args:
        rows: Images with the column `sha256`.
        count: Largest number of images.
    """
    return rows.sort_values("sha256").head(count)


def score_bundles(bundles: Mapping[str, Path], sample: HeatmapSample) -> dict[str, Any]:
    """Test the heatmaps of several classifiers on the same images.

    Args:
        bundles: Folders of the bundles by title.
        sample: Images.

    Returns:
        Part `heatmaps` of `metrics.json` by title, with the SHA-256 of the weights of `classifier` and `segmenter`.

    Raises:
        PredictionError: A classifier gives finite numbers for none of the images.
        BundleError: A bundle cannot be used.
        ConfigError: The folder or the device cannot be used.
        DatasetError: The split cannot be used.
    """
    runtime = Runtime.of(sample.runtime, device=sample.device)
    segmenter = runtime.load_segmenter(sample.segmenter)
    classifiers = {title: runtime.load_classifiers([folder])[0] for title, folder in bundles.items()}
    rows, truth = _choose(sample)
    localizer, results = Localizer(segmenter), {}
    for title, network in classifiers.items():
        batch_size = default_batch_size(runtime.device)
        ensemble = ClassifierEnsemble([network], views=VIEWS["none"], explained=None, batch_size=batch_size)
        table = HeatmapTest(ensemble).measure(_read(rows, localizer), len(rows))
        if table.empty:
            raise PredictionError(f"{title}: the classifier must give finite numbers for at least one image, got none")
        part = heatmap_metrics(table, truth, resamples=RESAMPLES)
        results[title] = {"classifier": network.sha256, "segmenter": segmenter.sha256, **part}
    return results


def results_text(results: Mapping[str, Any]) -> str:
    """Write the results of `score_bundles` as a table, with their images below."""
    first = next(iter(results.values()))
    images = f"{images_text(first)}; 95 % bootstrap intervals over {first['intervals_over']}s"
    return f"{heatmap_table(results)}\n\n{images}"


def _choose(sample: HeatmapSample) -> tuple[pd.DataFrame, GroundTruth]:
    """List path, file and hash of the sampled images, with ground truth."""
    source = images_of_folder(sample.folder, split=sample.split, part=sample.part)
    files = [(display_path(relative), file, str(content_hash(file))) for file, relative in source.files]
    rows = pd.DataFrame(files, columns=["path", "file", "sha256"]).drop_duplicates("sha256")
    truth = read_truth(labels=None, masks=None, split=sample.split).match_images(source.by_path)
    return choose_sample(rows, sample.images), replace(truth, dataset=sample.folder.resolve().name, part=sample.part)


def _read(rows: pd.DataFrame, localizer: Localizer) -> Iterator[SampledImage]:
    for row in rows.to_dict("records"):
        image = read_image(row["file"])
        yield SampledImage(row["path"], row["sha256"], image, localizer([image])[0])


def _turn_localization(localization: Localization, name: str) -> Localization:
    mask = turn(localization.mask, name)
    return replace(localization, mask=mask, box=mask_box(mask))


def _read_row(run: Run, row: Mapping[Any, Any]) -> SampledImage:
    mask = run.read_mask(row["path"])
    localization = Localization(mask, mask_box(mask), MaskSource(row["mask_source"]), ())
    return SampledImage(row["path"], row["sha256"], run.read_image(row["path"]), localization)
