"""Faithfulness of the heatmaps of one or more classifiers, on a sample of images; docs/heatmaps.md defines the metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from segpipe.bundle.folder import SHIPPED, load_classifier, load_segmenter
from segpipe.errors import PredictionError
from segpipe.evaluation.headline import images_text
from segpipe.evaluation.heatmap_sample import SAMPLE, HeatmapTest, SampledImage, choose_sample, heatmap_metrics
from segpipe.evaluation.table import figure_text, markdown_table
from segpipe.evaluation.truth import GroundTruth, read_truth
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.loading import choose_device, default_batch_size
from segpipe.inference.pipeline import Locator
from segpipe.inference.tta import VIEWS
from segpipe.io.images import display_path, read_image
from segpipe.io.storage import content_hash
from segpipe.runs.source import images_of_folder

RESAMPLES = 1000
ROWS = {
    "follow": "follow",
    "stay": "stay",
    "symmetry": "symmetry",
    "stays_more": "fraction of images that stay more than they follow",
    "energy_in_mask": "energy in the lesion",
    "energy_even": "energy in the lesion, even map",
    "energy_gain": "energy gain",
    "deletion": "deletion",
    "deletion_center": "deletion, centered map",
    "insertion": "insertion",
    "insertion_center": "insertion, centered map",
    "random_order": "deletion and insertion, random map",
    "deletion_gain_over_center": "deletion gain over the centered map",
    "deletion_gain_over_random": "deletion gain over a random map",
    "insertion_gain_over_center": "insertion gain over the centered map",
    "insertion_gain_over_random": "insertion gain over a random map",
}
_GAIN = "energy_gain"


def heatmap_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the metrics of heatmaps as a Markdown table.

    Args:
        columns: Part `heatmaps` of `metrics.json` by the title of its column.
    """
    metrics = [part["metrics"] for part in columns.values()]
    rows: list[list[str]] = []
    for name, title in ROWS.items():
        if any(name in of_column for of_column in metrics):
            rows.append([title, *(figure_text(of_column[name]) if name in of_column else "" for of_column in metrics)])
        if name == _GAIN:
            rows += _class_rows(metrics)
    return markdown_table(["", *columns], rows)


def _class_rows(metrics: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    codes = {name.removeprefix(f"{_GAIN}_"): None for of_column in metrics for name in of_column if name.startswith(f"{_GAIN}_")}
    for code in codes:
        cells = (
            f"{figure_text(of_column[f'{_GAIN}_{code}'])}, n = {of_column[f'images_{code}']['value']}"
            if f"{_GAIN}_{code}" in of_column
            else ""
            for of_column in metrics
        )
        yield [f"energy gain where {code} is explained", *cells]


@dataclass(frozen=True)
class Sample:
    """The images that heatmaps are tested on.

    Attributes:
        folder: Folder of images, searched with its subfolders.
        split: Table of the split, from which the lesions are known too; None takes all images.
        part: Part of the split.
        images: Number of images at most, 1 or more.
        segmenter: Bundle of the segmenter.
        device: Device of the networks, see `segpipe.inference.loading.choose_device`.
    """

    folder: Path
    split: Path | None = None
    part: str | None = None
    images: int = SAMPLE
    segmenter: Path = SHIPPED / "segmenter"
    device: str = "auto"


def score_bundles(bundles: Mapping[str, Path], sample: Sample) -> dict[str, Any]:
    """Test the heatmaps of several classifiers on the same images.

    Args:
        bundles: Folders of the bundles by title.
        sample: Images.

    Returns:
        Part `heatmaps` of `metrics.json` by title, with the SHA-256 of the weights of `classifier` and `segmenter`.

    Raises:
        AnswerError: A classifier gives finite numbers for none of the images.
        BundleError: A bundle cannot be used.
        ConfigError: The folder or the device cannot be used.
        DatasetError: The split cannot be used.
    """
    device = choose_device(sample.device)
    segmenter = load_segmenter(sample.segmenter)
    classifiers = {title: load_classifier(folder) for title, folder in bundles.items()}
    rows, truth = _choose(sample)
    locator, results = Locator(segmenter, device=device), {}
    for title, bundle in classifiers.items():
        batch_size = default_batch_size(device.type)
        ensemble = ClassifierEnsemble([bundle], device=device, views=VIEWS["none"], explained=None, batch_size=batch_size)
        table = HeatmapTest(ensemble).measure(_read(rows, locator), len(rows))
        if table.empty:
            raise PredictionError(f"{title}: the classifier must give finite numbers for one image at least, got none")
        part = heatmap_metrics(table, truth, resamples=RESAMPLES)
        results[title] = {"classifier": bundle.sha256, "segmenter": segmenter.sha256, **part}
    return results


def results_text(results: Mapping[str, Any]) -> str:
    """Write what `score_bundles` returns as a table, with the images and the unit of the intervals under it."""
    first = next(iter(results.values()))
    images = f"{images_text(first)}; 95 % bootstrap intervals over {first['intervals_over']}s"
    return f"{heatmap_table(results)}\n\n{images}"


def _choose(sample: Sample) -> tuple[pd.DataFrame, GroundTruth]:
    """Path, file and hash of the images of a sample, and what is known of them."""
    source = images_of_folder(sample.folder, split=sample.split, part=sample.part)
    files = [(display_path(relative), file, str(content_hash(file))) for file, relative in source.files]
    rows = pd.DataFrame(files, columns=["path", "file", "sha256"]).drop_duplicates("sha256")
    truth = read_truth(labels=None, masks=None, split=sample.split).of_images(source.by_path)
    return choose_sample(rows, sample.images), replace(truth, dataset=sample.folder.resolve().name, part=sample.part)


def _read(rows: pd.DataFrame, locator: Locator) -> Iterator[SampledImage]:
    for row in rows.to_dict("records"):
        image = read_image(row["file"])
        yield SampledImage(row["path"], row["sha256"], image, locator([image])[0])
