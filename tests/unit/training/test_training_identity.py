"""Identity of a training: fixed settings, data, and allowed changes."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose
from PIL import Image

import segpipe.config.schemas  # noqa: F401 - registers the schemas
from segpipe.config.composing import typed
from segpipe.config.schemas import CHANGES_ALLOWED
from segpipe.data.check import CheckedDataset
from segpipe.data.loaders import load_ham10000
from segpipe.data.splits import make_split
from segpipe.errors import ConfigError
from segpipe.models import lite0
from segpipe.training.identity import FREE, RECORD, identify_data, identify_settings, portable_settings, resume_identity

CONF = Path(__file__).parents[3] / "conf"


pytestmark = pytest.mark.usefixtures("hydra")


def configure(*overrides: str, script: str = "train_cls") -> Any:
    return typed(compose(script, ["data=synthetic", *overrides]))


def resume(*overrides: str, script: str = "train_cls", before: tuple[str, ...] = (), epoch: int = 3) -> Any:
    """Resume a training of other settings."""
    config, earlier = configure(*overrides, script=script), identify_settings(configure(*before))
    checkpoint = {"epoch": epoch, RECORD: earlier.to_dict()}
    return resume_identity(identify_settings(config), checkpoint, allowed=list(config.allow_change))


FIXED = {
    "seed=1": ("seed", "0", "1"),
    "batch_size=7": ("batch_size", "32", "7"),
    "optimizer.lr=0.5": ("optimizer.lr", "0.001", "0.5"),
    "optimizer.weight_decay=0.5": ("optimizer.weight_decay", "0.01", "0.5"),
    "optimizer._target_=torch.optim.SGD": ("optimizer._target_", "torch.optim.AdamW", "torch.optim.SGD"),
    "loss.tau=0.5": ("loss.tau", "1.0", "0.5"),
    "loss=cross_entropy": ("loss._target_", "logit_adjusted", "focal"),
    "sampler=none": ("sampler", "square_root", "none"),
    "scheduler=constant": ("scheduler._target_", "WarmupCosine", "Constant"),
    "crop=tight": ("crop.margin_fraction", "0.25", "0.0"),
    "augment=none": ("augment.transforms", "albumentations", "[]"),
    "unfreeze=progressive": ("unfreeze.from_epochs", "[0]", "[0,"),
    "classifier.input_size=96": ("classifier.input_size", "192", "96"),
    "classifier=resnet18": ("classifier.name", "efficientnet_b0", "resnet18"),
    "data.fold=1": ("data.fold", "null", "1"),
    "data.limit=50": ("data.limit", "null", "50"),
    "trainer.ema_decay=0.9": ("trainer.ema_decay", "null", "0.9"),
    "trainer.accumulate_grad_batches=2": ("trainer.accumulate_grad_batches", "1", "2"),
    "trainer.gradient_clip_val=null": ("trainer.gradient_clip_val", "1.0", "null"),
    "+trainer.limit_train_batches=2": ("trainer.limit_train_batches", "null", "2"),
}


@pytest.mark.parametrize("override", FIXED)
def test_other_settings_are_refused_with_both_values(override: str) -> None:
    key, before, now = FIXED[override]
    with pytest.raises(ConfigError) as refused:
        resume(override)
    text = str(refused.value)
    assert f"{key} was " in text and "\n" not in text
    was, _, value = text.partition(f"{key} was ")[2].partition(", is ")
    assert before in was and now in value.partition(";")[0]
    assert all(free in text for free in FREE if free != "allow_change")
    assert all(changeable in text for changeable in CHANGES_ALLOWED)


def test_all_differences_are_named_at_once_but_another_stage_alone() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr was 0\.001, is 0\.5; seed was 0, is 1; "):
        resume("seed=1", "optimizer.lr=0.5")
    with pytest.raises(ConfigError, match=r"this training, but stage was classifier, is segmenter; "):
        resume(script="train_seg")


@pytest.mark.parametrize(
    "override",
    [
        *("workers=2", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "logger=[csv,tensorboard]"),
        *("data.cache=null", "data.root=/elsewhere", "output=/elsewhere", "overwrite=true", "tta=none", "calibration=none"),
        *("trainer.patience=9", "threshold.diagnosis=mel", "allow_leak=true"),
    ],
)
def test_hardware_paths_and_later_steps_may_change(override: str) -> None:
    assert resume(override).changes == ()


def test_change_is_allowed_as_the_refusal_advises_and_recorded() -> None:
    with pytest.raises(ConfigError) as refused:
        resume("optimizer.lr=0.5", "batch_size=7")
    advice = next(word for word in shlex.split(str(refused.value).replace(";", " ")) if word.startswith("allow_change="))
    identity = resume("optimizer.lr=0.5", "batch_size=7", "trainer.max_epochs=40", advice)
    assert {change["key"]: (change["epoch"], change["before"], change["after"]) for change in identity.changes} == {
        "optimizer.lr": (4, 0.001, 0.5),
        "batch_size": (4, 32, 7),
        "trainer.max_epochs": (4, 12, 40),
    }


def test_distillation_settings_do_not_count_without_a_teacher() -> None:
    config = configure("distill.temperature=3")
    assert "distill" not in portable_settings(config)
    assert identify_settings(config) == identify_settings(configure())


def test_teachers_are_identified_by_their_contents(bundles: Path, ensemble_folders: list[Path], tmp_path: Path) -> None:
    teacher = bundles / "classifier"
    copied = shutil.copytree(teacher, tmp_path / "run" / "bundle")
    before = (f"distill.teacher={teacher}",)
    assert resume(f"distill.teacher=[{copied}]", before=before).changes == ()
    for other in ((), (f"distill.teacher={ensemble_folders[1]}",), (f"distill.teacher=[{teacher},{ensemble_folders[1]}]",)):
        with pytest.raises(ConfigError, match=r"distill\.teacher was "):
            resume(*other, before=before)
    with pytest.raises(ConfigError, match=r"distill\.temperature was 2\.0, is 3\.0; "):
        resume(*before, "distill.temperature=3", before=before)
    described = portable_settings(configure(f"distill.teacher={copied}"))["distill"]
    assert [entry["title"] for entry in described["teacher"]] == ["run"]
    assert [len(entry["sha256"]) for entry in described["teacher"]] == [64]


def test_earlier_changes_are_kept() -> None:
    first = resume("optimizer.lr=0.5", "allow_change=[optimizer.lr]")
    config = configure("optimizer.lr=0.25", "allow_change=[optimizer.lr]")
    again = resume_identity(identify_settings(config), {"epoch": 5, RECORD: first.to_dict()}, allowed=["optimizer.lr"])
    assert [(change["before"], change["after"]) for change in again.changes] == [(0.001, 0.5), (0.5, 0.25)]


@pytest.fixture
def dataset(synthetic_root: Path, tmp_path: Path) -> CheckedDataset:
    return load_ham10000(str(shutil.copytree(synthetic_root, tmp_path / "root")))


def test_copied_data_are_the_same_data(dataset: CheckedDataset, synthetic_root: Path) -> None:
    split, none = make_split(dataset.table, seed=0), dataset.table.iloc[:0]
    assert identify_data(load_ham10000(str(synthetic_root)), none, split) == identify_data(dataset, none, split)


def test_other_images_masks_labels_and_parts_are_other_data(dataset: CheckedDataset) -> None:
    table, split = dataset.table, make_split(dataset.table, seed=0)
    none = dataset.table.iloc[:0]
    known = identify_data(dataset, none, split)

    def differing(rows: pd.DataFrame = table, parts: pd.DataFrame = split) -> set[str]:
        now = identify_data(CheckedDataset("same", rows, ()), none, parts)
        return {key for key in known if now[key] != known[key]}

    assert differing(table.sample(frac=1, random_state=0)) == set()
    assert differing(table.iloc[:-1]) == {"data"}
    assert differing(table.assign(dx=["mel", *table["dx"][1:]])) == {"data"} or table["dx"][0] == "mel"
    assert differing(table.assign(mask_path=[None, *table["mask_path"][1:]])) == {"data"}
    assert differing(parts=make_split(table, seed=1)) == {"split"}
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(table["image_path"][0])
    assert differing() == {"data"}


@pytest.mark.parametrize(("script", "stage"), [("train_cls", "classifier"), ("train_seg", "segmenter")])
@pytest.mark.parametrize(
    ("init", "installed", "named"),
    [
        ("imagenet", True, "imagenet (EfficientNet-Lite0)"),
        ("imagenet", False, "imagenet"),
        ("random", True, "random"),
        ("folder/weights.safetensors", True, "weights.safetensors"),
    ],
)
def test_card_names_installed_starting_weights_and_identity_does_not(
    monkeypatch: pytest.MonkeyPatch, script: str, stage: str, init: str, installed: bool, named: str
) -> None:
    monkeypatch.setattr(lite0, "installed_file", lambda: Path("lite0.pth") if installed else None)
    config = configure(f"{stage}.init={init}", script=script)
    assert portable_settings(config)[stage]["init"] == named
    assert identify_settings(config).settings[f"{stage}.init"] == init
