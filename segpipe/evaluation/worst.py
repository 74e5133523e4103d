"""The worst twenty cases as pictures: nothing tells sooner what a model has not learnt, or what is wrong with the labels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.evaluation.run import Run
from segpipe.io.images import read_mask
from segpipe.metrics.classification import Answers
from segpipe.report.masks import FOUND_COLOUR, PAIR_HEADING, Panel, draw_panels, panel_of_pair
from segpipe.report.wording import name_with_code, percent

CASES = 20


def draw_worst_answers(run: Run, scored: pd.DataFrame, answers: Answers) -> None:
    """Draw the images whose true diagnosis got the smallest probability, into `plots/worst.png`.

    Args:
        run: with the photographs.
        scored: its results that have a label.
        answers: for the same images, in the same order.
    """
    p_true = answers.probs[np.arange(len(answers.labels)), answers.labels]

    def panel(row: int) -> Panel:
        path, true, chosen = scored["path"].iloc[row], answers.labels[row], answers.chosen[row]
        return Panel(
            run.photograph(path),
            ((run.mask(path), FOUND_COLOUR),),
            (
                Path(scored["path"].iloc[row]).stem,
                f"true: {name_with_code(answers.codes[true])} {percent(p_true[row])}",
                f"answer: {name_with_code(answers.codes[chosen])} {percent(answers.confidence[row])}",
            ),
        )

    heading = "where the true diagnosis got the smallest probability; found outline in yellow"
    draw_panels(run.folder / "plots" / "worst.png", map(panel, _smallest(p_true)), heading=heading)


def draw_worst_masks(run: Run, scored: pd.DataFrame, true_masks: Mapping[str, Path], dices: NDArray[np.float64]) -> None:
    """Draw the images whose mask has the smallest Dice, into `plots/worst_masks.png`.

    Args:
        run: with the photographs.
        scored: its results that have a true mask.
        true_masks: file of each by image id.
        dices: of the same images, shape (N,), in the same order.
    """

    def panel(row: int) -> Panel:
        path, image_id, source = (scored[name].iloc[row] for name in ("path", "image_id", "mask_source"))
        title = f"{Path(path).stem}, Dice {dices[row]:.2f}, {source}"
        return panel_of_pair(run.photograph(path), run.mask(path), read_mask(true_masks[image_id]), title)

    heading = f"where the mask has the smallest Dice: {PAIR_HEADING}"
    draw_panels(run.folder / "plots" / "worst_masks.png", map(panel, _smallest(dices)), heading=heading)


def _smallest(values: NDArray[np.float64]) -> list[int]:
    return [int(row) for row in np.argsort(values, kind="stable")[:CASES]]
