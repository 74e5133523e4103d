"""The README's figures are those of the shipped bundles, and these are those of the run that the README names."""

import csv
import json
from pathlib import Path

import pytest

from segpipe.bundle import SHIPPED, load_classifier, load_segmenter
from segpipe.data.splits import read_split, split_hash
from segpipe.evaluation.heatmap_results import heatmap_table
from segpipe.evaluation.model_card import model_card
from segpipe.evaluation.scored_images import same_images, short_hash
from segpipe.evaluation.table import ROWS, figure_text, results_table

ROOT = Path(__file__).parents[2]


def test_table_and_model_card_are_those_of_the_shipped_bundles() -> None:
    segmenter, classifier = load_segmenter(SHIPPED / "segmenter"), load_classifier(SHIPPED / "classifier")
    figures = {"segmentation": classifier.card.metrics["localizer"], "classification": classifier.card.metrics}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results_table({"test": figures}) in readme
    assert figure_text(segmenter.card.metrics["segmenter_alone"]["metrics"]["dice"]) in readme
    assert (ROOT / "docs/model_card.md").read_text(encoding="utf-8") == model_card(segmenter, classifier)


@pytest.mark.parametrize(("name", "page"), [("ablations", "ablations"), ("ensemble", "ensembles")])
def test_table_of_a_page_is_what_the_command_wrote(name: str, page: str) -> None:
    table = (ROOT / f"docs/results/{name}.md").read_text(encoding="utf-8")
    assert len([line for line in table.splitlines() if line.startswith("| ")]) > 5
    assert table in (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")


def test_table_of_heatmaps_is_what_the_command_wrote() -> None:
    results = json.loads((ROOT / "docs/results/heatmaps.json").read_text(encoding="utf-8"))
    assert heatmap_table(results) in (ROOT / "docs/heatmaps.md").read_text(encoding="utf-8")
    shipped = results["shipped"]
    assert (shipped["classifier"], shipped["images"]) == (load_classifier(SHIPPED / "classifier").sha256, 200)


def test_figures_of_the_comparison_are_those_that_the_command_wrote() -> None:
    page = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
    with (ROOT / "docs/results/comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        name = "macro_auroc"
        figures = (float(row[column]) for column in (name, f"{name}_low", f"{name}_high"))
        assert "| {} | {:.3f} ({:.3f} to {:.3f}) |".format(row["title"], *figures) in page


def test_figures_of_the_web_page_are_those_that_the_benchmark_wrote() -> None:
    measured = json.loads((ROOT / "docs/results/app_benchmark.json").read_text(encoding="utf-8"))
    page, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/web_page.md", "README.md"))
    assert f"| from the choice of a file to its finding on the page | {measured['upload']:.2f} |" in page
    assert f"| the first upload of a fresh server | {measured['first']['upload']:.2f} |" in page
    assert f"| a call of `run_pipeline.py image=` | {measured['command']:.1f} |" in page
    for name in ("examined", "page", "command_examined"):
        assert f"{measured[name]:.2f} |" in page
        assert f"{measured[name]:.2f} s" in readme
    growth = measured["goals"]["memory after uploads / after the 20th"]["value"]
    assert f"{growth:.3f}" in page
    assert f"{growth:.3f}" in readme


def test_table_shows_value_and_interval_of_each_column() -> None:
    def metrics(value: float | None, low: float | None) -> dict[str, object]:
        figure = {"value": value, "low": low, "high": None if low is None else low + 0.1}
        return {part: {"metrics": {name: figure for _, name, _ in ROWS}} for part, _, _ in ROWS}

    lines = results_table({"a": metrics(0.51234, 0.45), "b": metrics(0.3, None), "c": metrics(None, None)}).splitlines()
    assert lines[0] == "| | a | b | c |"
    assert len(lines) == len(ROWS) + 2
    assert lines[2].endswith("| 0.512 (0.450 to 0.550) | 0.300 | none |")


@pytest.mark.parametrize(("part", "load"), [("segmentation", load_segmenter), ("classification", load_classifier)])
def test_cards_of_the_shipped_bundles_hold_the_same_figures(part, load) -> None:
    name = "segmenter" if part == "segmentation" else "classifier"
    card = load(SHIPPED / name).card
    measured = json.loads((ROOT / "docs/results/unet.json").read_text())[part]["metrics"]
    for figure, found in card.metrics["metrics"].items():
        for key, value in found.items():
            # Two runs with different numbers of threads, so sums differ in their last digits.
            assert value == pytest.approx(measured[figure][key], abs=1e-6), figure


def test_shipped_bundles_were_tested_together_on_the_images_of_the_run_that_the_readme_names() -> None:
    segmenter, classifier = load_segmenter(SHIPPED / "segmenter"), load_classifier(SHIPPED / "classifier")
    measured = json.loads((ROOT / "docs/results/unet.json").read_text())
    assert classifier.card.metrics["test_set"] == measured["classification"]["test_set"]
    masks = (segmenter.card.metrics, segmenter.card.metrics["segmenter_alone"], classifier.card.metrics["localizer"])
    assert all(metrics["test_set"] == measured["segmentation"]["test_set"] for metrics in masks)
    assert same_images(segmenter.card.metrics, classifier.card.metrics)
    assert classifier.card.metrics["pipeline"] == measured["pipeline"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(short_hash(measured[part]["test_set"]["sha256"]) in readme for part in ("classification", "segmentation"))
    assert (measured["pipeline"]["segmenter"], measured["pipeline"]["classifier"]) == (segmenter.sha256, classifier.sha256)
    part = read_split(SHIPPED / "split.csv").query("part == 'test'")
    assert measured["classification"]["test_set"].items() >= {"dataset": "ham10000", "part": "test", "images": len(part)}.items()


def test_shipped_bundles_belong_to_the_shipped_split_and_are_small() -> None:
    split = split_hash(read_split(SHIPPED / "split.csv"))
    assert load_segmenter(SHIPPED / "segmenter").card.training.split_hash == split
    assert load_classifier(SHIPPED / "classifier").card.training.split_hash == split
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*.safetensors")) < 25e6


def test_rates_of_folders_are_those_that_the_benchmark_wrote() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    goals = json.loads((ROOT / "docs/results/folder_benchmark.json").read_text(encoding="utf-8"))["goals"]
    value = {name: goal["value"] for name, goal in goals.items()}
    assert f"{value['rate plain / bare']:.2f} of the rate of bare forwards" in readme
    assert f"{value['rate full / naive']:.1f} times the rate of a careful script" in readme
    assert f"in {value['peak memory full / naive']:.2f} of its memory" in readme
    assert f"memory is {value['memory at the end / after 200 images']:.3f} of what it was after 200" in readme
    assert f"takes {value['cold start / imports']:.2f} of the time of importing torch" in readme
