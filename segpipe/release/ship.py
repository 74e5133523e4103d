"""Half-precision copies of two trained bundles, whose cards hold the metrics of these very copies.

Both are scored on the test split, end to end and the segmenter alone; beside the copies go their split and the plots of the test.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from segpipe.bundle.folder import ClassifierBundle, SegmenterBundle, load_classifier, load_segmenter, save_bundle
from segpipe.data.check import CheckedDataset
from segpipe.data.splits import assign_parts, read_split, split_hash
from segpipe.errors import BundleError, OutputError
from segpipe.evaluation.headline import headline
from segpipe.evaluation.heatmap_sample import SAMPLE
from segpipe.evaluation.held_out import score_classifier
from segpipe.evaluation.score import PLOTS, Metrics, scored_card, segmenter_figures
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.inference.loading import choose_device
from segpipe.inference.pipeline import Locator
from segpipe.inference.tta import VIEWS
from segpipe.io.output import find_results

BATCH_SIZE = 8


def ship(
    load_data: Callable[[], CheckedDataset],
    *,
    segmenter: Path,
    classifier: Path,
    split: Path,
    output: Path,
    results: Path | None = None,
) -> str:
    """Copy two trained bundles in half precision and score the copies; returns the headline.

    Args:
        load_data: Loader of the data set that both were trained on.
        segmenter: bundle of the segmenter.
        classifier: bundle of the classifier.
        split: table that both were trained on.
        output: where the copies go; those that stand there are replaced, also where they are the bundles themselves.
        results: takes the run over the test split, with its masks and `metrics.json`; None keeps neither.

    Raises:
        BundleError: the two were not trained on this split.
        DatasetError: the data set or the split cannot be used.
        OutputError: the output folder is that of a training or of a run.
    """
    if found := find_results(output):
        raise OutputError(f"output must hold no other results, got {output} with {', '.join(found)}; name another folder")
    listed = read_split(split)
    unet, ensemble = load_segmenter(segmenter), load_classifier(classifier)
    if {unet.card.training.split_hash, ensemble.card.training.split_hash} != {split_hash(listed)}:
        raise BundleError(f"{segmenter} and {classifier} must be trained on one split, {split}; train one anew")
    dataset = load_data()
    table = assign_parts(dataset.table, listed)
    with tempfile.TemporaryDirectory() as scratch:
        run = results or Path(scratch, "run")
        save_bundle(Path(scratch, "segmenter"), unet.model, unet.card, half=True)
        save_bundle(Path(scratch, "classifier"), ensemble.model, ensemble.card, half=True)
        unet, ensemble = load_segmenter(Path(scratch, "segmenter")), load_classifier(Path(scratch, "classifier"))
        metrics = _score(unet, ensemble, table[table["part"] == "test"], run, dataset=dataset.name)
        # Beside the bundles, as a training leaves them; not those of the worst cases, which show photographs.
        (output / "test" / "plots").mkdir(parents=True, exist_ok=True)
        for name in PLOTS:
            shutil.copyfile(run / "plots" / name, output / "test" / "plots" / name)
    save_bundle(output / "segmenter", unet.model, replace(unet.card, metrics=segmenter_figures(metrics)), half=True)
    save_bundle(output / "classifier", ensemble.model, scored_card(ensemble.card, metrics), half=True)
    if not (output / "split.csv").exists() or not split.samefile(output / "split.csv"):
        shutil.copyfile(split, output / "split.csv")
    return headline(metrics)


def _score(unet: SegmenterBundle, ensemble: ClassifierBundle, test: pd.DataFrame, run: Path, *, dataset: str) -> Metrics:
    """Score both end to end, into the folder of a run, and the segmenter alone, into `segmenter/` in it."""
    locator = Locator(unet, device=choose_device("auto"))
    metrics = score_classifier(
        locator, ensemble, test, run, views=VIEWS["d4"], batch_size=BATCH_SIZE, dataset=dataset, heatmaps=SAMPLE
    )
    alone = score_segmenter(unet, test, run / "segmenter", dataset=dataset)
    return metrics | {"segmenter_alone": alone["segmenter_alone"]}
