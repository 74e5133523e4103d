"""Both trainings: files, output, resuming, and wrong calls."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import CLASSIFIER, SEGMENTER, Trained, call, read_json, results
from lightning import Trainer
from omegaconf import OmegaConf

from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.data.splits import read_split, split_hash, write_split
from segpipe.diagnosis import CODES
from segpipe.evaluation.score import classifier_test_metrics, segmenter_test_metrics
from segpipe.io.images import read_image
from segpipe.release.model_card import model_card

COLUMNS = {
    "seg": ["val_loss", "val_dice", "val_iou", "train_loss", "learning_rate"],
    "cls": ["val_loss", "val_accuracy", "val_balanced_accuracy", "val_auroc", "train_loss", "learning_rate"],
}


def train(trained: Trained, kind: str, output: Path, *arguments: str, epochs: int = 1, **values: Any) -> Any:
    """Train again on the same data."""
    networks = SEGMENTER if kind == "seg" else (*CLASSIFIER, trained.bundles[0])
    every = (*trained.data, *networks, f"trainer.max_epochs={epochs}", *arguments)
    return call(f"train_{kind}", *every, output=output, **values)


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_training_writes_all_of_its_files(trained: Trained, kind: str) -> None:
    folder = trained.folder / kind
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files >= {
        *("config.yaml", "split.csv", "metrics.csv", "plots/training.png", "checkpoints/last.ckpt", "test/metrics.json"),
        *("bundle/model.safetensors", "bundle/card.json"),
    }
    assert not {name for name in files if "=" in name or ".part" in name}
    split = pd.read_csv(folder / "split.csv")
    assert list(split.columns) == ["image_id", "lesion_id", "part"]
    assert split.groupby("lesion_id")["part"].nunique().max() == 1
    config = OmegaConf.load(folder / "config.yaml")
    assert config.data.root == str(trained.folder / "data")


@pytest.mark.parametrize(("kind", "epochs"), [("seg", 6), ("cls", 2)])
def test_table_of_metrics_has_one_row_for_each_epoch(trained: Trained, kind: str, epochs: int) -> None:
    table = pd.read_csv(trained.folder / kind / "metrics.csv")
    assert table["epoch"].tolist() == list(range(epochs))
    assert set(COLUMNS[kind]) <= set(table.columns)
    assert table[COLUMNS[kind]].notna().all(axis=None)


def test_segmenter_is_scored_and_its_predictions_are_drawn(trained: Trained) -> None:
    metrics = read_json(trained.folder / "seg" / "test" / "metrics.json")
    assert metrics["segmentation"]["intervals_over"] == "lesion"
    assert metrics["segmentation"]["metrics"]["dice"]["value"] > 0.6
    assert metrics["segmenter_alone"]["metrics"]["dice"]["value"] > 0.6
    assert metrics["segmenter_alone"]["test_set"]["part"] == "test"
    assert metrics["mask_sources"]["unet"] > 0
    assert read_image(trained.folder / "seg" / "test" / "predictions.png").shape[1] == 1280


def test_classifier_is_scored_by_a_run_over_the_test_part(trained: Trained) -> None:
    folder = trained.folder / "cls"
    metrics = read_json(folder / "test" / "metrics.json")
    split = read_split(folder / "split.csv")
    test_ids = set(split.loc[split["part"] == "test", "image_id"])
    table = results(folder / "test")
    assert {Path(path).stem for path in table["path"]} == test_ids
    assert metrics["classification"]["images"] == metrics["segmentation"]["images"] == len(test_ids)
    of_segmenter = read_json(trained.folder / "seg" / "test" / "metrics.json")
    assert metrics["segmentation"]["test_set"] == of_segmenter["segmentation"]["test_set"]
    assert metrics["pipeline"]["segmenter"] == load_segmenter(trained.folder / "seg" / "bundle").sha256
    assert set(table["tta_spread"]) != {""}


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_last_lines_are_the_headline_metrics_the_bundle_and_its_use(trained: Trained, kind: str) -> None:
    ended = trained.segmenter if kind == "seg" else trained.classifier
    lines = ended.out.splitlines()
    assert lines[-2] == f"bundle in {trained.folder / kind / 'bundle'}"
    assert lines[-1].startswith("use it: segpipe predict folder=IMAGES bundle.")
    shown = {line[:22].strip() for line in lines[-25:-2]}
    assert {"localizer dice", "localizer jaccard", "localizer masks from"} <= shown
    assert not any(line.startswith(("dice", "jaccard")) for line in lines)
    own = {"segmenter dice"} if kind == "seg" else {"accuracy", "majority baseline", "balanced accuracy", "macro auroc"}
    assert own <= shown
    assert "usable images of 42 lesions" in ended.out
    assert "Traceback" not in ended.err


def test_starting_weights_and_unfreezing_plan_are_printed(trained: Trained) -> None:
    lines = trained.classifier.out.splitlines()
    lines = lines[lines.index("starting weights: random") + 1 :]
    assert lines[0].split()[:2] == ["stage", "weights"]
    assert "BatchNorm" in lines[0]
    assert lines[1].split()[0] == "head"
    assert lines[1].split()[2] == "0"
    assert [line.split()[0] for line in lines[2:7]] == ["stage5", "stage4", "stage3", "stage2", "stage1"]
    assert lines[7].startswith("45 training images: each epoch draws 64, ")
    assert lines[8] == "training and validation images without a mask: 0; the lesion was found in 0 of them"


def test_cards_record_the_training(trained: Trained) -> None:
    split = read_split(trained.folder / "seg" / "split.csv")
    segmenter = load_segmenter(trained.folder / "seg" / "bundle").card
    classifier = load_classifier(trained.folder / "cls" / "bundle").card
    for card, kind, figures in ((segmenter, "seg", segmenter_test_metrics), (classifier, "cls", classifier_test_metrics)):
        assert card.training.split_hash == split_hash(split)
        assert card.training.images == (split["part"] == "train").sum()
        assert card.metrics == figures(read_json(trained.folder / kind / "test" / "metrics.json"))
        assert str(trained.folder) not in (trained.folder / kind / "bundle" / "card.json").read_text()
    text = model_card(load_segmenter(trained.folder / "seg" / "bundle"), load_classifier(trained.folder / "cls" / "bundle"))
    assert "crops by the segmenter above" in text and "the same images as in the test of the classifier." in text
    assert f"| macro AUROC | {classifier.metrics['metrics']['macro_auroc']['value']:.3f}" in text
    assert segmenter.training.dataset_hash == classifier.training.dataset_hash
    assert classifier.classes == CODES
    assert classifier.temperature != 1
    assert not classifier.training.leaks_allowed


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_training_resumes_from_its_checkpoint_and_keeps_its_rows(trained: Trained, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    first = train(trained, kind, output, epochs=1)
    assert first.status == 0, first.err
    row = (output / "metrics.csv").read_text().splitlines()[1]
    resumed = train(trained, kind, output, epochs=3, ckpt_path=output / "checkpoints" / "last.ckpt")
    assert resumed.status == 0, resumed.err
    lines = (output / "metrics.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["epoch", "0", "1", "2"]
    assert lines[1] == row
    read_card = load_segmenter if kind == "seg" else load_classifier
    assert read_card(output / "bundle").card.training.epochs == 3


def test_checkpoint_does_not_allow_writing_into_another_training(trained: Trained, tmp_path: Path) -> None:
    elsewhere = trained.folder / "seg" / "checkpoints" / "last.ckpt"
    refused = train(trained, "seg", trained.folder / "cls", ckpt_path=elsewhere)
    assert refused.status == 2
    assert "output must be a folder without results" in refused.error


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_seed_determines_the_whole_training(trained: Trained, tmp_path: Path, kind: str) -> None:
    tables = []
    for number, seed in enumerate((3, 3, 4)):
        ended = train(trained, kind, tmp_path / str(number), seed=seed, split=trained.folder / "seg" / "split.csv")
        assert ended.status == 0, ended.err
        tables.append((tmp_path / str(number) / "metrics.csv").read_text())
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half an archive"])
def test_damaged_checkpoint_is_one_clear_line(trained: Trained, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    refused = train(trained, "seg", tmp_path / "out", ckpt_path=tmp_path / "last.ckpt")
    assert refused.status == 2
    assert "ckpt_path must be a checkpoint of a training" in refused.error


def test_interrupted_training_prints_the_checkpoint_to_resume_from(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Trainer, *_: object, **__: object) -> None:
        """Stop as Lightning does after Ctrl-C."""
        raise SystemExit(1)

    output = tmp_path / "out"
    assert train(trained, "seg", output, epochs=1).status == 0
    monkeypatch.setattr(Trainer, "fit", stop)
    last = output / "checkpoints" / "last.ckpt"
    ended = train(trained, "seg", output, epochs=2, ckpt_path=last)
    assert ended.status == 130
    assert ended.err.splitlines()[-1] == f"interrupted: resume with ckpt_path={last}"
    ended = train(trained, "seg", tmp_path / "new", epochs=2)
    assert (ended.status, ended.err.splitlines()[-1]) == (130, "interrupted: no epoch was finished")


def test_limited_training_uses_whole_lesions_of_every_class(trained: Trained, tmp_path: Path) -> None:
    ended = train(trained, "seg", tmp_path / "out", **{"data.limit": 20})
    assert ended.status == 0, ended.err
    card = load_segmenter(tmp_path / "out" / "bundle").card
    whole = load_segmenter(trained.folder / "seg" / "bundle").card
    assert card.training.images < whole.training.images / 2
    # The split is that of the whole data set, so that leaks between the bundles are found.
    assert card.training.split_hash == whole.training.split_hash


def test_folder_with_a_training_is_replaced_only_with_overwrite(trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert train(trained, "seg", output).status == 0
    (output / "notes.txt").write_text("mine")
    before = (output / "metrics.csv").read_bytes()
    refused = train(trained, "seg", output)
    assert refused.status == 2
    assert refused.error.startswith(f"output must be a folder without results, got {output}")
    assert "overwrite=true" in refused.error
    assert (output / "metrics.csv").read_bytes() == before
    replaced = train(trained, "seg", output, overwrite=True, seed=5)
    assert replaced.status == 0, replaced.err
    assert (output / "metrics.csv").read_bytes() != before
    assert (output / "notes.txt").read_text() == "mine"


def other_split(trained: Trained, tmp_path: Path) -> Path:
    """The split of the training with two parts swapped."""
    split = read_split(trained.folder / "seg" / "split.csv")
    exchanged = split.assign(part=split["part"].replace({"test": "val", "val": "test"}))
    write_split(tmp_path / "other.csv", exchanged)
    return tmp_path / "other.csv"


def test_segmenter_trained_on_test_lesions_is_refused_unless_allowed(trained: Trained, tmp_path: Path) -> None:
    split = other_split(trained, tmp_path)
    refused = train(trained, "cls", tmp_path / "refused", split=split)
    assert refused.status == 2
    assert refused.error.startswith("bundle.segmenter was trained on lesions of this run's val or test part (")
    assert not (tmp_path / "refused" / "bundle").exists()
    allowed = train(trained, "cls", tmp_path / "allowed", split=split, allow_leak=True)
    assert allowed.status == 0, allowed.err
    assert load_classifier(tmp_path / "allowed" / "bundle").card.training.leaks_allowed


def test_split_of_an_earlier_training_is_used(trained: Trained, tmp_path: Path) -> None:
    split = other_split(trained, tmp_path)
    assert train(trained, "seg", tmp_path / "out", split=split).status == 0
    pd.testing.assert_frame_equal(read_split(tmp_path / "out" / "split.csv"), read_split(split))


@pytest.mark.parametrize(
    ("kind", "argument", "reason"),
    [
        ("seg", "trainer.max_epochs=0", "trainer.max_epochs must be 1 or more, got 0"),
        ("seg", "trainer.max_epoch=3", "unknown key trainer.max_epoch=3; did you mean trainer.max_epochs"),
        ("seg", "batch_size=many", 'batch_size must be an integer, got "many"'),
        ("seg", "loss=dice", "loss must be one of "),
        ("seg", "data.limit=0", "data.limit must be 1 or more, got 0"),
        ("seg", "split=absent.csv", "split must be an existing path, got 'absent.csv'"),
        ("seg", "ckpt_path=absent.ckpt", "ckpt_path must be an existing path, got 'absent.ckpt'"),
        ("seg", "segmenter.encoder=nonsense", "encoder must be a network that segmentation-models-pytorch knows"),
        ("seg", "segmenter.decoder_channels=[8]", "decoder_channels must have 5 entries"),
        ("seg", "segmenter.input_size=65", "segmenter.input_size must be a multiple of 32"),
        (
            "seg",
            "segmenter.init=absent.safetensors",
            "init must be random, imagenet, shipped",
        ),
        ("cls", "classifier.name=nonsense", "classifier.name must be a network that timm knows, got 'nonsense'"),
        ("cls", "classifier.attention=full", "attention must be one of none, channel, spatial, cbam, got 'full'"),
        ("cls", "unfreeze.from_epochs=[1]", "unfreeze.from_epochs must begin with 0"),
        ("cls", "unfreeze.lr_decay=2", "unfreeze.lr_decay must be above 0 and at most 1"),
        ("cls", "crop.margin_fraction=-1", "margin_fraction must be at least 0 and at most 10, got -1"),
        ("cls", "loss.tau=-1", "loss.tau must be 0 or more, got -1"),
        ("cls", "tta.views=all", "tta.views must be one of none, flips, d4, crops, got 'all'"),
        ("cls", "workers=-1", "workers must be 0 or more, got -1"),
        ("cls", "bundle.segmenter=absent", "bundle.segmenter must be an existing path, got 'absent'"),
    ],
)
def test_wrong_value_is_one_line_and_status_2(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, argument: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = train(trained, kind, tmp_path / "out", argument)
    assert ended.status == 2, ended.err
    assert reason in ended.error
    assert not (tmp_path / "out" / "bundle").exists()


@pytest.mark.parametrize("script", ["train_seg", "train_cls"])
def test_missing_data_set_is_one_line(trained: Trained, tmp_path: Path, script: str) -> None:
    ended = call(
        script, trained.bundles[0] if script == "train_cls" else "seed=1", **{"data.root": "no=where", "output": tmp_path}
    )
    assert ended.status == 2, ended.err
    assert ended.error == "data.root must be a folder, got 'no=where'; see data/README.md, or use data=synthetic"
