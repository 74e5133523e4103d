"""Plain-text table of a finding."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from findings import add_evidence, drawn_finding

from segpipe.diagnosis import CODES, MALIGNANT_CODES, full_name
from segpipe.inference.evidence import ADVICE
from segpipe.inference.finding import Finding
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.lesion.quality import NOTES, REASONS, WARNINGS
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.terminal import finding_table
from segpipe.report.wording import DISCLAIMER, percent
from segpipe.types import Box, Photograph, mask_box


def _localization(source: MaskSource = MaskSource.UNET, reasons: tuple[str, ...] = ()) -> Localization:
    mask = np.zeros((8, 8), dtype=np.bool_)
    mask[2:6, 2:6] = True
    return Localization(mask, mask_box(mask), source, reasons)


def _finding(**changes: object) -> Finding:
    weights = np.array([8, 40, 4, 2, 30, 1, 15])
    finding = Finding(
        photograph=Photograph(np.zeros((8, 8, 3), dtype=np.uint8), 8, 8),
        localization=_localization(),
        window=Box(0, 0, 8, 8),
        crop=np.zeros((8, 8, 3), dtype=np.uint8),
        probabilities=dict(zip(CODES, (weights / weights.sum()).tolist(), strict=True)),
        malignant=MALIGNANT_CODES,
        operating_points=(OperatingPoint("mel", 0.05),),
        tta_spread=0.021,
        class_map=None,
    )
    return dataclasses.replace(finding, **changes)  # type: ignore[arg-type]


def _probability_rows(table: str) -> list[str]:
    return [line for line in table.splitlines() if " %" in line and any(f" {full_name(code)} " in line for code in CODES)]


def test_table_contains_all_values_of_the_finding() -> None:
    table = finding_table("a.jpg", _finding(), Path("out/figures/a.png"))
    for text in (
        "a.jpg",
        "melanocytic nevus (nv)",
        "40.0 %",
        "14.0 %",
        "suspicious for melanoma",
        "2.1 %",
        "U-Net",
        "25.0 %",
        "out/figures/a.png",
    ):
        assert text in table


def test_last_line_is_the_disclaimer() -> None:
    assert finding_table("a.jpg", _finding(), None).splitlines()[-1] == DISCLAIMER
    assert DISCLAIMER.startswith("Not a medical device")


def test_classes_are_sorted_by_probability() -> None:
    rows = _probability_rows(finding_table("a.jpg", _finding(), None))
    probs = [float(row.split(" %")[0].split()[-1]) for row in rows]
    assert len(rows) == len(CODES) and probs == sorted(probs, reverse=True)


def test_bars_grow_with_the_probability() -> None:
    bars = [row.count("#") for row in _probability_rows(finding_table("a.jpg", _finding(), None))]
    assert bars == sorted(bars, reverse=True) and bars[0] > bars[-1]


def test_only_malignant_classes_are_marked() -> None:
    rows = _probability_rows(finding_table("a.jpg", _finding(), None))
    for code in CODES:
        row = next(row for row in rows if f" {full_name(code)} " in row)
        assert row.lstrip().startswith("!") is (code in MALIGNANT_CODES)


def test_marked_classes_follow_the_card_and_not_the_codes() -> None:
    table = finding_table("a.jpg", _finding(malignant=("nv",)), None)
    assert [row.split()[:2] for row in _probability_rows(table) if row.lstrip().startswith("!")] == [["!", "melanocytic"]]
    assert "!" not in finding_table("a.jpg", _finding(malignant=()), None)


def test_reasons_are_sentences() -> None:
    localization = _localization(MaskSource.CONTOUR, tuple(f"unet:{code}" for code in REASONS))
    table = " ".join(finding_table("a.jpg", _finding(localization=localization), None).split())
    assert all(f"U-Net rejected: {sentence}" in table for sentence in REASONS.values())


def test_note_on_an_accepted_mask_is_not_a_rejection() -> None:
    localization = _localization(MaskSource.UNET, tuple(f"unet:{code}" for code in NOTES))
    table = " ".join(finding_table("a.jpg", _finding(localization=localization), None).split())
    assert all(sentence in table for sentence in NOTES.values())
    assert "rejected" not in table


def test_unknown_reason_is_shown_as_its_code() -> None:
    localization = _localization(MaskSource.WHOLE_IMAGE, ("new_code",))
    assert "new_code" in finding_table("a.jpg", _finding(localization=localization), None)


def test_missing_values_are_left_out() -> None:
    table = finding_table("a.jpg", _finding(malignant=(), operating_points=(), tta_spread=None), None)
    assert not any(label in table for label in ("malignancy", "suspicious", "spread", "figure"))


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1b[31m.jpg", "a\udcff.jpg", "a\r.jpg"])
def test_any_name_takes_one_line_of_ascii(name: str) -> None:
    table = finding_table(name, _finding(), Path(name))
    assert table.isascii() and not set("\r\x1b") & set(table)
    assert len(table.splitlines()) == len(finding_table("a.jpg", _finding(), Path("a.jpg")).splitlines())


def test_all_lines_except_paths_fit_the_terminal() -> None:
    reasons = tuple(f"unet:{code}" for code in REASONS)
    path = Path("folder" * 30) / "a.png"
    lines = finding_table("a.jpg", _finding(localization=_localization(MaskSource.WHOLE_IMAGE, reasons)), path).splitlines()
    assert [line for line in lines if len(line) > 79] == [line for line in lines if path.as_posix() in line]


def test_unknown_classes_are_shown_as_their_codes() -> None:
    table = finding_table("a.jpg", _finding(probabilities={"wart": 0.7, "scar": 0.3}, malignant=(), operating_points=()), None)
    assert "diagnosis       wart\n" in table and "!" not in table


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0.0 %"), (1e-6, "<0.1 %"), (0.0005, "0.1 %"), (0.5, "50.0 %"), (0.99999, ">99.9 %"), (1, "100.0 %")],
)
def test_fraction_is_never_rounded_to_zero_or_one(fraction: float, text: str) -> None:
    assert percent(fraction) == text


def test_malignant_diagnosis_is_suspicious_for_any_operating_points() -> None:
    malignant = dict(zip(CODES, (0.0, 0.1, 0.9, 0.0, 0.0, 0.0, 0.0), strict=True))
    for points in ((), (OperatingPoint("mel", 0.5),), (OperatingPoint("malignant", 0.95),)):
        finding = _finding(probabilities=malignant, operating_points=points)
        assert (finding.diagnosis, finding.flagged_for, finding.suspicious) == ("bcc", (), True)
        assert "suspicious: " in finding_table("a.jpg", finding, None)


def test_targets_below_their_threshold_are_listed() -> None:
    finding = _finding(operating_points=(OperatingPoint("mel", 0.5), OperatingPoint("malignant", 0.5)))
    table = " ".join(finding_table("a.jpg", finding, None).split())
    assert (finding.flagged, finding.suspicious) == (False, False)
    assert "suspicious" not in table and "melanoma (mel) and for malignancy (malignant)" in table


def test_warnings_precede_and_mark_the_diagnosis() -> None:
    localization = dataclasses.replace(_localization(MaskSource.WHOLE_IMAGE, ("unet:too_small",)), uniform=True)
    lines = finding_table("a.jpg", _finding(localization=localization), None).splitlines()
    warning, diagnosis = (
        next(n for n, line in enumerate(lines) if line.startswith(f"  {name}")) for name in ("warning", "diagnosis")
    )
    assert 0 < warning < diagnosis
    assert lines[diagnosis].split()[1] == "unsure:"
    table = " ".join(" ".join(lines).split())
    assert all(sentence in table for sentence in WARNINGS.values())
    assert "unsure" not in finding_table("a.jpg", _finding(), None)


def test_trust_is_told_with_its_reasons() -> None:
    finding = add_evidence(drawn_finding(60, 80), gate=("out_of_focus",))
    table = finding_table("a.jpg", finding, None)
    assert table.isascii() and max(map(len, table.splitlines())) <= 79
    text = " ".join(table.split())
    for shown in ("trust this: red", "out of focus", "two diagnoses", "3 of 8", "90 %", ADVICE["out_of_focus"]):
        assert shown in text, shown
    bare = " ".join(finding_table("a.jpg", _finding(), None).split())
    assert "trust this: " in bare and "Not checked" in bare and "input gate" in bare and "prediction set " in bare
