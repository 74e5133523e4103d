"""Metrics of two predictions side by side."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from segpipe.evaluation.changes import changes_table, measure_changes
from segpipe.metrics.segmentation import score_masks

pytestmark = pytest.mark.usefixtures("few_resamples")

FIRST = np.array([[0.9, 0.8], [0.8, 0.7], [0.7, 0.6], [0.9, 0.8]])
LESIONS = ["a", "b", "c", "c"]


def compared(second: Any) -> dict[str, Any]:
    metrics = {"start": partial(score_masks, *FIRST.T), "fine_tuned": partial(score_masks, *second.T)}
    return measure_changes(metrics, ("dice", "jaccard", "absent"), LESIONS)


def test_change_is_paired_over_the_same_resamples() -> None:
    changes = compared(FIRST + 0.05)
    assert set(changes) == {"dice", "jaccard"}
    dice = changes["dice"]
    assert (dice["start"]["value"], dice["fine_tuned"]["value"]) == pytest.approx((0.825, 0.875))
    assert dice["start"]["low"] < dice["start"]["high"]
    assert [dice["change"][key] for key in ("value", "low", "high")] == pytest.approx([0.05] * 3)


def test_table_has_a_row_for_each_metric_and_signed_changes() -> None:
    lines = changes_table({"images": 4, "metrics": compared(FIRST - 0.05)}).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["4 test images", "segmenter mean Dice", "segmenter mean Jaccard"]
    assert "before" in lines[0] and "after" in lines[0]
    assert lines[1].endswith("-0.050 (-0.050 to -0.050)")
    assert "0.825 (" in lines[1] and "0.775 (" in lines[1]
    assert len({line.index("0.") for line in lines[1:]}) == 1


def test_table_without_metrics_is_its_heading() -> None:
    assert changes_table({"images": 0, "metrics": {}}).startswith("0 test images")
