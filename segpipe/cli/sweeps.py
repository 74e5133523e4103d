"""Sweeps: number of parallel jobs, and leaderboard at the end."""

import os
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from segpipe.cli.call import say
from segpipe.io.run_files import LEADERBOARD


class CappedJobs(Callback):
    """Callback that limits parallel jobs to the number of cores."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Lower `n_jobs` of joblib before the launcher is built."""
        # -1 means all cores, None one.
        jobs, cores = config.hydra.launcher.get("n_jobs"), os.cpu_count() or 1
        if jobs is not None and jobs > cores:
            with read_write(config):
                config.hydra.launcher.n_jobs = cores


class SweptFolder(Callback):
    """Callback that keeps the folder of a sweep.

    Attributes:
        folder: Folder of the sweep of this call; None outside a sweep.
    """

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Keep the folder; called by Hydra."""
        SweptFolder.folder = Path(config.hydra.sweep.dir)


def print_leaderboard() -> None:
    """Print the leaderboard of this call's sweep, if any."""
    folder = SweptFolder.folder
    if folder is not None and (folder / LEADERBOARD).is_file():
        from segpipe.sweep.printing import leaderboard_text  # late, because it imports pandas

        say(leaderboard_text(folder))
