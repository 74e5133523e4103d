"""Starting weights of a fine-tuning: comparison with the best epoch."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from lightning import Trainer
from scipy.stats import ttest_rel
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from segpipe.bundle.card import ClassifierCard
from segpipe.models.preprocessing import InputSpec
from segpipe.training import fine_tuning, parts
from segpipe.training.fine_tuning import Start, is_fine_tuning, keep_better, read_best_weights, score_weights, smaller_p_value
from segpipe.training.tasks import Task


@pytest.mark.parametrize(
    ("monitor", "start", "epoch", "kept"),
    [
        ("val_dice", (0.9, 0.5), (0.8, 0.1), True),
        ("val_dice", (0.8, 0.1), (0.9, 0.5), False),
        ("val_dice", (0.9, 0.5), (0.9, 0.4), False),
        ("val_dice", (0.9, 0.4), (0.9, 0.5), True),
        ("val_dice", (0.9, 0.5), (0.9, 0.5), True),
        ("val_loss", (0.1, 0.4), (0.9, 0.5), True),
        ("val_loss", (0.9, 0.5), (0.1, 0.4), False),
    ],
)
def test_start_is_kept_unless_the_best_epoch_beats_it(
    tmp_path: Path, monitor: str, start: tuple[float, float], epoch: tuple[float, float], kept: bool
) -> None:
    table = pd.DataFrame({"epoch": [0, 1], "val_dice": [2.0, epoch[0]], "val_loss": [0.0, epoch[1]]})
    table.to_csv(tmp_path / "metrics.csv", index=False)
    task: Any = SimpleNamespace(model=nn.Linear(1, 1))
    weights = {name: torch.full_like(values, 7.0) for name, values in task.model.state_dict().items()}
    scores = dict(zip(("val_dice", "val_loss"), start, strict=True))
    before, after = [0.5, 0.6, 0.7], [0.4, 0.5, 0.59]
    record = keep_better(Start(weights, scores, before), after, task, tmp_path, best_epoch=1, monitor=monitor)
    p_value = 2 * ttest_rel(before, after, alternative="greater").pvalue  # two epochs
    assert record == {"scores": scores, "kept": kept, "p_value": None if kept else pytest.approx(p_value)}
    assert (task.model.weight.item() == 7.0) is kept


def test_start_is_kept_where_a_better_score_may_be_noise(tmp_path: Path) -> None:
    pd.DataFrame({"epoch": [0], "val_dice": [0.98], "val_loss": [0.4]}).to_csv(tmp_path / "metrics.csv", index=False)
    task: Any = SimpleNamespace(model=nn.Linear(1, 1))
    start = Start(task.model.state_dict(), {"val_dice": 0.97, "val_loss": 0.5}, [0.5, 0.5, 0.5])
    record = keep_better(start, [0.2, 0.45, 0.55], task, tmp_path, best_epoch=0, monitor="val_dice")
    assert record["kept"] and record["p_value"] == pytest.approx(
        ttest_rel([0.5] * 3, [0.2, 0.45, 0.55], alternative="greater").pvalue
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [([], [], 1.0), ([1.0], [0.1], 1.0), ([1.0, 2.0], [1.0, 2.0], 1.0), ([1.0, 2.0], [0.5, 1.5], 0.0)],
)
def test_too_few_or_equal_losses_have_a_p_value(before: list[float], after: list[float], expected: float) -> None:
    assert smaller_p_value(before, after) == expected


class Mean(Metric):
    """Mean of the logits."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, _: torch.Tensor) -> None:
        self.total += logits.mean()

    def compute(self) -> dict[str, torch.Tensor]:
        return {"val_mean": self.total}


class Squared(nn.Module):
    """Mean square of the differences."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return ((logits - targets) ** 2).mean()


def test_score_of_the_start_leaves_task_and_metrics_as_they_were() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 1, bias=False), nn.Dropout(0.5))
    model[2].eval()
    with torch.no_grad():
        model[1].weight.fill_(0.0)
    task = Task(model, InputSpec(16), Squared(), Mean(), optimizer=lambda _: None, scheduler=lambda *_: None)
    data = DataLoader([(torch.zeros(3, 16, 16, dtype=torch.uint8), torch.full((1,), 3.0))] * 4, batch_size=2)
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, inference_mode=False)
    validate = trainer.validate
    stand_in: Any = SimpleNamespace(validate=lambda module, datamodule, verbose: validate(module, datamodule, verbose=verbose))
    start = score_weights(task, data, stand_in)
    assert start.losses == [9.0] * 4
    assert start.scores == {"val_loss": pytest.approx(9.0), "val_mean": 0.0}
    assert (model.training, model[1].training, model[2].training) == (True, True, False)
    with torch.no_grad():
        model[1].weight.fill_(1.0)
    assert start.weights["1.weight"].sum() == 0
    task.metrics.update(torch.ones(2, 1), torch.ones(2, 1))
    assert task.metrics.compute()["val_mean"] == 1.0


def test_interrupt_while_the_start_is_scored_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_as_lightning(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(1)

    monkeypatch.setattr(parts, "score_weights", exit_as_lightning)
    monkeypatch.setattr(parts, "build_trainer", lambda _: None)
    parts_of_call: Any = (None, None, {"devices": 1})
    with pytest.raises(KeyboardInterrupt, match="starting weights"):
        parts._score(*parts_of_call, "the starting weights")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("known", "classes", "seen", "expected"),
    [
        (("mel", "nv", "bcc"), ("nv", "mel"), None, True),
        (("mel", "nv", "bcc"), ("mel", "mole"), None, False),
        (("mel", "nv"), ("mel", "nv"), "lesions of val", False),
        (None, ("mel", "nv"), None, False),
    ],
)
def test_fine_tuning_starts_from_a_bundle_of_these_classes(
    monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...] | None, classes: tuple[str, ...], seen: str | None, expected: bool
) -> None:
    start: Any = None
    if known is not None:
        start = object.__new__(ClassifierCard)
        object.__setattr__(start, "classes", known)
        object.__setattr__(start, "training", None)
    monkeypatch.setattr(fine_tuning, "start_card", lambda _: start)
    config: Any = None
    assert is_fine_tuning(config, classes, seen_by=lambda _: seen) is expected


def test_best_weights_are_those_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"model.linear.weight": torch.ones(1), "loss.weight": torch.zeros(1)}
    monkeypatch.setattr(fine_tuning, "read_checkpoint", lambda path: {"state_dict": state} if path.name == "best.ckpt" else {})
    assert list(read_best_weights(tmp_path)) == ["linear.weight"]
