"""What a table of labels knows of images: diagnoses, lesions, and by what patients and sites they can be told apart."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segpipe.evaluation.truth import AGE_BANDS, Truth, read_attributes, read_truth


def test_attributes_come_from_the_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,dx,age,sex,localization\na,mel,30.0,Male, scalp\nb,nv,,female,\nc,nv,85,,unknown\n")
    truth = read_truth(labels=labels, masks=None)
    assert truth.attributes == {
        "sex": {"a": "male", "b": "female"},
        "localization": {"a": "scalp", "c": "unknown"},
        "age_band": {"a": "30-44", "c": "75+"},
    }
    assert truth.attributes_of(["c", "a", "stranger"]) == {
        "sex": ["unknown", "male", "unknown"],
        "localization": ["unknown", "scalp", "unknown"],
        "age_band": ["75+", "30-44", "unknown"],
    }


def test_labels_without_attributes_have_none(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\na,mel\n")
    assert read_truth(labels=tmp_path / "labels.csv", masks=None) == Truth({"a": "mel"})
    assert read_attributes(pd.DataFrame({"image_id": ["a"], "age": [np.nan], "sex": [None]})) == {}


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "0-29"), (29.9, "0-29"), (30, "30-44"), (44, "30-44"), (45, "45-59"), (60, "60-74"), (75, "75+"), (104, "75+")],
)
def test_age_bands_hold_their_first_year(age: float, band: str) -> None:
    assert read_attributes(pd.DataFrame({"image_id": ["a"], "age": [age]})) == {"age_band": {"a": band}}


@pytest.mark.parametrize("age", [np.nan, "old", -5, ""])
def test_age_that_is_none_is_unknown(age: object) -> None:
    assert read_attributes(pd.DataFrame({"image_id": ["a", "b"], "age": [age, "50"]})) == {"age_band": {"b": "45-59"}}


def test_age_bands_are_named_by_their_years_and_leave_no_gap() -> None:
    names, firsts = list(AGE_BANDS), list(AGE_BANDS.values())
    for name, first, following in zip(names, firsts, firsts[1:], strict=False):
        assert name == f"{first}-{following - 1}"
    assert names[-1] == f"{firsts[-1]}+"
    assert sorted(names) == names
