"""Tables of a run: columns in the documented order, and their values."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segpipe.diagnosis import CODES
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.runs.results import class_codes, write_csv, write_failures, write_results, write_submission
from segpipe.types import Box, Photograph

COLUMNS = [
    *("path", "sha256", "status", "diagnosis", "confidence"),
    *(f"p_{code}" for code in CODES),
    *("p_malignant", "flagged", "mask_source", "mask_reasons", "mask_area_fraction"),
    *("box_top", "box_left", "box_bottom", "box_right", "tta_spread", "heatmap_in_lesion", "latency_ms"),
    *("flagged_for", "warnings", "crop_top", "crop_left", "crop_bottom", "crop_right", "crop_border"),
    *("gate", "gate_score", "prediction_set", "similar", "similar_vote", "similar_known"),
    *("abcd_asymmetry", "abcd_color_asymmetry", "abcd_border", "abcd_colors", "abcd_color_names"),
    *("abcd_diameter_px", "abcd_diameter_mm", "skin_ita", "trust", "trust_doubts"),
]
PROBS = dict(zip(CODES, (0.123456789, 0.5, 0.3, 0.05, 0.0265431, 0.0000001, 0.000000011), strict=True))


def finding(*, full: bool) -> Finding:
    """Make a finding with all optional values, or with none."""
    mask = np.zeros((10, 20), dtype=np.bool_)
    mask[2:6, 4:14] = True
    source, reasons = (MaskSource.WHOLE_IMAGE, ("unet:too_small", "contour:implausible")) if full else (MaskSource.UNET, ())
    return Finding(
        photograph=Photograph(np.zeros((10, 20, 3), dtype=np.uint8), 10, 20),
        localization=Localization(mask, Box(2, 4, 6, 14), source, reasons),
        window=Box(0, 2, 10, 16),
        crop=np.zeros((4, 4, 3), dtype=np.uint8),
        probabilities=PROBS,
        malignant=("nv", "bcc") if full else (),
        operating_points=(OperatingPoint("malignant", 0.8), OperatingPoint("mel", 0.12), OperatingPoint("nv", 0.6))
        if full
        else (),
        tta_spread=0.0625 if full else None,
        class_map=ClassMap(np.ones((2, 2), dtype=np.float32), "mel") if full else None,
    )


def line(name: str, found: Finding, *, latency_ms: float = 1.0) -> dict[str, Any]:
    return replace(found, path=name, sha256="0" * 64, latency_ms=latency_ms).to_dict()


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(tmp_path: Path, **names: bool) -> list[dict[str, str]]:
    rows = [line(name, finding(full=full), latency_ms=12.34567) for name, full in names.items()]
    write_results(tmp_path / "results.csv", rows, tuple(PROBS))
    return read(tmp_path / "results.csv")


def test_columns_are_in_the_documented_order(tmp_path: Path) -> None:
    (row,) = written(tmp_path, image=True)
    assert list(row) == COLUMNS
    assert row["status"] == "ok"
    assert row["diagnosis"] == "nv"
    assert row["mask_source"] == "whole_image"
    assert row["mask_reasons"] == "unet:too_small;contour:implausible"
    assert [row[f"box_{side}"] for side in ("top", "left", "bottom", "right")] == ["2", "4", "6", "14"]
    assert (row["flagged"], row["flagged_for"]) == ("true", "malignant;mel")
    assert row["warnings"] == "no_lesion_found"
    assert [row[f"crop_{side}"] for side in ("top", "left", "bottom", "right")] == ["0", "2", "10", "16"]
    assert float(row["p_malignant"]) == pytest.approx(0.8)
    assert float(row["mask_area_fraction"]) == pytest.approx(0.2)
    assert float(row["heatmap_in_lesion"]) == pytest.approx(40 / 140)
    assert float(row["latency_ms"]) == pytest.approx(12.346)


def test_missing_values_are_empty_fields(tmp_path: Path) -> None:
    (row,) = written(tmp_path, image=False)
    empty = {"p_malignant", "flagged", "mask_reasons", "tta_spread", "heatmap_in_lesion", "flagged_for", "warnings"}
    empty |= {"gate", "gate_score", "prediction_set", "similar", "similar_vote", "similar_known"}
    empty |= {"abcd_diameter_mm", "skin_ita", "trust_doubts"}
    assert {name for name, value in row.items() if value == ""} == empty


def test_probabilities_have_at_least_six_digits(tmp_path: Path) -> None:
    (row,) = written(tmp_path, image=True)
    for name, value in {**{f"p_{code}": prob for code, prob in PROBS.items()}, "confidence": 0.5}.items():
        assert len(row[name].partition(".")[2]) >= 6
        assert float(row[name]) == pytest.approx(value, abs=5e-7)
    assert sum(float(row[f"p_{code}"]) for code in CODES) == pytest.approx(sum(PROBS.values()), abs=1e-6)


def test_empty_table_has_all_columns(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", [], tuple(PROBS))
    assert (tmp_path / "results.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_rows_are_sorted_by_path(tmp_path: Path) -> None:
    names = ["b.jpg", "sub/a.jpg", "a, \"b\" = '#'.jpg", "Ünïcode 写真.jpg", "a.jpg"]
    rows = [line(name, finding(full=True)) for name in names]
    write_results(tmp_path / "results.csv", rows, tuple(PROBS))
    assert [row["path"] for row in read(tmp_path / "results.csv")] == sorted(names)


def test_submission_has_the_challenge_format(tmp_path: Path) -> None:
    codes = ("nv", "vasc", "mel", "akiec", "df", "bkl", "bcc")
    probs = {code: number / 28 for number, code in enumerate(codes, start=1)}
    rows = [{"path": path} | {f"p_{code}": prob for code, prob in probs.items()} for path in ("b/ISIC_2.jpg", "ISIC_1.JPG")]
    write_submission(tmp_path / "submission.csv", rows)
    table = pd.read_csv(tmp_path / "submission.csv")
    assert list(table) == ["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    assert table["image"].tolist() == ["ISIC_1", "ISIC_2"]
    for code, prob in probs.items():
        np.testing.assert_allclose(table[code.upper()], prob, atol=1e-8)


def test_pandas_reads_the_tables(tmp_path: Path) -> None:
    written(tmp_path, one=True, two=False)
    table = pd.read_csv(tmp_path / "results.csv")
    assert table["flagged"].tolist()[0] is True
    assert table["p_malignant"].isna().tolist() == [False, True]
    write_failures(tmp_path / "failures.csv", [("b.jpg", "broken"), ("a,b.jpg", 'says "no", twice')])
    failures = pd.read_csv(tmp_path / "failures.csv")
    assert failures.to_numpy().tolist() == [["a,b.jpg", 'says "no", twice'], ["b.jpg", "broken"]]


def test_table_without_failures_has_a_header(tmp_path: Path) -> None:
    write_failures(tmp_path / "failures.csv", [])
    assert (tmp_path / "failures.csv").read_text() == "path,reason\n"


def test_table_is_written_atomically(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", ["a"], [["old"]])
    with pytest.raises(csv.Error, match="iterable expected"):
        write_csv(tmp_path / "table.csv", ["a"], [["new"], 3])  # type: ignore[list-item]
    assert (tmp_path / "table.csv").read_text() == "a\nold\n"


def test_class_malignant_has_one_column(tmp_path: Path) -> None:
    two = replace(
        finding(full=True), probabilities={"benign": 0.25, "malignant": 0.75}, malignant=("malignant",), operating_points=()
    )
    write_results(tmp_path / "results.csv", [line("a", two)], ("benign", "malignant"))
    (row,) = read(tmp_path / "results.csv")
    assert list(row)[5:8] == ["p_benign", "p_malignant", "flagged"]
    assert float(row["p_malignant"]) == pytest.approx(0.75)
    assert class_codes(row, ("malignant",)) == ["benign", "malignant"]
    assert class_codes(COLUMNS, ("nv", "bcc")) == list(CODES)


def test_submission_lists_each_image_once(tmp_path: Path) -> None:
    rows = [line(name, finding(full=True)) for name in ("mel/0.jpg", "nv/0.jpg", "nv/1.jpg")]
    write_submission(tmp_path / "submission.csv", rows)
    assert [row["image"] for row in read(tmp_path / "submission.csv")] == ["mel/0", "nv/0", "1"]
