"""Comparison of classifiers by the command: metrics, cost, reuse of runs, wrong calls."""

import copy
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.records import Training
from segpipe.bundle.saving import save_bundle
from segpipe.cli.main import main
from segpipe.comparison import compare as compare_module
from segpipe.comparison.candidates import ScoredCandidate, count_macs, count_parameters
from segpipe.comparison.table import METRICS
from segpipe.data.duplicates import fingerprint_parts
from segpipe.data.synthetic.dataset import write_samples
from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError
from segpipe.evaluation import plots, score
from segpipe.evaluation.truth import GroundTruth
from segpipe.models.preprocessing import InputSpec
from segpipe.runs.source import Source

pytestmark = pytest.mark.usefixtures("few_resamples", "_quick")

Call = Callable[..., int]


@dataclass(frozen=True)
class Compared:
    """Output of a call."""

    output: Path
    call: Call

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.output / "comparison.csv", index_col="title")

    @property
    def text(self) -> str:
        return (self.output / "comparison.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def _quick() -> Iterator[None]:
    """Short measurements, coarse plots of the comparison, and no plots of its runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_module, "SECONDS_A_TURN", 0.0)
        patch.setattr(plots, "DOTS_PER_INCH", 20)
        patch.setattr(score, "PLOTS", {})
        patch.setattr(score, "draw_worst_predictions", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def other(classifier: ClassifierBundle) -> ClassifierBundle:
    """A classifier with other predictions, on smaller crops."""
    model = copy.deepcopy(classifier.model)
    with torch.no_grad():
        model.linear.weight.copy_(model.linear.weight.roll(1, dims=0))
    return replace(classifier, model=model, card=replace(classifier.card, input=InputSpec(64)))


@pytest.fixture(scope="module")
def models(
    segmenter: SegmenterBundle,
    classifier: ClassifierBundle,
    other: ClassifierBundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Bundles on disk: `unet`, `one` and `two`."""
    folder = tmp_path_factory.mktemp("models")
    for name, bundle in {"unet": segmenter, "one": classifier, "two": other}.items():
        save_bundle(folder / name, bundle.model, bundle.card)
    return folder


@pytest.fixture(scope="module")
def compared(synthetic_root: Path, models: Path, _quick: None, few_resamples: None, tmp_path_factory) -> Compared:
    """Two classifiers over the drawn data set."""
    output = tmp_path_factory.mktemp("compared") / "out"
    labels = synthetic_root / "HAM10000_metadata.csv"

    def call(*more: str, one: Path = models / "one", output: Path = output) -> int:
        fixed = [f"folder={synthetic_root}", f"labels={labels}", f"bundle.segmenter={models / 'unet'}", "device=cpu"]
        named = [f"bundles=[{one},{models / 'two'}]", 'titles=["The one","Zwei, too"]', f"output={output}"]
        return main(["compare", *fixed, *named, *more])

    assert call() == 0
    return Compared(output, call)


def metrics_of(compared: Compared, run: str) -> dict[str, dict[str, float]]:
    return json.loads((compared.output / "runs" / run / "metrics.json").read_text())["classification"]["metrics"]


RUNS = {"The one": "the_one", "Zwei, too": "zwei_too"}


@pytest.mark.parametrize(("title", "run"), RUNS.items())
def test_metrics_are_those_of_the_runs(compared: Compared, title: str, run: str) -> None:
    row, metrics = compared.table.loc[title], metrics_of(compared, run)
    assert row["majority_baseline"] == metrics["majority_baseline"]["value"]
    for name in METRICS:
        expected = [metrics[name][key] for key in ("value", "low", "high")]
        assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == expected


def test_best_is_first_and_differences_are_from_its_metrics(compared: Compared) -> None:
    table = compared.table
    best, last = table.iloc[0], table.iloc[1]
    assert best["macro_auroc"] > last["macro_auroc"]
    for name in METRICS:
        changes = [f"{name}_change", f"{name}_change_low", f"{name}_change_high"]
        assert (best[changes] == 0).all()
        assert last[f"{name}_change"] == pytest.approx(last[name] - best[name])
        assert last[f"{name}_change_low"] <= last[f"{name}_change"] <= last[f"{name}_change_high"]


def test_costs_are_those_of_the_networks(compared: Compared, classifier: ClassifierBundle) -> None:
    table = compared.table
    assert table["parameters_millions"].to_list() == [count_parameters(classifier.model) / 1e6] * 2
    assert table.loc["The one", "gmacs"] == count_macs(classifier.model, 96) / 1e9
    assert table.loc["Zwei, too", "gmacs"] == count_macs(classifier.model, 64) / 1e9
    assert (table["images_per_second_low"] > 0).all()
    assert (table["images_per_second_low"] <= table["images_per_second"]).all()
    assert (table["images_per_second"] <= table["images_per_second_high"]).all()
    ratio = ["images_per_second_ratio", "images_per_second_ratio_low", "images_per_second_ratio_high"]
    assert (table.iloc[0][ratio] == 1).all()


def test_text_has_images_conditions_and_metrics(compared: Compared, synthetic_root: Path) -> None:
    metadata = pd.read_csv(synthetic_root / "HAM10000_metadata.csv")
    first, _, introduction, *_ = compared.text.splitlines()
    assert first == "# 2 classifiers on synthetic"
    assert introduction.startswith(
        f"{len(metadata)} images of 21 lesions; views none, masks from unet, device cpu (timed on one core)."
    )
    assert "intervals over lesions" in introduction
    assert "**Not a medical device.**" in introduction
    row = compared.table.loc["The one"]
    assert f"{row['macro_auroc']:.3f} ({row['macro_auroc_low']:.3f} to {row['macro_auroc_high']:.3f})" in compared.text
    assert f"(majority-class baseline: {row['majority_baseline']:.3f})" in compared.text
    assert f"melanoma sensitivity (n = {(metadata['dx'] == 'mel').sum()})" in compared.text


def without_rates(compared: Compared) -> pd.DataFrame:
    """Select the columns that do not depend on time."""
    return compared.table.filter(regex="^(?!images_per_second)")


def test_second_call_reuses_a_finished_run_and_resumes_an_interrupted_one(
    compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    before = without_rates(compared)
    interrupted, finished = (compared.output / "runs" / run for run in RUNS.values())
    # State of a killed run: an incomplete journal, and no tables.
    lines = (interrupted / "results.jsonl").read_text().splitlines(keepends=True)
    (interrupted / "results.jsonl").write_text("".join(lines[:5]))
    (interrupted / "results.csv").unlink()
    os.utime(finished / "results.csv", (1, 1))
    assert compared.call() == 0
    ended = capsys.readouterr()
    assert ended.err.splitlines() == [f"The one: {len(lines)} images", "Zwei, too: already finished"]
    assert json.loads((interrupted / "summary.json").read_text())["images_done_before"] == 5
    assert (finished / "results.csv").stat().st_mtime == 1
    pd.testing.assert_frame_equal(without_rates(compared), before)
    assert ended.out.startswith(compared.text)
    files = ("comparison.csv", "comparison.md", "roc.png", "metrics.png", "cost.png")
    assert ended.out.splitlines()[-5:] == [str(compared.output / name) for name in files]


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    ended = capsys.readouterr()
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    return ended.err


def test_other_bundle_of_the_same_title_is_refused_before_the_run(
    compared: Compared, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared.call(one=models / "two") == 2
    line = only_line(capsys)
    assert "the_one holds the results of another run (bundle.classifier changed)" in line
    assert "overwrite=true" in line
    assert compared.call("tta=flips") == 2
    assert "(tta changed)" in only_line(capsys)


def test_overwrite_restarts_the_runs_and_removes_nothing_else(compared: Compared, models: Path, tmp_path: Path) -> None:
    shutil.copytree(compared.output, tmp_path / "out")
    (tmp_path / "out" / "runs" / "the_one" / "mine.txt").touch()
    assert compared.call("localize=contour", "overwrite=true", one=models / "two", output=tmp_path / "out") == 0
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert table["macro_auroc_change"].to_list() == [0, 0]  # both are now the same classifier
    assert (tmp_path / "out" / "runs" / "the_one" / "mine.txt").exists()


def test_runs_over_changed_files_are_refused() -> None:
    scored = [
        ScoredCandidate(SimpleNamespace(title=title), ["a.jpg"], ["a"], None, {"metrics": {}, "test_set": {"sha256": sha256}})
        for title, sha256 in (("before", "1"), ("after", "2"))
    ]
    with pytest.raises(DatasetError, match=r"the same images and labels, got others for 'before' and 'after'"):
        compare_module.compare(scored, Source(()), GroundTruth())


def test_table_and_text_have_the_test_set(compared: Compared, synthetic_root: Path) -> None:
    test_set = json.loads((compared.output / "runs" / "the_one" / "metrics.json").read_text())["classification"]["test_set"]
    assert test_set["dataset"] == synthetic_root.name
    assert set(compared.table["test_set_sha256"]) == {test_set["sha256"]}
    assert test_set["sha256"][:12] in compared.text


def seen_by(training: Training, rows: pd.DataFrame) -> Training:
    return replace(training, seen=fingerprint_parts({"train": rows, "val": rows.head(0)}))


def test_models_that_have_seen_the_images_are_marked(
    compared: Compared,
    classifier: ClassifierBundle,
    other: ClassifierBundle,
    segmenter: SegmenterBundle,
    synthetic_root: Path,
    tmp_path: Path,
) -> None:
    assert re.search(r"^\[1\] .* no record of its training images", compared.text, re.MULTILINE)
    assert re.search(r"^The segmenter has no record", compared.text, re.MULTILINE)
    rows = pd.read_csv(synthetic_root / "HAM10000_metadata.csv")
    lesion = rows[rows["lesion_id"] == rows["lesion_id"].iloc[0]]
    unrelated = pd.DataFrame({"image_id": ["x"], "lesion_id": ["y"]})
    for name, bundle, known in (
        ("seen", classifier, lesion.head(1)),
        ("unseen", other, unrelated),
        ("unet", segmenter, unrelated),
    ):
        card = replace(bundle.card, training=seen_by(bundle.card.training, known))
        save_bundle(tmp_path / name, bundle.model, card)
    call = ["compare", f"folder={synthetic_root}", f"labels={synthetic_root / 'HAM10000_metadata.csv'}", "device=cpu"]
    call += [f"bundle.segmenter={tmp_path / 'unet'}", f"output={tmp_path / 'out'}"]
    assert main([*call, f"bundles=[{tmp_path / 'seen'},{tmp_path / 'unseen'}]"]) == 0
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert f"[1] seen has seen {len(lesion)} of these images" in text
    assert "| seen [1] |" in text and "| unseen |" in text
    assert "The segmenter" not in text
    table = pd.read_csv(tmp_path / "out" / "comparison.csv", index_col="title")
    assert table["images_seen_in_training"].to_dict() == {"seen": len(lesion), "unseen": 0}


def test_failed_images_are_counted_and_others_than_labeled_ones_of_the_split_are_left_out(models: Path, tmp_path: Path) -> None:
    write_samples(tmp_path / "images")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    names = [f"synthetic_{code}" for code in CODES]
    pd.DataFrame({"image": names[:5], "label": CODES[:5]}).to_csv(tmp_path / "labels.csv", index=False)
    split = pd.DataFrame({"image_id": [*names[1:], "broken"], "part": "test"})
    split.assign(lesion_id=["L", "L", *split["image_id"][2:]]).to_csv(tmp_path / "split.csv", index=False)
    call = ["compare", f"folder={tmp_path / 'images'}", f"labels={tmp_path / 'labels.csv'}", f"output={tmp_path / 'out'}"]
    call += [f"split={tmp_path / 'split.csv'}", "part=test", "localize=contour", "device=cpu"]
    assert main([*call, f"bundles=[{models / 'one'},{models / 'two'}]"]) == 0
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert text.startswith("# 2 classifiers on images, part test\n")
    assert "4 images of 3 lesions (1 more failed); views none, masks from contour, device cpu (timed on one core)." in text
    assert "The segmenter" not in text  # none was used
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert table["sensitivity_mel"].isna().all()
    assert "| none |" in text


BAD_CALLS = {
    "one bundle": (["bundles=[{one}]"], "bundles must name at least two classifiers, got 1"),
    "no list": (["bundles={one}"], "bundles must be a list such as [a,b]"),
    "empty list": (["bundles=[]"], "bundles=[...] must hold at least one"),
    "duplicate title": (["titles=[a,A]"], "titles must give different file names, got 'a' and 'A', both 'a'"),
    "empty title": (["titles=[a,'']"], "titles must hold a letter or digit, got ''"),
    "too few titles": (["titles=[a]"], "titles must be as many as there are folders, 2, got 1"),
    "no bundle": (["bundles=[{one},nowhere]"], "bundles must be a list of folders, got 'nowhere'"),
    "segmenter": (["bundles=[{one},{unet}]"], "must be the bundle of a classifier, got that of a segmenter"),
    "word": (["tta=d5"], "tta must be one of crops, d4, flips, none, got d5"),
    "number": (["batch_size=0"], "batch_size must be 1 or more, got 0"),
    "device": (["device=abacus"], "device must be auto, cpu, cuda, cuda:N or mps, got 'abacus'"),
    "part": (["part=test"], "part=test needs split=CSV"),
    "folder": (["folder=nowhere"], "nowhere: no such folder"),
    "labels": (["labels=nowhere.csv"], "labels must be an existing path, got 'nowhere.csv'"),
    "unknown": (["bundel=x"], "unknown key bundel=x; did you mean"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_CALLS.values(), ids=list(BAD_CALLS))
def test_wrong_call_of_compare_gives_one_line_and_status_2(
    arguments: list[str],
    message: str,
    synthetic_root: Path,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = {name: models / name for name in ("one", "two", "unet")}
    given = {
        "folder": synthetic_root,
        "labels": synthetic_root / "HAM10000_metadata.csv",
        "output": tmp_path / "out",
        "bundle.segmenter": models / "unet",
        "bundles": f"[{models / 'one'},{models / 'two'}]",
    }
    changed = dict(argument.format(**paths).split("=", 1) for argument in arguments)
    assert main(["compare", *(f"{key}={value}" for key, value in (given | changed).items())]) == 2
    assert message in only_line(capsys)
    assert not (tmp_path / "out").exists()


def test_bundles_of_other_classes_are_refused(
    compared: Compared, classifier: ClassifierBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = replace(classifier.card, classes=("a", *classifier.card.classes[1:]), malignant=())
    save_bundle(tmp_path / "one", classifier.model, card)
    assert compared.call(one=tmp_path / "one", output=tmp_path / "out") == 2
    assert "the same classes, got a, nv, bcc" in only_line(capsys)


def test_labels_of_other_images_are_refused_before_the_run(
    compared: Compared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("image,label\nother,mel\n")
    assert compared.call(f"labels={tmp_path / 'labels.csv'}", output=tmp_path / "out") == 2
    assert "labels must name at least one of the 44 images" in only_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["results.jsonl", "bundle/card.json"])
def test_output_of_another_command_is_refused_and_kept(
    compared: Compared, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert compared.call("overwrite=true", output=tmp_path) == 2
    assert f"output must hold no other results, got {tmp_path} with {name}; name another folder" in only_line(capsys)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [name]


def test_interrupt_message_has_progress_and_resumption(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt("3 of 40 images are done")

    monkeypatch.setattr("segpipe.comparison.candidates.run_images", stop)
    assert compared.call("localize=contour", output=tmp_path / "out") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "interrupted: The one: 3 of 40 images are done; the same call, without overwrite=true, resumes"
