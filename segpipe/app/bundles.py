"""Trained models on disk, and the plots of their tests; without Streamlit."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segpipe.io.files import read_json
from segpipe.io.run_files import CARD, JOURNAL, METRICS, PLOT_FOLDER, TEST, WEIGHTS

OUTPUTS = Path("outputs")  # default folder of trainings

# Captions by the name of the file in the plots of a test.
PLOTS = {
    "confusion_matrix": "Confusion matrix: predicted against true diagnosis",
    "roc": "ROC curves: sensitivity against false-positive rate",
    "reliability": "Reliability: observed accuracy against confidence",
    "precision_recall": "Precision-recall curves: positive predictive value against sensitivity",
}


@dataclass(frozen=True)
class FoundBundle:
    """A bundle below the searched folder.

    Attributes:
        kind: `segmenter` or `classifier`.
        label: Folder relative to the searched one, and the network.
        folder: Path of the bundle.
    """

    kind: str
    label: str
    folder: str


def find_bundles(folder: str | None) -> list[FoundBundle]:
    """Find the bundles below a folder, sorted by label.

    Args:
        folder: Folder to search; None searches `OUTPUTS`.
    """
    return sorted(_bundles_below(Path(folder or OUTPUTS)), key=lambda bundle: bundle.label)


def _bundles_below(root: Path) -> Iterator[FoundBundle]:
    for folder, folders, names in os.walk(root):
        if {CARD, WEIGHTS} <= set(names):
            bundle = _read_bundle(Path(folder, CARD), Path(folder).relative_to(root).as_posix())
            if bundle is not None:
                yield bundle
        # The results of a run hold no bundles, but may hold thousands of pictures.
        folders[:] = [] if JOURNAL in names else [name for name in folders if not name.startswith(".")]


def _read_bundle(card: Path, folder: str) -> FoundBundle | None:
    """Read kind and network from a card; None for an invalid card."""
    try:
        content = read_json(card)
        arguments = content["arguments"]
        return FoundBundle(content["kind"], f"{folder} ({arguments.get('name') or arguments['encoder']})", str(card.parent))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def weights_mtime(folder: str) -> int:
    """Modification time of a bundle's weights in nanoseconds, or 0."""
    try:
        return Path(folder, WEIGHTS).stat().st_mtime_ns
    except OSError:
        return 0


def find_plots(bundle: Path) -> dict[str, Path]:
    """Find the plots of a classifier's test beside its bundle.

    Args:
        bundle: Folder of the classifier.

    Returns:
        File of each plot by its caption; empty where the plots are missing or belong to another test.
    """
    test = bundle.parent / TEST
    plots = {title: path for name, title in PLOTS.items() if (path := test / PLOT_FOLDER / f"{name}.png").is_file()}
    return plots if plots and is_test_of(bundle, test) else {}


def is_test_of(bundle: Path, test: Path) -> bool:
    """Compare the test beside a bundle with the test on its card.

    Args:
        bundle: Folder of the classifier.
        test: Folder with `plots/` and, except beside the shipped bundles, `metrics.json`.
    """
    if not (test / METRICS).is_file():
        return True
    try:
        on_card = json.loads((bundle / CARD).read_text(encoding="utf-8"))["metrics"]
        measured = json.loads((test / METRICS).read_text(encoding="utf-8"))
        same_test: bool = (on_card["test_set"], on_card["pipeline"]) == (
            measured["classification"]["test_set"],
            measured["pipeline"],
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return same_test
