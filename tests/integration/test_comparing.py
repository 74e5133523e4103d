"""A comparison beside run_pipeline.py: one code path, so one set of figures."""

from pathlib import Path

import pytest
from conftest import Script, Trained, read_json, results

from segpipe.evaluation.compare import main


def test_figures_of_a_comparison_are_those_of_run_pipeline(
    pipeline: Script, trained: Trained, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = pipeline(folder=photos / "images", labels=photos / "labels.csv", tta="flips", explain="none")
    assert ended.status == 0, ended.err
    given = ["--folder", str(photos / "images"), "--labels", str(photos / "labels.csv"), "--output", "compared", "--tta", "flips"]
    given += ["--segmenter", str(trained.folder / "seg" / "bundle"), "--device", "cpu"]
    assert main([*given, *(f"{title}={trained.folder / 'cls' / 'bundle'}" for title in ("one", "other"))]) == 0
    assert "| one |" in capsys.readouterr().out
    for title in ("one", "other"):
        run = Path("compared", "runs", title)
        assert results(run).drop(columns="latency_ms").equals(results(Path("out")).drop(columns=["latency_ms"]))
        assert read_json(run / "metrics.json") == read_json(Path("out/metrics.json"))
        assert (run / "plots" / "worst.png").read_bytes() == Path("out/plots/worst.png").read_bytes()
