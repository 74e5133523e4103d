"""Exact resuming: seeded epochs, atomic checkpoints, restored patience."""

import os
import resource
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from segpipe.training.resuming import Patience, SeededEpochs, WholeCheckpoints

OLD, NEW = {"weights": torch.zeros(8)}, {"weights": torch.ones(50_000)}


def drawn(*, seed: int = 0, epoch: int = 0, rank: int = 0) -> tuple[float, ...]:
    SeededEpochs(seed).on_train_epoch_start(SimpleNamespace(current_epoch=epoch, global_rank=rank), None)
    return tuple(torch.rand(3).tolist())


def test_random_numbers_depend_on_seed_epoch_and_process_only() -> None:
    with torch.random.fork_rng():
        assert drawn(seed=3, epoch=2) == drawn(seed=3, epoch=2)
        assert len({drawn(seed=seed, epoch=epoch, rank=rank) for seed in (0, 1) for epoch in (0, 1, 2) for rank in (0, 1)}) == 12


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Write an old checkpoint."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint(OLD, path)
    return path


def saved(path: Path) -> torch.Tensor:
    return WholeCheckpoints().load_checkpoint(path)["weights"]


def test_checkpoint_replaces_the_old_one(checkpoint: Path) -> None:
    WholeCheckpoints().save_checkpoint(NEW, checkpoint)
    assert torch.equal(saved(checkpoint), NEW["weights"])
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_full_disk_leaves_the_old_checkpoint_unchanged(checkpoint: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            WholeCheckpoints().save_checkpoint(NEW, checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.equal(saved(checkpoint), OLD["weights"])
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_kill_leaves_the_old_checkpoint_unchanged_and_the_next_save_cleans_up(checkpoint: Path) -> None:
    process = os.fork()
    if not process:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        WholeCheckpoints().save_checkpoint(NEW, checkpoint)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL
    assert torch.equal(saved(checkpoint), OLD["weights"])
    assert checkpoint.with_suffix(".part").exists()
    WholeCheckpoints().save_checkpoint(NEW, checkpoint)
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


@pytest.mark.parametrize(
    ("waited", "patience", "stops"), [(0, 0, False), (1, 0, True), (1, 2, False), (2, 2, True), (2, 5, False), (5, 2, True)]
)
def test_early_stop_holds_after_resuming_unless_patience_grows(waited: int, patience: int, stops: bool) -> None:
    stopped = Patience("val_dice", mode="max", patience=2)
    stopped.wait_count = waited
    resumed = Patience("val_dice", mode="max", patience=patience)
    resumed.load_state_dict(stopped.state_dict())
    trainer = SimpleNamespace(should_stop=False)
    resumed.on_fit_start(trainer, None)
    assert trainer.should_stop is stops
