"""The bundles that are shipped: half-precision copies whose cards hold the figures of these very copies.

    python -m segpipe.evaluation.ship --data data/ham10000 --segmenter outputs/seg --classifier outputs/cls

takes the bundles and the split of two finished trainings, scores the copies end to end on the test split, and writes
`segmenter/`, `classifier/`, `split.csv` and the plots of the test, in `test/plots/`, into segpipe/weights.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.bundle import SHIPPED, load_classifier, load_segmenter, save_bundle
from segpipe.data.ham10000 import load_ham10000
from segpipe.data.splits import assign_parts, read_split, split_hash
from segpipe.errors import BundleError, CommandParser, run_command
from segpipe.evaluation.held_out import score_classifier
from segpipe.evaluation.score import PLOTS, headline, scored_card, segmenter_figures
from segpipe.inference.loading import choose_device
from segpipe.inference.pipeline import Locator
from segpipe.inference.tta import VIEWS

BATCH_SIZE = 8


def ship(*, data: Path, segmenter: Path, classifier: Path, output: Path) -> str:
    """Copy two trained bundles in half precision and score the copies; returns the main figures.

    Args:
        data: root of the data set that both were trained on.
        segmenter: output folder of train_seg.py.
        classifier: output folder of train_cls.py, which has the split too.
        output: where the copies go; those that stand there are replaced.

    Raises:
        BundleError: the two were not trained on one split.
        DatasetError: the data set or the split cannot be used.
    """
    split = read_split(classifier / "split.csv")
    unet, namer = load_segmenter(segmenter / "bundle"), load_classifier(classifier / "bundle")
    if {unet.card.training.split_hash, namer.card.training.split_hash} != {split_hash(split)}:
        raise BundleError(
            f"{segmenter} and {classifier} must be trained on one split, {classifier / 'split.csv'}; train one anew"
        )
    table = assign_parts(load_ham10000(str(data)).table, split)
    with tempfile.TemporaryDirectory() as scratch:
        save_bundle(Path(scratch, "segmenter"), unet.model, unet.card, half=True)
        save_bundle(Path(scratch, "classifier"), namer.model, namer.card, half=True)
        unet, namer = load_segmenter(Path(scratch, "segmenter")), load_classifier(Path(scratch, "classifier"))
        locator, test = Locator(unet, device=choose_device("auto")), table[table["part"] == "test"]
        metrics = score_classifier(locator, namer, test, Path(scratch, "run"), views=VIEWS["d4"], batch_size=BATCH_SIZE)
        # Beside the bundles, as a training leaves them; not those of the worst cases, which show photographs.
        (output / "test" / "plots").mkdir(parents=True, exist_ok=True)
        for name in PLOTS:
            shutil.copyfile(Path(scratch, "run", "plots", name), output / "test" / "plots" / name)
    save_bundle(output / "segmenter", unet.model, replace(unet.card, metrics=segmenter_figures(metrics)), half=True)
    save_bundle(output / "classifier", namer.model, scored_card(namer.card, metrics), half=True)
    shutil.copyfile(classifier / "split.csv", output / "split.csv")
    return headline(metrics)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = CommandParser(prog="python -m segpipe.evaluation.ship", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="root of HAM10000")
    parser.add_argument("--segmenter", type=Path, required=True, help="output folder of train_seg.py")
    parser.add_argument("--classifier", type=Path, required=True, help="output folder of train_cls.py")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="where the copies go (default: %(default)s)")
    return run_command(lambda: ship(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    sys.exit(main())
