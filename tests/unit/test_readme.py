"""Numbers of README and docs, compared with the shipped bundles and docs/results."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from segpipe import __version__
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.data.splits import read_split, split_hash
from segpipe.evaluation.gate_audit import gate_table
from segpipe.evaluation.heatmap_metrics import heatmap_table
from segpipe.evaluation.text import ROWS, metric_text, results_table, same_images, short_hash
from segpipe.inference.evidence import ADVICE, UNLIKE_TRAINING
from segpipe.io.run_files import GATE
from segpipe.release.card_tests import trust_table
from segpipe.release.model_card import model_card

ROOT = Path(__file__).parents[2]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def results(name: str) -> Any:
    return json.loads(read(f"docs/results/{name}.json"))


def test_table_and_model_card_match_the_shipped_bundles() -> None:
    segmenter, classifier = load_segmenter(SHIPPED / "segmenter"), load_classifier(SHIPPED / "classifier")
    figures = {"segmentation": classifier.card.metrics["localizer"], "classification": classifier.card.metrics}
    table, page = results_table({"test": figures}), read("docs/performance.md")
    assert table in page
    assert metric_text(segmenter.card.metrics["segmenter_alone"]["metrics"]["dice"]) in page
    short = [line for line in read("README.md").partition("## How good it is")[2].splitlines() if line.startswith("|")]
    assert short == [line for line in table.splitlines() if line in short]
    assert len(short) >= 8
    assert (ROOT / "docs/model_card.md").read_text(encoding="utf-8") == model_card(segmenter, classifier)


@pytest.mark.parametrize(("name", "page"), [("ablations", "ablations"), ("ensemble", "ensembles")])
def test_table_of_a_page_is_the_output_of_the_command(name: str, page: str) -> None:
    table = (ROOT / f"docs/results/{name}.md").read_text(encoding="utf-8")
    assert len([line for line in table.splitlines() if line.startswith("| ")]) > 5
    assert table in (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")


RUNTIME_ROWS = (
    ("largest difference of a probability", "probability", ".1g"),
    ("mean difference of a probability", "probability_mean", ".1g"),
    ("diagnoses that differ, without ties", "diagnoses", "d"),
    ("pixels of the masks that differ, fraction", "mask_pixels", ".1g"),
    ("largest difference of a heatmap in [0, 1]", "heatmap", ".1g"),
    ("mean over the images of the largest difference of their heatmaps", "heatmap_mean", ".1g"),
    ("largest difference of a metric", "metric", ".1g"),
)


def test_table_of_heatmaps_is_the_output_of_the_command() -> None:
    results = json.loads((ROOT / "docs/results/heatmaps.json").read_text(encoding="utf-8"))
    assert heatmap_table(results) in (ROOT / "docs/heatmaps.md").read_text(encoding="utf-8")
    shipped = results["shipped"]
    assert (shipped["classifier"], shipped["images"]) == (load_classifier(SHIPPED / "classifier").sha256, 200)


def test_values_of_the_comparison_are_the_output_of_the_command() -> None:
    page = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
    with (ROOT / "docs/results/comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        name = "macro_auroc"
        figures = (float(row[column]) for column in (name, f"{name}_low", f"{name}_high"))
        assert "| {} | {:.3f} ({:.3f} to {:.3f}) |".format(row["title"], *figures) in page


def test_values_of_the_web_page_are_the_output_of_the_benchmark() -> None:
    measured, page, performance = results("app_benchmark"), read("docs/web_page.md"), read("docs/performance.md")
    assert f"| {measured['upload']:.2f} |" in page
    assert f"| the first upload of a fresh server | {measured['first']['upload']:.2f} |" in page
    assert f"`run_pipeline.py image=` | {measured['command']:.1f} |" in page
    for name in ("examined", "page", "command_examined"):
        assert f"{measured[name]:.2f} |" in page
        assert f"{measured[name]:.2f} s" in performance
    assert f"takes {measured['command']:.1f} s" in performance
    growth = measured["goals"]["memory after uploads / after the 20th"]["value"]
    assert f"{growth:.3f}" in page
    assert f"{growth:.3f}" in performance


def test_table_shows_value_and_interval_of_each_column() -> None:
    def metrics(value: float | None, low: float | None) -> dict[str, object]:
        figure = {"value": value, "low": low, "high": None if low is None else low + 0.1}
        return {part: {"metrics": {name: figure for _, name, _ in ROWS}} for part, _, _ in ROWS}

    lines = results_table({"a": metrics(0.51234, 0.45), "b": metrics(0.3, None), "c": metrics(None, None)}).splitlines()
    assert lines[0] == "| | a | b | c |"
    assert len(lines) == len(ROWS) + 2
    assert lines[2].endswith("| 0.512 (0.450 to 0.550) | 0.300 | none |")


@pytest.mark.parametrize(("part", "load"), [("segmentation", load_segmenter), ("classification", load_classifier)])
def test_cards_of_the_shipped_bundles_have_the_metrics_of_the_run(part, load) -> None:
    name = "segmenter" if part == "segmentation" else "classifier"
    card = load(SHIPPED / name).card
    measured = results("unet")[part]["metrics"]
    for figure, found in card.metrics["metrics"].items():
        for key, value in found.items():
            # Two runs with different numbers of threads, so sums differ in their last digits.
            assert value == pytest.approx(measured[figure][key], abs=1e-6), figure


def test_shipped_bundles_were_tested_together_on_the_documented_run() -> None:
    segmenter, classifier = load_segmenter(SHIPPED / "segmenter"), load_classifier(SHIPPED / "classifier")
    measured = results("unet")
    assert classifier.card.metrics["test_set"] == measured["classification"]["test_set"]
    masks = (segmenter.card.metrics, segmenter.card.metrics["segmenter_alone"], classifier.card.metrics["localizer"])
    assert all(metrics["test_set"] == measured["segmentation"]["test_set"] for metrics in masks)
    assert same_images(segmenter.card.metrics, classifier.card.metrics)
    assert classifier.card.metrics["pipeline"] == measured["pipeline"]
    page = read("docs/performance.md")
    assert all(short_hash(measured[part]["test_set"]["sha256"]) in page for part in ("classification", "segmentation"))
    assert (measured["pipeline"]["segmenter"], measured["pipeline"]["classifier"]) == (segmenter.sha256, classifier.sha256)
    part = read_split(SHIPPED / "split.csv").query("part == 'test'")
    assert measured["classification"]["test_set"].items() >= {"dataset": "ham10000", "part": "test", "images": len(part)}.items()


def test_shipped_bundles_have_the_shipped_split_and_are_small() -> None:
    split = split_hash(read_split(SHIPPED / "split.csv"))
    assert load_segmenter(SHIPPED / "segmenter").card.training.split_hash == split
    assert load_classifier(SHIPPED / "classifier").card.training.split_hash == split
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*.safetensors")) < 25e6


def test_sizes_of_the_installs_are_the_output_of_the_benchmark() -> None:
    page = read("README.md").partition("## Install")[2].partition("## ")[0]
    sizes = {name.strip("`"): int(size) for name, size in re.findall(r"^\| (\S+) \| (\d+) \|", page, re.MULTILINE)}
    measured = {name: row["mb"] for name, row in results("install_size")["variants"].items()}
    assert sizes == {"none" if name == "base" else name: size for name, size in measured.items()}
    assert {"none", "app", "metrics"} <= sizes.keys()


def test_time_of_a_start_is_the_output_of_the_benchmark() -> None:
    page, calls = read("docs/performance.md"), results("start_benchmark")["calls"]
    assert len(calls) == 5
    for name, call in calls.items():
        assert f"| `{name}` | {call['seconds']:.2f} | {call['x_imports']:.1f} | {call['cpu_seconds']:.2f} |" in page


def test_speed_of_folders_is_the_output_of_the_benchmark() -> None:
    value = {name: goal["value"] for name, goal in results("folder_benchmark")["goals"].items()}
    section = read("docs/performance.md").partition("## Folders")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+) \| (\S+) \|$", section, re.MULTILINE)
    assert [number for title, number in rows if title != "---"] == [
        f"{value['rate plain / bare']:.2f}",
        f"{value['rate full / naive']:.1f}",
        f"{value['peak memory full / naive']:.2f}",
        f"{value['largest difference of a probability']:.0e}",
        f"{value['memory at the end / after 200 images']:.3f}",
        f"{value['rate onnx / torch, full']:.1f}",
        f"{value['peak memory onnx / torch, full']:.2f}",
        f"{value['rate openvino bfloat16 / torch, full']:.1f}",
    ]


def test_agreement_of_the_runtimes_is_the_output_of_the_benchmark() -> None:
    compared, page = results("runtimes"), read("docs/performance.md")
    assert "onnx" in compared
    for title, name, precision in RUNTIME_ROWS:
        values = (f"{found[name]:{precision}}" for found in compared.values())
        assert f"| {title} | {' | '.join(values)} |" in page


def test_speed_of_trainings_is_the_output_of_the_benchmark() -> None:
    measured, page = results("training_benchmark"), read("docs/performance.md")
    rates = [measured[model]["routes"]["training"]["x_bare"] for model in ("classifier", "U-Net")]
    assert "runs at {:.2f} (classifier) and {:.2f} (U-Net)".format(*rates) in page
    assert f"is {measured['classifier']['routes']['head only']['x_training']:.1f} times as fast" in page


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))])
def test_each_page_has_the_notice(page: str) -> None:
    assert "not a medical device" in read(page)[:1000].lower()


def test_version_is_the_same_in_all_files() -> None:
    citation = read("CITATION.cff")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [__version__]
    assert re.findall(r"^## ([0-9.]+) - ", read("CHANGELOG.md"), re.MULTILINE)[0] == __version__
    assert set(re.findall(r"segpipe-([0-9.]+)-py3", read("README.md"))) == {__version__}


def test_citation_is_complete() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "license", "version"} <= citation.keys()
    assert citation["authors"] == [{"name": "The segpipe contributors"}]
    assert not {"doi", "url", "repository-code"} & citation.keys()
    assert [reference["doi"] for reference in citation["references"]] == ["10.1038/sdata.2018.161", "10.7910/DVN/DBW86T"]


def test_numbers_of_trust_are_those_of_card_audit_and_benchmarks() -> None:
    page, card = read("docs/trust.md"), load_classifier(SHIPPED / "classifier").card
    assert card.trust is not None and card.conformal is not None
    assert trust_table(card.trust) in page
    audit, gate = results("gate"), load_segmenter(SHIPPED / "segmenter").card.references[GATE]
    assert gate_table(audit["sets"]) in page
    assert audit["gate"] == gate.sha256
    validation = audit["sets"]["validation"]
    for code in ADVICE.keys() - {UNLIKE_TRAINING}:
        rate = 100 * validation["reasons"].get(code, 0) / validation["images"]
        assert re.search(rf"^\| `{code}` \| .* \| {rate:.1f} %".replace("0.0 %", "0 %"), page, re.MULTILINE), code
    cost = results("gate_cost")
    assert f"{cost['gate_ms']:.1f} of {cost['milliseconds']['finding']:.0f} ms" in page
    sets = results("prediction_sets")
    assert sets["classifier"] == load_classifier(SHIPPED / "classifier").sha256
    methods = [sets["0.90"][name] for name in ("class_conditional", "marginal")]
    assert methods[0]["thresholds"] == pytest.approx(dict(card.conformal.thresholds))
    rows = {
        **{code: f"coverage_{code}" for code in card.classes},
        "mean over the classes": "macro_coverage",
        "all images": "coverage",
        "diagnoses in a set": "set_size",
        "sets with one diagnosis": "single_label",
    }
    for title, name in rows.items():
        assert f"| {title} | {' | '.join(metric_text(method['images'][name]) for method in methods)} |" in page
    metrics = card.metrics["metrics"]
    for code in card.classes:
        values = [metrics[f"{name}_{code}"]["value"] for name in ("auroc_vote", "auroc", "among_similar")]
        assert f"| {code} | {' | '.join(f'{value:.3f}' for value in values)} |" in page
    assert f"| mean | {metrics['macro_auroc_vote']['value']:.3f} | {metrics['macro_auroc']['value']:.3f} |" in page


def test_found_label_errors_are_the_output_of_the_benchmark() -> None:
    page, measured = read("docs/label_errors.md"), results("label_errors")
    assert measured["classifier"] == load_classifier(SHIPPED / "classifier").sha256
    for name in ("uniform", "by_frequency", "by_lesion"):
        columns = ("in_first_5_percent", "in_first_10_percent", "in_first_20_percent", "suggested_is_true")
        values = [[100 * measured[name][column][key] for key in ("mean", "lowest", "highest")] for column in columns]
        assert f"| {' | '.join('{:.0f} % ({:.0f} to {:.0f})'.format(*value) for value in values)} |" in page
    assert f"{100 * measured['likely_errors_without_swaps']:.0f} % of the images are likely errors" in page
    assert f"{measured['images']:,} validation images" in page and measured["uniform"]["in_first_10_percent"]["lowest"] > 0.5
