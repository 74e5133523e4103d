"""Texts of the evidence for and against a diagnosis."""

import re
from dataclasses import replace

import pytest
from findings import add_evidence, drawn_finding, whole_image_finding, without_evidence

from segpipe.inference.evidence import ADVICE
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.trust import DOUBTS, TrustRules
from segpipe.report.evidence import (
    MARKS,
    TrustText,
    any_of,
    evidence_paragraph,
    gate_sentences,
    lesion_colors,
    lesion_numbers,
    set_coverage,
    set_text,
    similar_cases,
    trust_text,
    vote_text,
)
from segpipe.runs.results import Row

TRUSTED = add_evidence(drawn_finding(60, 80), agreeing=7, possible=1)


def _trust(row: Row) -> TrustText:
    text = trust_text(row)
    assert text is not None
    return text


def test_green_says_what_was_checked() -> None:
    text = _trust(TRUSTED.to_dict())
    assert (text.color, text.rank, text.missing) == ("green", 0, ())
    shown = " ".join(text.sentences)
    for word in ("accepted", "U-Net", "one diagnosis", "views", "heatmap", "7 of 8"):
        assert word in shown, word


def test_each_doubt_has_its_value() -> None:
    rules = TrustRules(max_spread=0.01, min_in_lesion=0.99, min_agreeing=0.99)
    finding = add_evidence(drawn_finding(60, 80, source=MaskSource.CONTOUR), gate=("out_of_focus", "unlike_training"))
    finding = replace(finding, rules=rules, path="ISIC_5.jpg")
    text = _trust(finding.to_dict())
    assert set(finding.trust.doubts) == set(DOUBTS) - {"no_lesion"}
    assert len(text.reasons) == len(finding.trust.doubts)
    shown = " ".join(text.reasons)
    for word in ("out of focus", "unlike", "contour", "3.4 %", "two diagnoses", "melanoma or melanocytic nevus", "3 of 8"):
        assert word in shown, word
    assert re.search("training data", shown) and "not checked" not in " ".join(text.sentences).lower()


def test_missing_lesion_is_a_doubt_and_gives_no_numbers() -> None:
    finding = whole_image_finding(60, 80)
    row = replace(finding, localization=replace(finding.localization, reasons=("contour:nothing_found",))).to_dict()
    text = _trust(row)
    assert text.color == "red" and "no lesion" in text.reasons[0]
    assert lesion_numbers(row) == [] and lesion_colors(row) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"gate": None}, "gate"),
        ({"conformal": None}, "prediction set"),
        ({"find_similar": None}, "similar cases"),
        ({"tta_spread": None}, "views"),
        ({"class_map": None}, "heatmap"),
    ],
)
def test_missing_evidence_is_named_and_not_claimed(change: dict[str, None], word: str) -> None:
    finding = replace(TRUSTED, **change)  # type: ignore[arg-type]
    text = _trust(finding.to_dict())
    assert len(text.missing) == 1 and word in text.missing[0]
    assert text.color == "green" and len(text.reasons) == 5


def test_evidence_missing_for_one_reason_is_named_together() -> None:
    text = _trust(drawn_finding(60, 80).to_dict())
    assert [missing.count(" and ") for missing in text.missing] == [0, 1]


def test_older_row_says_nothing() -> None:
    row = without_evidence(TRUSTED.to_dict())
    assert trust_text(row) is None and set_text(row, 0.9) is None and vote_text(row) is None
    assert (evidence_paragraph(row, 0.9), gate_sentences(row), similar_cases(row), lesion_numbers(row)) == ("", (), (), [])


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        (["mel"], "melanoma"),
        (["mel", "nv"], "melanoma or melanocytic nevus"),
        (["mel", "nv", "wart"], "melanoma, melanocytic nevus or wart"),
    ],
)
def test_classes_are_joined_by_commas_and_or(codes: list[str], text: str) -> None:
    assert any_of(codes) == text


def test_set_states_its_coverage_where_known() -> None:
    finding = add_evidence(drawn_finding(60, 80))
    row = finding.to_dict()
    assert "90 %" in (set_text(row, set_coverage(finding)) or "")
    assert set_text(row, None) == "melanoma or melanocytic nevus"
    assert set_coverage(drawn_finding(60, 80)) is None


def test_gate_gives_advice_for_each_reason() -> None:
    row = add_evidence(drawn_finding(60, 80), gate=tuple(ADVICE)).to_dict()
    assert gate_sentences(row) == tuple(ADVICE.values())
    assert gate_sentences(TRUSTED.to_dict()) == ()
    assert gate_sentences(row | {"gate": "new_code"}) == ("new_code",)


def test_paragraph_has_all_sentences_with_one_stop_each() -> None:
    text = evidence_paragraph(add_evidence(drawn_finding(60, 80), gate=("too_dark",)).to_dict(), 0.9)
    assert ADVICE["too_dark"] in text and "Prediction set: melanoma" in text and text.endswith(".") and ".." not in text


def test_vote_lists_the_largest_weights_first() -> None:
    row = TRUSTED.to_dict() | {"similar_vote": "mel=0.3;nv=0.6;bcc=0.04;akiec=0.06"}
    text = vote_text(row) or ""
    assert text.startswith("melanocytic nevus 60.0 %, melanoma 30.0 %") and "basal" not in text


def test_numbers_have_units_and_millimeters_where_known() -> None:
    plain = dict(lesion_numbers(TRUSTED.to_dict()))
    scaled = dict(lesion_numbers(replace(TRUSTED, mm_per_pixel=0.1).to_dict()))
    assert "px" in plain["Largest diameter"] and "mm" not in plain["Largest diameter"]
    assert "mm" in scaled["Largest diameter"] and "px" in scaled["Largest diameter"]
    angle = next(value for label, value in plain.items() if "skin" in label)
    assert "\N{DEGREE SIGN}" in angle and "lighting" in angle


def test_colors_differ_by_mark_too() -> None:
    assert len(set(MARKS.values())) == 3


def test_whole_image_has_no_outline_by_the_network() -> None:
    text = _trust(whole_image_finding(60, 80).to_dict() | {"trust": "green", "trust_doubts": ""})
    assert "whole image" in " ".join(text.reasons) and "U-Net" not in " ".join(text.reasons)
