"""Data-parallel training on several devices, with one process for each device.

The processes live as long as the fit. All other steps (folders, tables, calibration, the score on the test split, the bundle)
run once, in the process that the user started.
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
    """Strategy for data-parallel training by processes that the fit itself starts.

    Frozen stages have no gradient, so DDP has to look for unused parameters. Buffers are not broadcast: DDP would do so with
    every batch, also in the validation, where the processes may have different numbers of batches; see `Task`.
    """

    def __init__(self) -> None:
        # Read by torch when the processes import it; otherwise DDP advises against the search as soon as all stages train.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        super().__init__(
            start_method="spawn",
            find_unused_parameters=True,
            broadcast_buffers=False,
            cluster_environment=LightningEnvironment(),  # the fit starts the processes in a SLURM job, too
        )

    def setup_environment(self) -> None:
        """Silence Lightning; called first in each process."""
        quieten()
        super().setup_environment()


class MovingAverage(EMAWeightAveraging):
    """Exponential moving average of the weights that can be pickled.

    Args:
        decay: Decay of the average per step, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
        self._decay = decay

    def __reduce__(self) -> tuple[type, tuple[float]]:
        return MovingAverage, (self._decay,)


def choose_strategy(accelerator: str, devices: Any) -> Any:
    """Choose Lightning's strategy: `Processes` for several devices, `auto` for one.

    Args:
        accelerator: Lightning's name of the accelerator.
        devices: Number of devices, a list of their numbers, or `auto` for all.

    Raises:
        ConfigError: There are no such devices.
    """
    try:
        probe = Trainer(accelerator=accelerator, devices=devices, logger=False, enable_checkpointing=False)
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"trainer.accelerator and trainer.devices must name devices of this machine, got {accelerator} and {devices}: {error}"
        ) from error
    return Processes() if probe.num_devices > 1 else "auto"


def quieten() -> None:
    """Silence the tips and warnings of Lightning in this process."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
