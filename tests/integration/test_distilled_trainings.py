"""Trainings with a teacher, from end to end."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import CLASSIFIER, Ended, Trained, call, read_json

from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.release.model_card import model_card
from segpipe.workflows import distillation

QUICK = ("tta=none", "heatmap_sample=0", "scheduler=constant", "distill.views=flips")


def distill(trained: Trained, output: Path, *arguments: str, epochs: int = 2) -> Ended:
    teacher = f"distill.teacher=[{trained.folder / 'cls' / 'bundle'}]"
    every = (*trained.data, *CLASSIFIER, trained.bundles[0], *QUICK, teacher, f"trainer.max_epochs={epochs}")
    return call("train_cls", *every, *arguments, output=output)


@pytest.fixture(scope="module")
def student(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    output = tmp_path_factory.mktemp("distilled") / "student"
    ended = distill(trained, output)
    assert ended.status == 0, ended.err
    return output, ended


def test_student_is_trained_and_its_card_names_the_teacher(student: tuple[Path, Ended], trained: Trained) -> None:
    teacher = load_classifier(trained.folder / "cls" / "bundle")
    bundle = load_classifier(student[0] / "bundle")
    assert f"predictions of 1 computed, of 0 read from {trained.data[2].removeprefix('data.cache=')}" in student[1].out
    settings = {"temperature": 2.0, "label_weight": 0.3, "views": "flips"}
    assert bundle.card.training.settings["distill"] == {"teacher": [{"title": "cls", "sha256": teacher.sha256}], **settings}
    assert str(trained.folder) not in (student[0] / "bundle" / "card.json").read_text()
    assert bundle.card.training.seen == teacher.card.training.seen
    text = model_card(load_segmenter(trained.folder / "seg" / "bundle"), bundle)
    assert f"cls (`{teacher.sha256[:12]}`): temperature 2.0, label weight 0.3, views flips" in text
    assert read_json(student[0] / "test" / "metrics.json")["classification"]["images"] > 0


def test_resumed_distillation_equals_an_uninterrupted_one_without_running_the_teacher(
    student: tuple[Path, Ended], trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(distillation, "load_classifier")
    first = distill(trained, tmp_path / "out", epochs=1)
    assert first.status == 0, first.err
    last = f"ckpt_path={tmp_path / 'out' / 'checkpoints' / 'last.ckpt'}"
    resumed = distill(trained, tmp_path / "out", last)
    assert resumed.status == 0, resumed.err
    assert (tmp_path / "out" / "metrics.csv").read_text() == (student[0] / "metrics.csv").read_text()
    for other, key in (
        ("distill.label_weight=0.5", "distill.label_weight was 0.3"),
        ("distill.teacher=null", "distill.teacher was"),
    ):
        refused = distill(trained, tmp_path / "out", last, other)
        assert refused.status == 2
        assert key in refused.error


def test_validation_loss_is_that_of_the_labels(student: tuple[Path, Ended], trained: Trained) -> None:
    """At the start it is near the entropy of seven classes."""
    table = pd.read_csv(student[0] / "metrics.csv")
    alone = pd.read_csv(trained.folder / "cls" / "metrics.csv")
    assert table["val_loss"][0] == pytest.approx(alone["val_loss"][0], rel=0.1)
    assert table["train_loss"][0] < 0.7 * alone["train_loss"][0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["distill.teacher=absent"], "distill.teacher must be a folder, got 'absent'"),
        (["distill.teacher={seg}"], "must be the bundle of a classifier, got that of a segmenter"),
        (["distill.teacher=[{cls},{cls}]"], "distill.teacher must name each model once"),
        (["seed=9"], "was trained on lesions of this run's val or test part"),
    ],
)
def test_wrong_teacher_is_one_line_and_status_2(trained: Trained, tmp_path: Path, arguments: list[str], reason: str) -> None:
    folders = {name: trained.folder / name / "bundle" for name in ("seg", "cls")}
    refused = distill(trained, tmp_path / "out", *(argument.format(**folders) for argument in arguments))
    assert refused.status == 2
    assert reason in refused.error
