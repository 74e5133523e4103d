"""Epochs with the same monitored metric: the validation loss decides."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from segpipe.training.resuming import Patience, WholeCheckpoints, epoch_checkpoints, read_checkpoint

Scores = list[tuple[float, float]]


class Scored(LightningModule):
    """Model whose metric and loss in each epoch are given."""

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self._scores = scores

    def training_step(self, *_: Any) -> torch.Tensor:
        return self.weight.sum()

    def validation_step(self, *_: Any) -> None:
        metric, loss = self._scores[self.current_epoch]
        self.log_dict({"val_auroc": metric, "val_loss": loss})

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path, scores: Scores, *, monitor: str = "val_auroc", patience: int = 50, ckpt_path: Path | None = None
) -> Trainer:
    first = 0 if ckpt_path is None else read_checkpoint(ckpt_path)["epoch"] + 1
    mode = "min" if monitor == "val_loss" else "max"
    stop = Patience(monitor, mode=mode, patience=patience, check_on_train_epoch_end=True)
    trainer = Trainer(
        max_epochs=len(scores),
        accelerator="cpu",
        logger=False,
        callbacks=[*epoch_checkpoints(folder, monitor=monitor, first_epoch=first), stop],
        plugins=[WholeCheckpoints()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data = DataLoader(torch.zeros(1, 1))
    trainer.fit(Scored(scores), data, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.9, 0.5), (0.9, 0.4), (0.9, 0.45)], 1),
        ([(0.9, 0.5), (0.9, 0.5), (0.8, 0.1)], 0),
        ([(0.9, 0.5), (0.95, 0.7), (0.95, 0.6), (0.9, 0.1)], 2),
    ],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_the_smaller_loss_decides_between_equal_scores(tmp_path: Path, scores: Scores, best: int, interrupted: bool) -> None:
    if interrupted:
        fit(tmp_path, scores[:1])
    fit(tmp_path, scores, ckpt_path=tmp_path / "last.ckpt" if interrupted else None)
    assert read_checkpoint(tmp_path / "best.ckpt")["epoch"] == best
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] == len(scores) - 1


def test_a_monitored_loss_is_its_own_tie_breaker(tmp_path: Path) -> None:
    fit(tmp_path, [(0.1, 0.5), (0.9, 0.5), (0.9, 0.4)], monitor="val_loss")
    assert read_checkpoint(tmp_path / "best.ckpt")["epoch"] == 2


@pytest.mark.parametrize(("losses", "epochs"), [([0.5, 0.4, 0.3, 0.2, 0.1], 5), ([0.5, 0.6, 0.7, 0.1, 0.1], 3)])
def test_patience_waits_while_the_loss_of_equal_scores_falls(tmp_path: Path, losses: list[float], epochs: int) -> None:
    trainer = fit(tmp_path, [(1.0, loss) for loss in losses], patience=2)
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] + 1 == epochs
    assert trainer.should_stop == (epochs < len(losses))


def test_state_of_an_older_version_has_no_tie_breaker() -> None:
    patience = Patience("val_auroc", mode="max", patience=2)
    state = {name: value for name, value in patience.state_dict().items() if name != "val_loss"}
    patience.load_state_dict(state)
    assert patience.state_dict()["val_loss"] == -math.inf
    trainer = SimpleNamespace(should_stop=False)
    patience.on_fit_start(trainer, None)
    assert not trainer.should_stop
