"""Class lists of bundles: all outputs follow the card, not the codes known to segpipe."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from findings import RecordingCanvas
from PIL import Image
from torch import nn

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES, ISIC_2019_CODES, full_name
from segpipe.evaluation.score import score_run
from segpipe.evaluation.text import headline
from segpipe.evaluation.truth import GroundTruth
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.finding import Finding
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.release.model_card import model_card
from segpipe.report.figure import draw_finding, encode_figure
from segpipe.report.html_report import write_report
from segpipe.report.overlays import PICTURES, report_pictures
from segpipe.report.terminal import finding_table
from segpipe.report.wording import MALIGNANT_SIGN, SIGN_CAPTION
from segpipe.runs.folder import RunResult, run_images
from segpipe.runs.local_engine import LocalEngine
from segpipe.runs.options import PictureOptions, RunOptions
from segpipe.runs.source import images_of_folder

pytestmark = pytest.mark.usefixtures("few_resamples")

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Labels:
    """Classes of a bundle and the malignant ones among them."""

    classes: tuple[str, ...]
    malignant: tuple[str, ...]


LISTS = {
    "four of ISIC 2019": Labels(("mel", "nv", "bcc", "bkl"), ("mel", "bcc")),
    "all of ISIC 2019": Labels(ISIC_2019_CODES, ("mel", "bcc", "ak", "scc")),
    "other classes": Labels(("mole", "red spot", "wart"), ("wart",)),
    "a malignant class that segpipe does not know as one": Labels(("mel", "nv", "wart"), ("nv",)),
    "nothing known of malignancy": Labels(("mel", "nv", "wart"), ()),
}


@dataclass(frozen=True)
class Ran:
    """A run over three images with all outputs, and its bundle read from disk."""

    labels: Labels
    output: Path
    result: RunResult
    bundle: ClassifierBundle

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.output / "results.csv", keep_default_na=False)

    @property
    def findings(self) -> list[Finding]:
        return [finding for _, finding in self.result.shown]


Run = Callable[[Labels], Ran]


@pytest.fixture(scope="module")
def run(segmenter: SegmenterBundle, classifier: ClassifierBundle, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a tiny bundle with the given classes."""
    images = tmp_path_factory.mktemp("images")
    for number in range(3):
        image = make_image(CODES[number], np.random.default_rng(number), (60, 80))[0]
        Image.fromarray(image).save(images / f"{number}.png")

    def call(labels: Labels) -> Ran:
        folder = tmp_path_factory.mktemp("run")
        model = copy.deepcopy(classifier.model)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model.linear = nn.Linear(model.linear.in_features, len(labels.classes))
        point = OperatingPoint(labels.classes[-1], 0.1)
        card = replace(classifier.card, classes=labels.classes, malignant=labels.malignant, operating_points=(point,))
        save_bundle(folder / "bundle", model, card)
        bundle = load_classifier(folder / "bundle")
        ensemble = ClassifierEnsemble([TorchClassifier(bundle, "cpu")], views=VIEWS["none"], explained="predicted", batch_size=8)
        pipeline = Pipeline(Localizer(TorchSegmenter(segmenter, "cpu")), ensemble)
        pictures = PictureOptions(figure=encode_figure, report=report_pictures, report_folders=PICTURES)
        output = folder / "out"
        output.mkdir()
        result = run_images(pipeline, images_of_folder(images), RunOptions(output, pictures), LocalEngine(pipeline, 0))
        write_report(output, result.rows, result.names, result.failures, result.summary)
        return Ran(labels, output, result, bundle)

    return call


@pytest.fixture(scope="module", params=LISTS, ids=lambda name: name.replace(" ", "_"))
def ran(request: pytest.FixtureRequest, run: Run) -> Ran:
    return run(LISTS[request.param])


def data_of(page: Path) -> dict[str, Any]:
    """Data of the table of a report."""
    found = re.search(r"<script[^>]*>(.*?)</script>", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_columns_are_the_classes_in_the_order_of_the_card(ran: Ran) -> None:
    table = ran.table
    classes = [name.removeprefix("p_") for name in table if name.startswith("p_") and name != "p_malignant"]
    assert tuple(classes) == ran.labels.classes
    probs = table[[f"p_{code}" for code in classes]]
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
    if ran.labels.malignant:
        added = table[[f"p_{code}" for code in ran.labels.malignant]].sum(axis=1)
        np.testing.assert_allclose(table["p_malignant"].astype(float), added, atol=1e-6)
    else:
        assert set(table["p_malignant"]) == {""}
    assert not (ran.output / "submission.csv").exists()
    assert json.loads((ran.output / "summary.json").read_text())["malignant"] == list(ran.labels.malignant)


def test_terminal_marks_the_malignant_classes_of_the_card(ran: Ran) -> None:
    for finding in ran.findings:
        lines = finding_table("a.jpg", finding, None).splitlines()
        marked = {line.strip("! ").split("  ")[0] for line in lines if line.startswith("  ! ") and "%" in line}
        assert marked == {full_name(code) for code in ran.labels.malignant}
        assert ("!" in "".join(lines)) == bool(ran.labels.malignant)
        assert all(any(full_name(code) in line for line in lines) for code in ran.labels.classes)


def test_figure_marks_the_malignant_classes_of_the_card(ran: Ran) -> None:
    for finding in ran.findings:
        figure = draw_finding(finding, title="a.jpg", canvas=RecordingCanvas)
        names = [text.text for text in figure.classes]
        expected = {f"{MALIGNANT_SIGN} " * (code in ran.labels.malignant) + full_name(code) for code in ran.labels.classes}
        assert expected <= set(names)
        assert (f"{MALIGNANT_SIGN} {SIGN_CAPTION}" in figure.shown.split("\n")) == bool(ran.labels.malignant)
    assert len(list((ran.output / "figures").iterdir())) == 3


def test_report_marks_the_malignant_classes_of_the_card(ran: Ran) -> None:
    report = ran.output / "report.html"
    classes = {item["code"]: item["malignant"] for item in data_of(report)["classes"]}
    assert classes == {code: code in ran.labels.malignant for code in ran.labels.classes}
    assert (f">{MALIGNANT_SIGN}</span> {SIGN_CAPTION}<" in report.read_text(encoding="utf-8")) == bool(ran.labels.malignant)
    for row, page in zip(ran.result.rows, sorted((ran.output / "report" / "pages").iterdir()), strict=True):
        text = page.read_text(encoding="utf-8")
        marked = re.findall(rf'<th scope="row"><span class="sign">{MALIGNANT_SIGN}</span> (.+?)</th>', text)
        assert {name.partition(" (")[0] for name in marked} == {full_name(code) for code in ran.labels.malignant}
        assert ('title="malignant"' in text) == (row["diagnosis"] in ran.labels.malignant)


def test_metrics_plots_and_model_card_follow_the_classes(ran: Ran, segmenter: SegmenterBundle) -> None:
    truth = GroundTruth({str(number): ran.labels.classes[number % 2] for number in range(3)})
    metrics = score_run(ran.output, truth)["classification"]
    classes, named = ran.labels.classes, metrics["metrics"]
    assert {name.removeprefix("support_") for name in named if name.startswith("support_")} - {"malignant"} == set(classes)
    assert ("auroc_malignant" in named) == bool(ran.labels.malignant)
    if ran.labels.malignant:
        assert named["support_malignant"]["value"] == sum(code in ran.labels.malignant for code in truth.diagnoses.values())
    assert ("auroc_mel" in named) == ("mel" in classes)
    assert len(list((ran.output / "plots").iterdir())) == 4
    assert "balanced accuracy" in headline({"classification": metrics})

    masks = {name: {"value": 0.5, "low": None, "high": None} for name in ("dice", "jaccard", "thresholded_jaccard")}
    unet = replace(segmenter, card=replace(segmenter.card, metrics={"images": 3, "metrics": masks}))
    card = replace(ran.bundle.card, metrics=metrics | {"groups": {}})
    text = model_card(unet, replace(ran.bundle, card=card))
    assert ", ".join(f"{code}: {full_name(code)}" for code in classes) in text
    codes = ", ".join(ran.labels.malignant)
    assert (f"the sum of those of {codes}." if codes else "malignant classes are unknown") in text
    assert ("melanoma sensitivity" in text) == ("mel" in classes)
    assert ("akiec" in text) == ("akiec" in classes)


def test_challenge_table_is_written_for_its_seven_classes_in_any_order(run: Run) -> None:
    ran = run(Labels(tuple(reversed(CODES)), ("mel",)))
    header = (ran.output / "submission.csv").read_text().partition("\n")[0]
    assert header == "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
