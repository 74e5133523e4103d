"""Lines and pictures of a training: their content, epoch by epoch."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from segpipe.config.training_groups import TrainerConfig
from segpipe.io.images import read_image
from segpipe.training.display import Display, EpochLines, best_epoch, trained_stages
from segpipe.training.pictures import SHOWN_EPOCHS, Drawings, Pictures, as_masks, as_probs, choose_varied
from segpipe.training.schedule import PlannedStage, UnfreezePlan

PLAN = UnfreezePlan(tuple(PlannedStage(name, first, 0.1, 10) for name, first in (("head", 0), ("stage5", 1), ("stage4", 2))))
PIXEL = np.zeros((4, 4, 3), np.uint8)


def write_table(output: Path, values: list[float], monitor: str = "val_dice") -> None:
    rows = {"val_loss": values, "train_loss": values, monitor: values, "learning_rate": values}
    pd.DataFrame(rows).rename_axis("epoch").to_csv(output / "metrics.csv")


def trainer(epoch: int, **values: Any) -> Any:
    """Stand-in for Lightning's Trainer after an epoch of four steps."""
    common = {"max_epochs": 12, "is_global_zero": True, "world_size": 1, "loggers": [], "global_step": 4 * (epoch + 1)}
    return SimpleNamespace(current_epoch=epoch, **(common | values))


@pytest.mark.parametrize(
    ("monitor", "losses", "best"), [("val_dice", [4, 3, 2, 1], 2), ("val_dice", [4, 2, 2, 1], 1), ("val_loss", [2, 1, 3, 1], 1)]
)
def test_smaller_loss_then_earlier_epoch_decides_between_equal_ones(monitor: str, losses: list[float], best: int) -> None:
    assert best_epoch(pd.DataFrame({"val_dice": [0.2, 0.7, 0.7, 0.2], "val_loss": losses}), monitor) == best


@pytest.mark.parametrize(("epoch", "names"), [(0, "head"), (1, "head to stage5"), (2, "all stages"), (9, "all stages")])
def test_trained_stages_are_named_from_the_head_on(epoch: int, names: str) -> None:
    assert trained_stages(PLAN, epoch) == names


def test_line_has_losses_metric_rate_stages_and_time(tmp_path: Path) -> None:
    lines: list[str] = []
    shown = EpochLines(tmp_path, lines.append, monitor="val_dice", val_images=4, plan=PLAN, bar=False)
    shown.on_train_start(trainer(0), None)
    for epoch, values in enumerate(([0.25], [0.25, 0.125])):
        write_table(tmp_path, values)
        shown.on_train_epoch_end(trainer(epoch), None)
    first, second = (" ".join(line.split()) for line in lines)
    assert first == (
        "epoch 0/11 train_loss 0.2500 val_loss 0.2500 val_dice 0.2500 best learning_rate 2.50e-01 trained: head 00:00 left"
    )
    assert second == (
        "epoch 1/11 train_loss 0.1250 val_loss 0.1250 val_dice 0.1250 learning_rate 1.25e-01 trained: head to stage5 00:00 left"
    )
    assert len({(len(line), line.index("learning_rate"), line.index("00:00")) for line in lines}) == 1  # columns


def test_monitored_loss_is_written_once(tmp_path: Path) -> None:
    lines: list[str] = []
    shown = EpochLines(tmp_path, lines.append, monitor="val_loss", val_images=4, bar=False)
    write_table(tmp_path, [0.5], "val_dice")
    shown.on_train_start(trainer(0), None)
    shown.on_train_epoch_end(trainer(0), None)
    assert lines[0].count("val_loss 0.5000 best") == lines[0].count("val_loss") == 1


def test_time_left_follows_from_the_epochs_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = [100.0], []
    monkeypatch.setattr("segpipe.training.display.time", SimpleNamespace(monotonic=lambda: clock[0]))
    shown = EpochLines(tmp_path, lines.append, monitor="val_dice", val_images=4, bar=False)
    shown.on_train_start(trainer(5), None)  # resumed
    write_table(tmp_path, [0.5] * 6)
    clock[0] += 60
    shown.on_train_epoch_end(trainer(5), None)
    assert lines[0].endswith("06:00 left")


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    shown = EpochLines(tmp_path, pytest.fail, monitor="val_dice", val_images=4)
    shown.on_train_epoch_start(trainer(0, is_global_zero=False), None)
    shown.on_train_epoch_end(trainer(0, is_global_zero=False), None)


def test_bar_is_left_out_where_the_trainer_says_so(tmp_path: Path) -> None:
    silent = TrainerConfig(max_epochs=1)
    silent.enable_progress_bar = False  # as +trainer.enable_progress_bar=false
    for settings, has_bar in ((TrainerConfig(max_epochs=1), True), (silent, False)):
        (lines,) = Display().callbacks(tmp_path, settings, monitor="val_dice", diagnoses=["mel"], decode=as_masks)
        assert lines._shows_bar is has_bar


def test_all_diagnoses_are_chosen_before_one_is_chosen_twice() -> None:
    diagnoses = ["nv"] * 6 + ["mel", "nv", "df"]
    assert choose_varied(diagnoses, 3) == [0, 6, 8]
    assert choose_varied(diagnoses, 4) == [0, 1, 6, 8]
    assert choose_varied(diagnoses, 20) == list(range(9))
    assert choose_varied([], 4) == []


def test_logits_become_masks_and_probabilities() -> None:
    assert as_masks(torch.tensor([[[[-1.0, 2.0]]]])).tolist() == [[[False, True]]]
    assert as_probs(torch.tensor([[0.0, 0.0]])).tolist() == [[0.5, 0.5]]


class Drawn:
    """Recorder of what is drawn."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.predictions: list[Any] = []

    def drawings(self) -> Drawings:
        return Drawings(lambda *_: PIXEL, self._batch, self._predictions)

    def _batch(self, *values: Any) -> Any:
        self.batches.append(values)
        return PIXEL

    def _predictions(self, *values: Any) -> Any:
        self.predictions.append(values)
        return PIXEL


def classifier_batch(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(first, first + count)
    return (labels[:, None, None, None] * torch.ones(1, 3, 4, 4)).byte(), labels


def run_epoch(pictures: Pictures, epoch: int, *, images: int, batch: int, **values: Any) -> None:
    """Call the callback as Lightning does, with logits that tell image and epoch."""
    state = trainer(epoch, **values)
    for number in range(2):
        pictures.on_train_batch_end(state, None, None, classifier_batch(100 * number + epoch, 4), number)
    pictures.on_validation_epoch_start(state, None)
    own, every = range(0, images, state.world_size), classifier_batch(0, images)
    for start in range(0, len(own), batch):
        pixels, labels = (part[list(own[start : start + batch])] for part in every)
        logits = torch.stack([labels.float(), torch.full((len(labels),), float(epoch))], 1)
        pictures.on_validation_batch_end(state, None, logits, (pixels, labels), start)
    pictures.on_train_epoch_end(state, None)


def make_pictures(output: Path, drawn: Drawn, *, images: int = 20, epochs: int = 30) -> Pictures:
    write_table(output, [0.5])
    diagnoses = ["nv"] * (images - 1) + ["mel"]
    return Pictures(
        *(output, drawn.drawings(), "val_dice"), diagnoses=diagnoses, decode=lambda logits: logits, epochs=epochs, plan=None
    )


@pytest.mark.parametrize("world_size", [1, 3])
def test_same_images_are_followed_with_their_own_predictions(tmp_path: Path, world_size: int) -> None:
    drawn = Drawn()
    pictures = make_pictures(tmp_path, drawn)
    pictures.on_fit_start(trainer(0, world_size=world_size), None)
    for epoch in range(3):
        run_epoch(pictures, epoch, images=20, batch=3, world_size=world_size)
    chosen = [labels.tolist() for _, labels, _ in drawn.predictions]
    assert chosen[0] == chosen[1] == chosen[2]
    assert all(label % world_size == 0 for label in chosen[0])
    assert (19 in chosen[0]) == (world_size == 1)  # the only melanoma is an image of the second process
    for pixels, labels, by_epoch in drawn.predictions:
        assert pixels[:, 0, 0, 0].tolist() == labels.tolist()
        for epoch, values in by_epoch.items():
            assert values.tolist() == [[label, epoch] for label in labels]
    assert [batch[0] for batch in drawn.batches] == [0, 1, 2]
    assert [batch[2].tolist() for batch in drawn.batches] == [[epoch, epoch + 1, epoch + 2, epoch + 3] for epoch in range(3)]
    assert all(read_image(tmp_path / "plots" / f"{name}.png").shape == (4, 4, 3) for name in ("train_batch", "val_predictions"))


def test_few_epochs_are_shown_the_first_and_the_last_among_them(tmp_path: Path) -> None:
    drawn = Drawn()
    pictures = make_pictures(tmp_path, drawn, epochs=30)
    pictures.on_fit_start(trainer(0), None)
    for epoch in range(30):
        run_epoch(pictures, epoch, images=20, batch=8)
    shown = [list(by_epoch) for _, _, by_epoch in drawn.predictions]
    assert all(epochs[0] == 0 and epochs[-1] == number for number, epochs in enumerate(shown))
    assert max(map(len, shown)) <= SHOWN_EPOCHS
    assert shown[-1] == [0, 6, 12, 17, 23, 29]


def test_resumed_training_shows_the_epochs_before(tmp_path: Path) -> None:
    first, second = Drawn(), Drawn()
    broken = make_pictures(tmp_path, first)
    broken.on_fit_start(trainer(0), None)
    run_epoch(broken, 0, images=20, batch=8)
    state = pickle.loads(pickle.dumps(broken.state_dict()))
    resumed = make_pictures(tmp_path, second)
    resumed.load_state_dict(state)
    resumed.on_fit_start(trainer(1), None)
    run_epoch(resumed, 1, images=20, batch=8)
    assert list(second.predictions[0][2]) == [0, 1]
    others = make_pictures(tmp_path, Drawn())
    others.load_state_dict(state)
    others.on_fit_start(trainer(1, world_size=2), None)  # other images
    assert others.state_dict()["predictions"] == {}


def test_masks_of_a_batch_are_boolean_squares(tmp_path: Path) -> None:
    drawn = Drawn()
    pictures = make_pictures(tmp_path, drawn)
    masks = torch.zeros(2, 1, 4, 4)
    masks[0, 0, 1] = 1
    pictures.on_train_batch_end(trainer(0), None, None, (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), masks), 0)
    pictures.on_train_epoch_end(trainer(0), None)
    (_, pixels, targets), *_ = drawn.batches
    assert pixels.shape == (2, 4, 4, 3)
    assert targets.dtype == np.bool_
    np.testing.assert_array_equal(targets, masks[:, 0].numpy() > 0)
    assert not drawn.predictions
