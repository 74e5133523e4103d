"""Half-precision copies of trained bundles, with graphs and metrics.

Both are scored on the test split, end to end and the segmenter alone; their split and the plots of the test are written next to
the copies. Graphs can also be added to a bundle where it is.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.bundle.card import Card, ClassifierCard, SegmenterBundle
from segpipe.bundle.folder import load_bundle, load_classifier, load_segmenter
from segpipe.bundle.saving import save_bundle, save_reference
from segpipe.config import SAMPLES
from segpipe.config.prediction import PARTS
from segpipe.config.training_groups import COVERAGE
from segpipe.data.check import CheckedDataset
from segpipe.data.duplicates import hash_id
from segpipe.data.splits import assign_parts, read_split, split_hash
from segpipe.errors import BundleError, OutputError
from segpipe.evaluation.gate import fit_gate, has_enough_images
from segpipe.evaluation.heatmap_faithfulness import SAMPLE
from segpipe.evaluation.held_out import score_classifier
from segpipe.evaluation.score import PLOTS, Metrics, card_with_test_metrics, segmenter_test_metrics
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.evaluation.similar import fit_similar
from segpipe.evaluation.text import headline
from segpipe.inference.gate import Gate
from segpipe.inference.golden import write_classifier_golden, write_segmenter_golden
from segpipe.inference.networks import ClassifierNetwork, SegmenterNetwork
from segpipe.inference.similar import SimilarIndex
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image, read_mask
from segpipe.io.output import find_results
from segpipe.io.run_files import GATE, PLOT_FOLDER, SIMILAR, SPLIT, TEST
from segpipe.lesion.crop import cut_lesion, resize_square
from segpipe.release.graphs import Images, add_graphs, build_graphs, write_graphs
from segpipe.types import BoolMask, RgbImage, mask_box

BATCH_SIZE = 8
PARITY_IMAGES = 32  # test images on which the graphs are compared with PyTorch


def export_bundles(
    load_data: Callable[[], CheckedDataset],
    *,
    segmenter: Path,
    classifier: Path,
    split: Path,
    output: Path,
    results: Path | None = None,
) -> str:
    """Copy two bundles in half precision with graphs, and score them.

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
        BundleError: The two were not trained on this split, or a network cannot be exported.
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
        card = upgrade_card(network.card, listed, coverage=COVERAGE)
        save_bundle(Path(scratch, "classifier"), network.model, card, half=True)
        unet, network = load_segmenter(Path(scratch, "segmenter")), load_classifier(Path(scratch, "classifier"))
        train, val, test = (table[table["part"] == part] for part in PARTS)
        runs = TorchSegmenter(unet), TorchClassifier(network)
        gate = fit_gate(runs[0], train, val) if has_enough_images(train, val) else None
        similar = fit_similar(Localizer(runs[0]), runs[1], train)
        images = [read_image(path) for path in test["image_path"][:PARITY_IMAGES]]
        masks = [found.mask for found in Localizer(runs[0])(images)]
        graphs = {
            kind: build_graphs(
                Path(scratch, kind), network_inputs(bundle.card, images, masks), source=f"{dataset.name}, test split"
            )
            for kind, bundle in (("segmenter", unet), ("classifier", network))
        }
        checks: dict[str, Any] = {
            "gate": Gate(None if gate is None else gate.reference),
            "index": SimilarIndex(similar, network.card.classes),
        }
        metrics = _score(*runs, test, run, dataset=dataset.name, **checks)
        # Without the worst cases, which show images of patients.
        (output / TEST / PLOT_FOLDER).mkdir(parents=True, exist_ok=True)
        for name in PLOTS:
            shutil.copyfile(run / PLOT_FOLDER / name, output / TEST / PLOT_FOLDER / name)
    cards = replace(unet.card, metrics=segmenter_test_metrics(metrics)), card_with_test_metrics(network.card, metrics)
    save_bundle(output / "segmenter", unet.model, cards[0], half=True)
    save_bundle(output / "classifier", network.model, cards[1], half=True)
    source = f"{dataset.name}, training part"
    if gate is not None:
        save_reference(output / "segmenter", GATE, cards[0], gate.reference, images=gate.images, source=source)
    save_reference(output / "classifier", SIMILAR, cards[1], similar, images=len(similar.arrays["points"]), source=source)
    for kind, built in graphs.items():
        write_graphs(output / kind, built)
    write_segmenter_golden(output / "segmenter", runs[0])
    write_classifier_golden(output / "classifier", runs[1])
    if not (output / SPLIT).exists() or not split.samefile(output / SPLIT):
        shutil.copyfile(split, output / SPLIT)
    return headline(metrics)


def export_in_place(folder: Path) -> str:
    """Add graphs and golden outputs to a bundle.

    The graphs are compared with PyTorch on the generated samples.

    Args:
        folder: Folder of the bundle.

    Returns:
        A line for each graph with its largest difference.

    Raises:
        BundleError: The bundle cannot be loaded, or its network cannot be exported; nothing is written.
    """
    photographs = sorted(SAMPLES.glob("*.jpg"))
    images = [read_image(path) for path in photographs]
    masks = [read_mask(path.parent / "masks" / f"{path.stem}_segmentation.png") for path in photographs]
    bundle = load_bundle(folder)
    records = add_graphs(folder, network_inputs(bundle.card, images, masks), source="generated samples of segpipe")
    if isinstance(bundle, SegmenterBundle):
        write_segmenter_golden(folder, TorchSegmenter(bundle, "cpu"))
    else:
        write_classifier_golden(folder, TorchClassifier(bundle, "cpu"))
    return "\n".join(
        f"{folder / name}: differs from PyTorch by at most {record.largest_difference:.1g}" for name, record in records.items()
    )


def upgrade_card(card: ClassifierCard, split: pd.DataFrame, *, coverage: float) -> ClassifierCard:
    """Add prediction sets to the card of an older version.

    Args:
        card: Card of a classifier; one with prediction sets, or without validation probabilities, is returned as it is.
        split: Split of its training: `image_id` and `lesion_id`, which the card did not keep.
        coverage: Coverage of the prediction sets, in (0, 1).
    """
    if card.conformal is not None or card.validation is None:
        return card
    lesion_of = {hash_id(image): hash_id(lesion) for image, lesion in zip(split["image_id"], split["lesion_id"], strict=True)}
    lesions = "".join(lesion_of.get(image, image) for image in card.validation.image_hashes)
    return replace(card, validation=replace(card.validation, lesions=lesions)).with_prediction_sets(coverage)


def network_inputs(card: Card, images: Sequence[RgbImage], masks: Sequence[BoolMask]) -> Images:
    """Prepare images as the pipeline does for a network.

    Args:
        card: Card of the network.
        images: RGB uint8, each of any size (H, W, 3).
        masks: Lesion mask of each image, bool, (H, W), not empty.

    Returns:
        RGB uint8, shape (N, size, size, 3).
    """
    size = card.input.size
    if not isinstance(card, ClassifierCard):
        return np.stack([resize_square(image, size) for image in images])
    cut = [cut_lesion(image, mask, mask_box(mask), card.crop, size=size) for image, mask in zip(images, masks, strict=True)]
    return np.stack([pixels for _, pixels in cut])


def _score(
    segmenter: SegmenterNetwork, classifier: ClassifierNetwork, test: pd.DataFrame, run: Path, *, dataset: str, **checks: Any
) -> Metrics:
    """Score both end to end, and the segmenter alone in `segmenter/`."""
    options = {"views": VIEWS["d4"], "batch_size": BATCH_SIZE, "dataset": dataset, "heatmaps": SAMPLE, **checks}
    metrics = score_classifier(Localizer(segmenter), classifier, test, run, **options)
    alone = score_segmenter(segmenter, test, run / "segmenter", dataset=dataset)
    return metrics | {"segmenter_alone": alone["segmenter_alone"]}
