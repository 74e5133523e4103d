"""Last lines of a training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from segpipe.workflows.training_display import finish_fit


@pytest.mark.parametrize(
    ("start", "kept"), [({}, "weights of epoch 1"), ({"kept": False}, "weights of epoch 1"), ({"kept": True}, "starting weights")]
)
def test_fit_names_the_weights_that_are_kept(tmp_path: Path, start: dict[str, bool], kept: str) -> None:
    columns = {"train_loss": 0.5, "val_loss": 0.5, "val_dice": 0.9, "learning_rate": 1e-3}
    pd.DataFrame([{"epoch": epoch, **columns} for epoch in range(2)]).to_csv(tmp_path / "metrics.csv", index=False)
    training: Any = SimpleNamespace(epochs=2, best_epoch=1, start=start)
    trainer: Any = SimpleNamespace(max_epochs=2, patience=5)
    assert f"{kept} are kept" in finish_fit(tmp_path, training, trainer, monitor="val_dice")
    assert (tmp_path / "plots" / "training.png").is_file()
