"""The bundles that are shipped: half-precision copies whose cards hold the metrics of these very copies.

    python -m segpipe.evaluation.ship --data data/ham10000 --segmenter outputs/seg --classifier outputs/cls

takes the bundles and the split of two finished trainings, scores the copies on the test split (both end to end, and the segmenter
alone), and writes `segmenter/`, `classifier/`, `split.csv` and the plots of the test, in `test/plots/`, into segpipe/weights.
Without --segmenter and --classifier the bundles that stand there are scored again, and only the metrics on their cards change.
With --results the run over the test split is kept there, with its `metrics.json`.
"""

import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from segpipe.bundle import SHIPPED, ClassifierBundle, SegmenterBundle, load_classifier, load_segmenter, save_bundle
from segpipe.data.ham10000 import load_ham10000
from segpipe.data.splits import assign_parts, read_split, split_hash
from segpipe.errors import BundleError, CommandParser, ConfigError, run_command
from segpipe.evaluation.headline import headline
from segpipe.evaluation.heatmap_sample import SAMPLE
from segpipe.evaluation.held_out import score_classifier
from segpipe.evaluation.score import PLOTS, Metrics, scored_card, segmenter_figures
from segpipe.evaluation.segmenter_alone import score_segmenter
from segpipe.inference.loading import choose_device
from segpipe.inference.pipeline import Locator
from segpipe.inference.tta import VIEWS

BATCH_SIZE = 8


def ship(*, data: Path, segmenter: Path, classifier: Path, split: Path, output: Path, results: Path | None = None) -> str:
    """Copy two trained bundles in half precision and score the copies; returns the headline.

    Args:
        data: root of the data set that both were trained on.
        segmenter: bundle of the segmenter.
        classifier: bundle of the classifier.
        split: table that both were trained on.
        output: where the copies go; those that stand there are replaced, also where they are the bundles themselves.
        results: takes the run over the test split, with its masks and `metrics.json`; None keeps neither.

    Raises:
        BundleError: the two were not trained on this split.
        DatasetError: the data set or the split cannot be used.
    """
    listed = read_split(split)
    unet, namer = load_segmenter(segmenter), load_classifier(classifier)
    if {unet.card.training.split_hash, namer.card.training.split_hash} != {split_hash(listed)}:
        raise BundleError(f"{segmenter} and {classifier} must be trained on one split, {split}; train one anew")
    dataset = load_ham10000(str(data))
    table = assign_parts(dataset.table, listed)
    with tempfile.TemporaryDirectory() as scratch:
        run = results or Path(scratch, "run")
        save_bundle(Path(scratch, "segmenter"), unet.model, unet.card, half=True)
        save_bundle(Path(scratch, "classifier"), namer.model, namer.card, half=True)
        unet, namer = load_segmenter(Path(scratch, "segmenter")), load_classifier(Path(scratch, "classifier"))
        metrics = _score(unet, namer, table[table["part"] == "test"], run, dataset=dataset.name)
        # Beside the bundles, as a training leaves them; not those of the worst cases, which show photographs.
        (output / "test" / "plots").mkdir(parents=True, exist_ok=True)
        for name in PLOTS:
            shutil.copyfile(run / "plots" / name, output / "test" / "plots" / name)
    save_bundle(output / "segmenter", unet.model, replace(unet.card, metrics=segmenter_figures(metrics)), half=True)
    save_bundle(output / "classifier", namer.model, scored_card(namer.card, metrics), half=True)
    if not (output / "split.csv").exists() or not split.samefile(output / "split.csv"):
        shutil.copyfile(split, output / "split.csv")
    return headline(metrics)


def _score(unet: SegmenterBundle, namer: ClassifierBundle, test: pd.DataFrame, run: Path, *, dataset: str) -> Metrics:
    """Score both end to end, into the folder of a run, and the segmenter alone, into `segmenter/` in it."""
    locator = Locator(unet, device=choose_device("auto"))
    metrics = score_classifier(
        locator, namer, test, run, views=VIEWS["d4"], batch_size=BATCH_SIZE, dataset=dataset, heatmaps=SAMPLE
    )
    alone = score_segmenter(unet, test, run / "segmenter", dataset=dataset)
    return metrics | {"segmenter_alone": alone["segmenter_alone"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = CommandParser(prog="python -m segpipe.evaluation.ship", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="root of HAM10000")
    parser.add_argument("--segmenter", type=Path, help="output folder of train_seg.py (default: the bundles of --output)")
    parser.add_argument("--classifier", type=Path, help="output folder of train_cls.py (default: the bundles of --output)")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="where the copies go (default: %(default)s)")
    parser.add_argument("--results", type=Path, help="keep the run over the test split in this folder (default: it is not kept)")

    def work() -> str:
        given = parser.parse_args(arguments)
        if (given.segmenter is None) != (given.classifier is None):
            raise ConfigError("--segmenter and --classifier must be given together, or neither, to score the bundles of --output")
        return ship(data=given.data, output=given.output, results=given.results, **_sources(given))

    return run_command(work)


def _sources(given: Namespace) -> dict[str, Path]:
    """Bundles and split of a call: those of two trainings, or those that are shipped already."""
    if given.segmenter is None:
        return {
            "segmenter": given.output / "segmenter",
            "classifier": given.output / "classifier",
            "split": given.output / "split.csv",
        }
    split = given.classifier / "split.csv"
    return {"segmenter": given.segmenter / "bundle", "classifier": given.classifier / "bundle", "split": split}


if __name__ == "__main__":
    sys.exit(main())
