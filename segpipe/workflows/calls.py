"""Calls of the workflows from Python: their configurations, output folders and results."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from segpipe.config.building import check_names
from segpipe.config.composing import compose_config
from segpipe.config.schemas import TrainConfig
from segpipe.config.values import check_values
from segpipe.errors import ConfigError, one_line

if TYPE_CHECKING:
    import pandas as pd


# All other columns hold numbers, but for `flagged`.
_TEXTS = ("path", "sha256", "status", "diagnosis", "mask_source", "mask_reasons", "flagged_for", "warnings", "crop_border")


class Failure(NamedTuple):
    """An image without a result.

    Attributes:
        path: Path relative to the folder.
        reason: Reason, in one line.
    """

    path: str
    reason: str


class _TableAndFailures(NamedTuple):
    table: "pd.DataFrame"
    failures: list[Failure]


class FolderResult(_TableAndFailures):
    """Results of a run over a folder; `table, failures = result` unpacks them.

    Attributes:
        table: One row for each image with a result, sorted by path, with the columns of `results.csv`: texts as str (empty where
            there is none), `flagged` as boolean (missing where no operating point is known), numbers (NaN where there is none).
        failures: Images without a result, sorted by path.
        output: Folder that the run wrote into.
        metrics: Content of `metrics.json`; empty where neither labels nor masks were given.
    """

    output: Path
    metrics: Mapping[str, Any]

    @classmethod
    def read(cls, output: Path, failures: Sequence[tuple[str, str]], metrics: Mapping[str, Any]) -> "FolderResult":
        """Read the table of a run that has ended.

        Args:
            output: Folder of the run.
            failures: Path and reason of each image without a result.
            metrics: Metrics of the run.
        """
        result = cls(read_table(output / "results.csv"), [Failure(*failure) for failure in failures])
        result.output, result.metrics = output, metrics
        return result


def read_table(path: Path) -> "pd.DataFrame":
    """Read `results.csv` with the types of `FolderResult.table`."""
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["flagged"] = table["flagged"].map({"true": True, "false": False}).astype("boolean")
    numbers = table.columns.difference([*_TEXTS, "flagged"])
    table[numbers] = table[numbers].apply(pd.to_numeric)
    return table


Say = Callable[[str], None]
log_line: Say = logging.getLogger("segpipe").info


class TrainingResult(NamedTuple):
    """Result of a training.

    Attributes:
        bundle: Folder of the trained model.
        metrics: Metrics on the test split, as in `test/metrics.json`.
    """

    bundle: Path
    metrics: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"TrainingResult(bundle={str(self.bundle)!r}, metrics={{{', '.join(map(repr, self.metrics))}}})"


def own_folder(config: DictConfig) -> Path:
    """Choose the folder of a run: `output`, or one named after the date and time; call it once per run.

    A training that resumes stays in its folder, see `segpipe.config.values.check_values`.
    """
    if config.output is None and config.get("ckpt_path") is not None:
        return Path(config.ckpt_path).resolve().parent.parent  # OUTPUT/checkpoints/last.ckpt
    return Path(config.output or datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S"))


def as_path(name: str, value: Any) -> str:
    """Return a path that Python gave as a text.

    Args:
        name: Name of the argument.
        value: Path, or URL, as a str or a path-like object.

    Raises:
        ConfigError: `value` is something else.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{name} must be a path, got {one_line(repr(value), 80)}; give it as a str or a Path")
    return path


def as_paths(name: str, value: Any) -> str | list[str]:
    """Return a path or a list of paths that Python gave as texts, see `as_path`."""
    return [as_path(name, item) for item in value] if isinstance(value, list | tuple) else as_path(name, value)


def call_training(train: Callable[..., Mapping[str, Any]], config: DictConfig) -> TrainingResult:
    """Run the body of a training for Python; what it reports goes to the logger `segpipe`.

    Args:
        train: Body of the training, which takes the configuration, the folder of the results and `say`.
        config: Configuration, as `training_config` makes it.
    """
    folder = own_folder(config)
    return TrainingResult(folder / "bundle", train(config, folder, say=log_line))


def training_config(
    given: Sequence[str] | TrainConfig, name: str, schema: type[TrainConfig], output: str | Path | None
) -> DictConfig:
    """Make the configuration of a training that Python calls.

    Args:
        given: List of Hydra overrides, `key=value`, or the whole configuration as an instance of `schema`.
        name: Name of the primary configuration.
        schema: Class of the configuration.
        output: Folder of the results; None keeps what `given` says.

    Raises:
        ConfigError: `given` is of another kind, or a key or value of it is wrong.
    """
    folder = {} if output is None else {"output": as_path("output", output)}
    if isinstance(given, schema):
        config: DictConfig = OmegaConf.merge(OmegaConf.structured(given), folder)  # type: ignore[assignment]
        check_names(config)
        check_values(config)
        return config
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
        raise ConfigError(
            f"a training must be given a list of overrides, such as ['data=synthetic', 'trainer.max_epochs=1'], or an instance "
            f"of {schema.__name__}, got {one_line(repr(given), 80)}"
        )
    return compose_config(name, given, values=folder)
