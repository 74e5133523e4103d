"""Terminal output of run_pipeline.py: findings, then the summary."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from findings import drawn_finding
from omegaconf import OmegaConf

from segpipe.cli.data import print_summary
from segpipe.errors import ImagesFailedError
from segpipe.report.wording import DISCLAIMER
from segpipe.runs.folder import RunResult
from segpipe.workflows.prediction import Prediction

FIGURE = {"value": 0.75, "low": None, "high": None}
METRICS: dict[str, Any] = {"classification": {"metrics": {"balanced_accuracy": FIGURE}}}
CONFIG = OmegaConf.create({"folder": "photos", "report": "none"})


def run_result(**changes: Any) -> RunResult:
    names = ("a.jpg", "b.jpg", "c.jpg")
    summary = {"images_done_before": 0, "warnings": {"no_lesion_found": 2}}
    shown = tuple((name, drawn_finding(60, 80)) for name in names)
    return replace(RunResult(({},) * 3, (), False, {name: Path(name) for name in names}, shown, summary), **changes)


def test_summary_is_printed_below_all_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(CONFIG, Prediction(tmp_path, run_result(), METRICS))
    lines = capsys.readouterr().out.splitlines()
    last_finding = max(number for number, line in enumerate(lines) if line == DISCLAIMER)
    summary = lines[last_finding + 1 :]
    assert any(line.split() == ["balanced", "accuracy", "0.750"] for line in summary)
    assert any("no lesion found: 2" in line for line in summary)
    assert summary[-1].startswith("images done: 3, failed: 0")


@pytest.mark.parametrize(("failed", "words"), [(1, "1 image failed"), (2, "2 images failed")])
def test_failed_images_are_counted(tmp_path: Path, failed: int, words: str) -> None:
    failures = tuple((f"{number}.jpg", "damaged") for number in range(failed))
    with pytest.raises(ImagesFailedError, match=rf"^{words}, see .*failures\.csv; the first is 0\.jpg: damaged"):
        print_summary(CONFIG, Prediction(tmp_path, run_result(failures=failures), {}))
