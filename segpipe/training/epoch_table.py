"""The metrics of a training as a table with one row for each epoch."""

from argparse import Namespace
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from segpipe.io.images import write_file


class EpochTable(Logger):
    """Writes `metrics.csv`: one row for each epoch, rewritten whole, so that a reader never sees half of it.

    A resumed training keeps the rows of the epochs before it.

    Args:
        output: folder of the training.
        checkpoint: that it goes on from; its `epoch` is the last one to keep.
    """

    def __init__(self, *, output: Path, checkpoint: Mapping[str, Any] | None) -> None:
        super().__init__()
        self._path = output / "metrics.csv"
        self._rows: dict[Hashable, dict[Hashable, float]] = {}
        if checkpoint is not None and self._path.is_file():
            table = pd.read_csv(self._path, index_col="epoch")
            self._rows = table[table.index <= checkpoint["epoch"]].to_dict("index")

    @property
    def name(self) -> str:
        """Of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add figures to the row of their epoch, which Lightning puts among them."""
        values = dict(metrics)
        self._rows.setdefault(int(values.pop("epoch")), {}).update(values)
        table = pd.DataFrame.from_dict(self._rows, orient="index").rename_axis("epoch").sort_index()
        write_file(self._path, table.to_csv().encode())

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: config.yaml lies beside the table."""
