"""Metrics of a comparison and of run_pipeline.py, which share their code."""

from pathlib import Path

from conftest import Script, Trained, call, read_json, results


def test_comparison_has_the_metrics_of_run_pipeline(pipeline: Script, trained: Trained, photos: Path) -> None:
    ended = pipeline(folder=photos / "images", labels=photos / "labels.csv", tta="flips", explain="none")
    assert ended.status == 0, ended.err
    unet, bundle = trained.bundles[0], trained.folder / "cls" / "bundle"
    models = ("compare", unet, f"bundles=[{bundle},{bundle}]", "titles=[one,other]", "tta=flips", "device=cpu")
    compared = call(*models, folder=photos / "images", labels=photos / "labels.csv", output="compared")
    assert compared.status == 0, compared.err
    assert "| one |" in compared.out
    for title in ("one", "other"):
        run = Path("compared", "runs", title)
        assert results(run).drop(columns="latency_ms").equals(results(Path("out")).drop(columns=["latency_ms"]))
        assert read_json(run / "metrics.json") == read_json(Path("out/metrics.json"))
        assert (run / "plots" / "worst.png").read_bytes() == Path("out/plots/worst.png").read_bytes()
