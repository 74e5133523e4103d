"""Metrics of prediction sets: six images counted by hand, undefined metrics, reading of the column."""

import numpy as np
import pytest

from segpipe.metrics.conformal import SetMetrics, read_sets

CODES = ("mel", "nv", "bcc", "df")
TRUE_CODES = ["mel", "mel", "nv", "nv", "nv", "bcc"]
SETS = ["mel;nv", "nv", "nv", "nv;mel;bcc", "mel", "bcc"]
LABELS = np.array([CODES.index(code) for code in TRUE_CODES])


def metrics() -> SetMetrics:
    members = read_sets(SETS, CODES)
    assert members is not None
    return SetMetrics(members, LABELS, CODES)


def test_metrics_counted_by_hand() -> None:
    assert metrics()(np.ones(6, np.intp)) == pytest.approx(
        {
            "coverage": 4 / 6,
            "macro_coverage": (1 / 2 + 2 / 3 + 1) / 3,
            "coverage_mel": 1 / 2,
            "coverage_nv": 2 / 3,
            "coverage_bcc": 1,
            "coverage_df": None,
            "set_size": 9 / 6,
            "single_label": 4 / 6,
        }
    )


def test_weights_count_images() -> None:
    values = metrics()(np.array([0, 2, 1, 1, 0, 0]))
    assert values["coverage"] == pytest.approx(2 / 4)
    assert (values["coverage_mel"], values["coverage_nv"], values["coverage_bcc"]) == (0, 1, None)
    assert values["macro_coverage"] is None  # bcc has images, but none counts
    assert values["set_size"] == pytest.approx(6 / 4)
    assert values["single_label"] == pytest.approx(3 / 4)


def test_column_is_read_by_codes() -> None:
    members = read_sets(["nv;mel", "10"], ["mel", "1", "nv", "10"])
    assert members is not None and members.tolist() == [[True, False, True, False], [False, False, False, True]]
    assert read_sets(["nv", ""], CODES) is None
