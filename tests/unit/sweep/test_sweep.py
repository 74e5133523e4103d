"""Jobs of a sweep: names, records and tables."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose

import segpipe.config.schemas  # noqa: F401 - registers the schemas
from segpipe.config.composing import typed
from segpipe.config.schemas import TrainClsConfig
from segpipe.errors import DatasetError
from segpipe.evaluation.run import join_folds
from segpipe.inference.resources import peak_memory_mib, restart_peak_memory
from segpipe.io.run_files import FAILED_JOBS, FOLD_TABLE, LEADERBOARD, LEADERBOARD_PLOT
from segpipe.sweep import leaderboard as picture
from segpipe.sweep.job import job_name
from segpipe.sweep.leaderboard import (
    draw_leaderboard,
    leaderboard,
    varying_settings,
    write_out_of_fold,
    write_tables,
)
from segpipe.sweep.printing import PRINTED, leaderboard_text
from segpipe.sweep.record import FAILED, FINISHED, RUNNING, JobRecord, best_epoch_of, read_record, write_record

CONF = Path(__file__).parents[3] / "conf"


pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn") / "data"


def configure(root: Path, *overrides: str) -> TrainClsConfig:
    drawn = ("data=synthetic", f"data.root={root}", "data.lesions=42", "data.height=40", "data.width=50")
    return typed(compose("train_cls", [*drawn, *overrides]))


@pytest.mark.parametrize(
    "override",
    ["output=elsewhere", "workers=2", "trainer.accelerator=gpu", "trainer.devices=2", "data.cache=null", "overwrite=true"],
)
def test_paths_and_devices_do_not_change_the_name_of_a_job(root: Path, override: str) -> None:
    assert job_name(configure(root, override)) == job_name(configure(root))


@pytest.mark.parametrize(
    "override", ["optimizer.lr=0.5", "classifier=efficientnet_b0", "seed=1", "data.fold=0", "data.lesions=49"]
)
def test_settings_of_the_training_change_the_name_of_a_job(root: Path, override: str) -> None:
    assert job_name(configure(root.with_name("other" if "lesions" in override else root.name), override)) != job_name(
        configure(root)
    )


def test_file_counts_by_its_content_not_its_name(root: Path, tmp_path: Path) -> None:
    one, same, other = (tmp_path / folder / "start.safetensors" for folder in ("one", "same", "other"))
    for path, content in ((one, b"1"), (same, b"1"), (other, b"2")):
        path.parent.mkdir()
        path.write_bytes(content)
    names = [job_name(configure(root, f"classifier.init={path}")) for path in (one, same, other)]
    assert names[0] == names[1] != names[2]


def test_same_split_in_another_file_is_the_same_job(root: Path, tmp_path: Path) -> None:
    metadata = pd.read_csv(root / "HAM10000_metadata.csv")
    lesions = sorted(metadata["lesion_id"].unique())
    part = {lesion: ("train", "val", "test")[place % 3] for place, lesion in enumerate(lesions)}
    split = metadata.assign(part=metadata["lesion_id"].map(part))[["image_id", "lesion_id", "part"]]
    split.to_csv(tmp_path / "a.csv", index=False)
    split.sample(frac=1, random_state=0).to_csv(tmp_path / "b.csv", index=False)
    split.assign(part=split["part"].replace({"val": "train", "train": "val"})).to_csv(tmp_path / "c.csv", index=False)
    names = [job_name(configure(root, f"split={tmp_path / name}.csv")) for name in "abc"]
    assert names[0] == names[1] != names[2]


def test_job_with_unusable_data_has_a_name(root: Path) -> None:
    assert job_name(typed(compose("train_cls", [f"data.root={root / 'nowhere'}"])))


def record(folder: Path, status: str = FINISHED, **changed: Any) -> JobRecord:
    """Write a training of a sweep to disk."""
    score, lr, test_set = changed.pop("score", 0.5), changed.pop("lr", 0.1), changed.pop("test_set", None)
    made = JobRecord(
        folder,
        status,
        settings={"optimizer.lr": lr, "seed": 0},
        overrides=[f"optimizer.lr={lr}"],
        epochs=2,
        best_epoch=1,
        validation={"val_loss": 1.0, "val_auroc": score},
    )
    made = dataclasses.replace(made, **changed)
    (folder / "test").mkdir(parents=True)
    figures = {"macro_auroc": {"value": score - 0.1, "low": 0.1, "high": None}}
    (folder / "test" / "metrics.json").write_text(json.dumps({"classification": {"metrics": figures, "test_set": test_set}}))
    write_record(made)
    return made


def identity(sha256: str, dataset: str = "drawn") -> dict[str, Any]:
    return {"dataset": dataset, "part": "test", "images": 16, "images_sha256": sha256, "sha256": sha256}


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = record(tmp_path / "a", seconds=3.5, peak_memory_mib=100.0, reason="none")
    assert read_record(tmp_path / "a") == made
    assert read_record(tmp_path) is None


def test_duration_of_a_killed_start_ends_with_its_last_checkpoint(tmp_path: Path) -> None:
    killed = record(tmp_path / "a", RUNNING, seconds=10.0, started=1000.0)
    assert killed.seconds_until(1007.0) == 17.0
    assert killed.seconds_until(900.0) == 10.0  # a checkpoint of the start before
    assert dataclasses.replace(killed, status=FAILED).seconds_until(1007.0) == 10.0


def test_best_on_validation_is_first_with_the_varying_settings(tmp_path: Path) -> None:
    records = [
        record(tmp_path / name, score=score, lr=lr) for name, score, lr in (("a", 0.6, 1.0), ("b", 0.9, 0.1), ("c", 0.7, 2.0))
    ]
    table = leaderboard(records)
    assert list(table["job"]) == ["b", "c", "a"]
    assert list(table.columns[:5]) == ["job", "optimizer.lr", "best_epoch", "val_auroc", "val_loss"]
    assert list(table["test_macro_auroc"]) == pytest.approx([0.8, 0.6, 0.5])
    assert "seed" not in table


def test_printed_leaderboard_has_the_varying_settings_and_the_metrics(tmp_path: Path) -> None:
    for name, score, lr, choice in (("a", 0.6, 1e-4, "one"), ("b", 0.9, 0.1, "two"), ("c", 0.7, 2.0, "two")):
        settings = {"optimizer.lr": lr, "seed": 0, "loss": choice, "loss.gamma": lr}
        record(tmp_path / name, score=score, settings=settings, seconds=61.4)
    record(tmp_path / "d", FAILED)
    write_tables(tmp_path)
    *rows, last = leaderboard_text(tmp_path).splitlines()
    assert rows[0].split() == ["job", "loss", "optimizer.lr", "val_auroc", "val_loss", "test_macro_auroc", "seconds"]
    assert [row.split() for row in rows[1:]] == [
        ["b", "two", "0.1", "0.900", "1.000", "0.800", "61"],
        ["c", "two", "2", "0.700", "1.000", "0.600", "61"],
        ["a", "one", "0.0001", "0.600", "1.000", "0.500", "61"],
    ]
    assert "3 finished trainings" in last
    assert last.endswith(str(tmp_path / "leaderboard.csv"))


def test_printed_leaderboard_ends_with_the_number_of_the_other_trainings(tmp_path: Path) -> None:
    for number in range(PRINTED + 3):
        record(tmp_path / f"{number:02}", lr=float(number))
    write_tables(tmp_path)
    lines = leaderboard_text(tmp_path).splitlines()
    assert len(lines) == 1 + PRINTED + 2
    assert lines[-2] == "3 more"


def test_leaderboard_without_a_finished_training_has_no_rows(tmp_path: Path) -> None:
    record(tmp_path / "a", FAILED)
    write_tables(tmp_path)
    assert leaderboard_text(tmp_path).splitlines()[0] == "job"


def test_score_of_a_kept_start_is_that_of_the_start(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    pd.DataFrame({"epoch": [0, 1], "val_auroc": [0.4, 0.5]}).to_csv(tmp_path / "metrics.csv", index=False)
    for kept, score in ((True, 0.9), (False, 0.5)):
        training = {"epochs": 2, "best_epoch": 1, "start": {"scores": {"val_auroc": 0.9}, "kept": kept}}
        (tmp_path / "bundle" / "card.json").write_text(json.dumps({"training": training}))
        assert best_epoch_of(tmp_path)["validation"] == {"val_auroc": score}


def test_test_metrics_of_segmenter_and_localizer_have_different_names(tmp_path: Path) -> None:
    made = record(tmp_path / "a", validation={"val_dice": 0.00006})
    metric = {"low": None, "high": None}
    parts = {
        "segmentation": {"metrics": {"dice": {"value": 0.95, **metric}}, "test_set": identity("1")},
        "segmenter_alone": {"metrics": {"dice": {"value": 0.0, **metric}}, "test_set": identity("1")},
    }
    (made.folder / "test" / "metrics.json").write_text(json.dumps(parts))
    row = leaderboard([made]).iloc[0]
    assert (row["test_dice"], row["test_localizer_dice"]) == (0.0, 0.95)
    named = {"classification": {"metrics": {"accuracy": {"value": 0.5, **metric}}}, "segmentation": parts["segmentation"]}
    (made.folder / "test" / "metrics.json").write_text(json.dumps(named))
    row = leaderboard([made]).iloc[0]
    assert (row["test_accuracy"], row["test_localizer_dice"]) == (0.5, 0.95)
    assert "test_dice" not in row


def test_leaderboard_identifies_the_test_images_of_each_training(tmp_path: Path) -> None:
    tests = {"a": identity("1"), "b": identity("2", "other"), "c": None}
    table = leaderboard([record(tmp_path / name, test_set=test_set) for name, test_set in tests.items()])
    assert list(table.columns[-3:]) == ["test_dataset", "test_images", "test_set_sha256"]
    assert table["test_set_sha256"].to_list()[:2] == ["1", "2"]
    assert table["test_dataset"].isna().to_list() == [False, False, True]


@pytest.mark.parametrize(
    ("hashes", "several"), [("1", False), ("11", False), ("12", True), ("1-", True), ("--", True), ("-", False)]
)
def test_plot_marks_tests_of_different_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: str, several: bool
) -> None:
    drawn = []
    monkeypatch.setattr(picture, "save_figure", lambda figure, _: drawn.append(figure))
    sets = [None if sha256 == "-" else identity(sha256) for sha256 in hashes]
    records = [record(tmp_path / str(number), lr=float(number), test_set=one) for number, one in enumerate(sets)]
    draw_leaderboard(leaderboard(records), varying_settings(records), tmp_path / LEADERBOARD_PLOT)
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert [label.count("\ntest") == 1 for label in labels] == [several] * len(hashes)
    assert (drawn[0].get_suptitle() != "") == several


def test_folds_of_other_data_are_not_joined(tmp_path: Path) -> None:
    records = []
    for number, (fold, test) in enumerate([(0, "1"), (1, "1"), (0, "2"), (1, "2")]):
        settings = {"data.fold": fold, "data.folds": 2, "seed": 0}
        made = record(tmp_path / str(number), settings=settings, test_set=identity(test, f"data {test}"))
        rows = {"image_id": [f"i{fold}", f"j{fold}"], "lesion_id": [f"i{fold}", f"j{fold}"], "dx": ["mel", "nv"], "fold": fold}
        answers = {"p_mel": [0.9, 0.2], "p_nv": [0.1, 0.8], "sha256": [f"{test}{fold}i", f"{test}{fold}j"]}
        pd.DataFrame(rows | answers).to_csv(made.folder / FOLD_TABLE, index=False)
        records.append(made)
    write_out_of_fold(tmp_path, records)
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("out_of_fold.json", "out_of_fold_2.json"))
    for scored, test in ((first, "1"), (second, "2")):
        assert scored["accuracy"]["value"] == 1
        assert (scored["test_set"]["dataset"], scored["test_set"]["part"], scored["test_set"]["images"]) == (
            f"data {test}",
            "val",
            4,
        )
    assert first["test_set"]["sha256"] != second["test_set"]["sha256"]


def test_training_without_a_score_is_last_and_drawn(tmp_path: Path) -> None:
    record(tmp_path / "a", validation={"val_loss": 1.0}, lr=1.0)
    record(tmp_path / "b", score=0.2, lr=2.0)
    write_tables(tmp_path)
    table = pd.read_csv(tmp_path / LEADERBOARD)
    assert list(table["job"]) == ["b", "a"]
    assert table["val_auroc"].isna().tolist() == [False, True]
    assert (tmp_path / LEADERBOARD_PLOT).read_bytes().startswith(b"\x89PNG")


def test_sweep_in_which_no_training_has_a_score_has_its_tables(tmp_path: Path) -> None:
    made = record(tmp_path / "a", validation={"val_loss": 1.0})
    unknown = {"macro_auroc": {"value": None, "low": None, "high": None}}
    (tmp_path / "a" / "test" / "metrics.json").write_text(json.dumps({"classification": {"metrics": unknown}}))
    assert made.score is None
    write_tables(tmp_path)
    assert list(pd.read_csv(tmp_path / LEADERBOARD)["job"]) == ["a"]


def test_config_groups_are_listed_before_single_keys(tmp_path: Path) -> None:
    settings = [{"classifier.name": name, "classifier": name, "seed": 0} for name in ("resnet18", "efficientnet_b0")]
    records = [record(tmp_path / str(place), settings=one) for place, one in enumerate(settings)]
    assert varying_settings(records) == ["classifier", "classifier.name"]


def test_only_finished_trainings_are_ranked_and_failed_ones_are_listed_with_their_reason(tmp_path: Path) -> None:
    record(tmp_path / "good")
    record(tmp_path / "bad", FAILED, reason="it was too dark")
    record(tmp_path / "cut", RUNNING)
    write_tables(tmp_path)
    assert list(pd.read_csv(tmp_path / LEADERBOARD)["job"]) == ["good"]
    failed = pd.read_csv(tmp_path / FAILED_JOBS)
    assert failed.to_dict("records") == [{"job": "bad", "overrides": "optimizer.lr=0.1", "reason": "it was too dark"}]
    assert (tmp_path / LEADERBOARD_PLOT).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / FOLD_TABLE).exists()


def test_sweep_without_finished_trainings_has_empty_tables(tmp_path: Path) -> None:
    write_tables(tmp_path)
    assert pd.read_csv(tmp_path / LEADERBOARD).empty
    assert pd.read_csv(tmp_path / FAILED_JOBS).empty


def test_lesion_in_two_folds_is_refused() -> None:
    folds = [pd.DataFrame({"image_id": [f"i{fold}"], "lesion_id": ["same"], "fold": [fold]}) for fold in range(2)]
    with pytest.raises(DatasetError, match="1 lesion in two folds, such as same"):
        join_folds(folds)


def test_image_in_two_folds_is_refused() -> None:
    folds = [pd.DataFrame({"image_id": ["same"], "lesion_id": ["one"], "fold": [0]})] * 2
    with pytest.raises(DatasetError, match="in one fold, got same twice"):
        join_folds(folds)


def test_peak_memory_is_measured_from_its_restart() -> None:
    before = peak_memory_mib()
    if before is None:
        pytest.skip("this system does not tell the memory of a process")
    block = bytearray(300 * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])  # each page is touched
    full = peak_memory_mib()
    assert full is not None and full >= before
    del block
    time.sleep(0)
    restart_peak_memory()
    after = peak_memory_mib()
    assert after is not None and after < full - 200
