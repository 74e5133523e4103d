"""A training on several devices: one process for each of them, which lives from the start of the fit to its end.

What stands before and after the fit (folders, tables, calibration, the score on the test split, the bundle) so happens once, in
the process that the user started.
"""

import logging
import os
import warnings
from typing import Any

from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import DDPStrategy

from segpipe.errors import ConfigError


class Processes(DDPStrategy):
    """Data-parallel training by processes that the fit itself starts.

    Frozen stages have no gradient, so DDP has to look for unused parameters. The buffers are left alone: DDP would send them
    round with every batch, also in the validation, where the processes may have different numbers of batches; see `Task`.
    """

    def __init__(self) -> None:
        # Read by torch when the processes import it; or DDP advises against the search as soon as all stages train.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        super().__init__(
            start_method="spawn",
            find_unused_parameters=True,
            broadcast_buffers=False,
            cluster_environment=LightningEnvironment(),  # in a SLURM job, too, the processes are ours
        )

    def setup_environment(self) -> None:
        """Called by Lightning, first of all in each process."""
        quieten()
        super().setup_environment()


class MovingAverage(EMAWeightAveraging):
    """Lightning's exponential moving average of the weights, such that it can be sent to another process.

    Args:
        decay: of the average, per step, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
        self._decay = decay

    def __reduce__(self) -> tuple[type, tuple[float]]:
        return MovingAverage, (self._decay,)


def choose_strategy(accelerator: str, devices: Any) -> Any:
    """Lightning's strategy: `Processes` for several devices, `auto` for one.

    Args:
        accelerator: Lightning's name.
        devices: a number, a list, or `auto` for all that there are.

    Raises:
        ConfigError: there are no such devices.
    """
    try:
        probe = Trainer(accelerator=accelerator, devices=devices, logger=False, enable_checkpointing=False)
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"trainer.accelerator and trainer.devices must name devices of this machine, got {accelerator} and {devices}: {error}"
        ) from error
    return Processes() if probe.num_devices > 1 else "auto"


def quieten() -> None:
    """Spare the user Lightning's tips, its tables of modules, and its advice on workers and folders; for this process."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
