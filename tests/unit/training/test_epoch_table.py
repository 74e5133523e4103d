"""Table of the epochs of a training, also of a resumed one."""

from pathlib import Path

import pandas as pd
import pytest
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor

from segpipe.training.tracking import EpochTable


def test_metrics_of_an_epoch_share_a_row_in_any_order(tmp_path: Path) -> None:
    table = EpochTable(output=tmp_path, checkpoint=None)
    table.log_metrics({"epoch": 1, "val_loss": 0.2}, step=5)
    table.log_metrics({"epoch": 0, "val_loss": 0.3}, step=2)
    table.log_metrics({"epoch": 0, "train_loss": 0.5}, step=2)
    written = pd.read_csv(tmp_path / "metrics.csv")
    assert written.columns.tolist() == ["epoch", "val_loss", "train_loss"]
    assert written.fillna(-1).to_numpy().tolist() == [[0, 0.3, 0.5], [1, 0.2, -1]]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_resumed_training_keeps_earlier_rows_and_drops_later_ones(tmp_path: Path) -> None:
    broken = EpochTable(output=tmp_path, checkpoint=None)
    for epoch in range(4):
        broken.log_metrics({"epoch": epoch, "val_loss": 0.1 * epoch, "train_loss": 1.0})
    resumed = EpochTable(output=tmp_path, checkpoint={"epoch": 1})
    resumed.log_metrics({"epoch": 2, "val_loss": 9.0})
    written = pd.read_csv(tmp_path / "metrics.csv")
    assert written["epoch"].tolist() == [0, 1, 2]
    assert written["val_loss"].tolist() == pytest.approx([0.0, 0.1, 9.0])
    assert written["train_loss"].isna().tolist() == [False, False, True]


def test_new_training_starts_a_new_table(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val_loss\n0,1.0\n7,1.0\n")
    EpochTable(output=tmp_path, checkpoint=None).log_metrics({"epoch": 0, "val_loss": 0.5})
    assert pd.read_csv(tmp_path / "metrics.csv").to_numpy().tolist() == [[0, 0.5]]


def test_resuming_without_a_table_is_no_error(tmp_path: Path) -> None:
    table = EpochTable(output=tmp_path, checkpoint={"epoch": 2})
    table.log_metrics({"epoch": 3, "val_loss": 0.5})
    assert pd.read_csv(tmp_path / "metrics.csv").to_numpy().tolist() == [[3, 0.5]]


class Logging(BoringModel):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.step(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.step(batch))


@pytest.mark.filterwarnings("ignore")
def test_lightning_writes_training_and_validation_into_one_row(tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        limit_train_batches=2,
        limit_val_batches=1,
        logger=EpochTable(output=tmp_path, checkpoint=None),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Logging())
    written = pd.read_csv(tmp_path / "metrics.csv")
    assert written["epoch"].tolist() == [0, 1, 2]
    assert written[["train_loss", "val_loss"]].notna().all(axis=None)
