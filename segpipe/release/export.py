"""Half-precision copies of two trained bundles, with the metrics of the copies.

Both are scored on the test split, end to end and the segmenter alone; their split and the plots of the test are written next to
the copies.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.folder import load_classifier, load_segmenter, save_bundle
from segpipe.data.check import CheckedDataset
from segpipe.data.splits import assign_parts, read_split, split_hash
from segpipe.errors import BundleError, OutputError
from segpipe.evaluation.heatmap_faithfulness import SAMPLE
from segpipe.evaluation.held_out import score_classifier
from segpipe.evaluation.score import PLOTS, Metrics, card_with_test_metrics, segmenter_test_metrics
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.evaluation.text import headline
from segpipe.inference.loading import choose_device
from segpipe.inference.localizer import Localizer
from segpipe.inference.tta import VIEWS
from segpipe.io.output import find_results
from segpipe.io.run_files import PLOT_FOLDER, SPLIT, TEST

BATCH_SIZE = 8


def export_bundles(
    load_data: Callable[[], CheckedDataset],
    *,
    segmenter: Path,
    classifier: Path,
    split: Path,
    output: Path,
    results: Path | None = None,
) -> str:
    """Copy two trained bundles in half precision, and score the copies.

    Args:
        load_data: Loader of the data set that both were trained on.
        segmenter: Bundle of the segmenter.
        classifier: Bundle of the classifier.
        split: Table of the split that both were trained on.
        output: Folder of the copies; existing copies are replaced, even if they are the bundles themselves.
        results: Folder for the run over the test split, with its masks and `metrics.json`; None keeps no run.

    Returns:
        Headline metrics of the copies.

    Raises:
        BundleError: The two were not trained on this split.
        DatasetError: The data set or the split cannot be used.
        OutputError: The output folder has the results of a training or of a run.
    """
    if existing := find_results(output):
        raise OutputError(f"output must hold no other results, got {output} with {', '.join(existing)}; name another folder")
    listed = read_split(split)
    unet, network = load_segmenter(segmenter), load_classifier(classifier)
    if {unet.card.training.split_hash, network.card.training.split_hash} != {split_hash(listed)}:
        raise BundleError(
            f"{segmenter} and {classifier} must be trained on one split, {split}; train one again on the split of the other"
        )
    dataset = load_data()
    table = assign_parts(dataset.table, listed)
    with tempfile.TemporaryDirectory() as scratch:
        run = results or Path(scratch, "run")
        save_bundle(Path(scratch, "segmenter"), unet.model, unet.card, half=True)
        save_bundle(Path(scratch, "classifier"), network.model, network.card, half=True)
        unet, network = load_segmenter(Path(scratch, "segmenter")), load_classifier(Path(scratch, "classifier"))
        metrics = _score(unet, network, table[table["part"] == "test"], run, dataset=dataset.name)
        # Without the worst cases, which show images of patients.
        (output / TEST / PLOT_FOLDER).mkdir(parents=True, exist_ok=True)
        for name in PLOTS:
            shutil.copyfile(run / PLOT_FOLDER / name, output / TEST / PLOT_FOLDER / name)
    save_bundle(output / "segmenter", unet.model, replace(unet.card, metrics=segmenter_test_metrics(metrics)), half=True)
    save_bundle(output / "classifier", network.model, card_with_test_metrics(network.card, metrics), half=True)
    if not (output / SPLIT).exists() or not split.samefile(output / SPLIT):
        shutil.copyfile(split, output / SPLIT)
    return headline(metrics)


def _score(unet: SegmenterBundle, network: ClassifierBundle, test: pd.DataFrame, run: Path, *, dataset: str) -> Metrics:
    """Score both end to end, and the segmenter alone in `segmenter/`."""
    localizer = Localizer(unet, device=choose_device("auto"))
    metrics = score_classifier(
        localizer, network, test, run, views=VIEWS["d4"], batch_size=BATCH_SIZE, dataset=dataset, heatmaps=SAMPLE
    )
    alone = score_segmenter(unet, test, run / "segmenter", dataset=dataset)
    return metrics | {"segmenter_alone": alone["segmenter_alone"]}
