"""The table of the README, from the files that runs wrote.

python -m segpipe.evaluation.table "U-Net=docs/results/unet.json" "contour alone=docs/results/contour.json"
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from segpipe.evaluation.score import Metrics

ROWS = (
    ("segmentation", "dice", "mean Dice"),
    ("segmentation", "thresholded_jaccard", "thresholded Jaccard (below 0.65 counts 0)"),
    ("classification", "macro_auroc", "macro AUROC"),
    ("classification", "balanced_accuracy", "balanced accuracy"),
    ("classification", "sensitivity_mel", "melanoma sensitivity"),
    ("classification", "specificity_mel", "melanoma specificity"),
    ("classification", "accuracy", "accuracy"),
    ("classification", "majority_baseline", "accuracy of always naming the commonest"),
    ("classification", "ece", "expected calibration error"),
)


def results_table(columns: Mapping[str, Metrics]) -> str:
    """Figures with their intervals as a Markdown table.

    Args:
        columns: what `metrics.json` of each run holds, by the title of its column.
    """
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for part, name, title in ROWS:
        figures = (_figure(metrics[part]["metrics"][name]) for metrics in columns.values())
        lines.append(f"| {title} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _figure(figure: Mapping[str, float | None]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
    return "none" if value is None else f"{value:.3f}{interval}"


def main(arguments: Sequence[str]) -> int:
    """Print the table of the files named as TITLE=FILE; returns the exit status."""
    named = [argument.partition("=") for argument in arguments]
    sys.stdout.write(results_table({title: json.loads(Path(file).read_text()) for title, _, file in named}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
