"""Configurations, output folders and results of calls from Python."""

import csv
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from segpipe.errors import ConfigError, require_extra
from segpipe.io.files import one_line
from segpipe.io.passes import working
from segpipe.io.run_files import BUNDLE, CHECKPOINTS, LAST_CHECKPOINT, RESULTS

if TYPE_CHECKING:
    import pandas as pd

    from segpipe.config.schemas import TrainConfig


# Columns that hold text, and those that are true or false; all others hold numbers.
_FLAGS = ("flagged", "similar_known")
_TEXTS = (
    *("path", "sha256", "status", "diagnosis", "mask_source", "mask_reasons", "flagged_for", "warnings", "crop_border"),
    *("gate", "prediction_set", "similar", "similar_vote", "abcd_color_names", "trust", "trust_doubts"),
)


class Failure(NamedTuple):
    """An image without a result.

    Attributes:
        path: Path relative to the folder.
        reason: Reason, in one line.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class FolderResult:
    """Results of a run over a folder.

    `table, failures = result` unpacks them.

    Attributes:
        output: Folder that the run wrote into.
        failures: Images without a result, sorted by path.
        metrics: Content of `metrics.json`; empty without labels and masks.
        results: Content of `results.csv`.
    """

    output: Path
    failures: list[Failure]
    metrics: Mapping[str, Any]
    results: str = field(repr=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each image with a result, sorted by path.

        The keys are the columns of `results.csv`: text as str (empty where there is none), `flagged` as bool (None without an
        operating point), numbers as int or float (None where there is none).
        """
        return [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(io.StringIO(self.results))]

    @property
    def table(self) -> "pd.DataFrame":
        """The rows as a data frame.

        `flagged` is a nullable boolean, and a missing number is NaN.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        require_extra("metrics", "a table as a data frame", "pandas")
        import pandas as pd

        table = pd.read_csv(io.StringIO(self.results), dtype=str, keep_default_na=False)
        for flag in table.columns.intersection(list(_FLAGS)):
            table[flag] = table[flag].map({"true": True, "false": False}).astype("boolean")
        numbers = table.columns.difference([*_TEXTS, *_FLAGS])
        table[numbers] = table[numbers].apply(pd.to_numeric)
        return table

    def __iter__(self) -> Iterator[Any]:
        """Yield the table and the failures."""
        yield from (self.table, self.failures)

    @classmethod
    def read(cls, output: Path, failures: Sequence[tuple[str, str]], metrics: Mapping[str, Any]) -> "FolderResult":
        """Read the table of a run that has ended.

        Args:
            output: Folder of the run.
            failures: Path and reason of each image without a result.
            metrics: Metrics of the run.
        """
        results = (output / RESULTS).read_bytes().decode()  # without conversion of line ends
        return cls(output, [Failure(*failure) for failure in failures], metrics, results)


def _value(column: str, text: str) -> str | bool | float | None:
    """Convert a field of `results.csv`."""
    if column in _TEXTS:
        return text
    if column in _FLAGS or not text:
        return {"true": True, "false": False}.get(text)
    return float(text) if "." in text else int(text)


Say = Callable[[str], None]
log_line: Say = logging.getLogger("segpipe").info
RESUMABLE = f"{CHECKPOINTS}/{LAST_CHECKPOINT}"  # in the folder of a training
AnyConfig = TypeVar("AnyConfig", bound="TrainConfig")


def say_all(say: Say, *texts: str | None) -> None:
    """Report texts, one below the other; None is left out."""
    say("\n".join(text for text in texts if text is not None))


def warn(text: str | None) -> None:
    """Write a warning on stderr; None writes nothing."""
    if text is not None:
        sys.stderr.write(f"warning: {text}\n")


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


def own_folder(output: str | None, *, ckpt_path: str | None = None) -> Path:
    """Choose the folder of a run; call it once per run.

    Args:
        output: Folder that the call names; None takes one named after the date and time.
        ckpt_path: Checkpoint that a training resumes from; without `output` it stays in its folder.
    """
    if output is None and ckpt_path is not None:
        return Path(ckpt_path).resolve().parent.parent  # OUTPUT/checkpoints/last.ckpt
    return Path(output or datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S"))


def resume_output(config: AnyConfig, output: Path, *, say: Say) -> AnyConfig:
    """Name the checkpoint in the folder of a training, for `resume=true`.

    A folder without a checkpoint begins a new training, so that the same command starts and resumes it.

    Args:
        config: Configuration of the training; one with a `ckpt_path` in a job of a sweep stays as it is.
        output: Folder of the training.
        say: Function that reports a line.

    Raises:
        ConfigError: `output` is not given, or `ckpt_path` is given as well.
    """
    if not config.resume or config.overwrite:
        return config
    last = output / RESUMABLE
    if config.ckpt_path is not None and Path(config.ckpt_path).resolve() != last.resolve():
        raise ConfigError(
            f"give one of resume=true, which takes the checkpoint in output, and ckpt_path, got both ({config.ckpt_path})"
        )
    if config.output is None and config.ckpt_path is None:
        raise ConfigError("resume=true needs output, the folder of the training to resume, got none; add output=DIR")
    if not last.is_file():
        say(f"nothing to resume in {output}: the training begins")
        return config
    say(f"resuming {last}")
    return replace(config, ckpt_path=str(last))


def as_path(name: str, value: Any) -> str:
    """Return a path argument as text.

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
    """Return one or more path arguments as text, see `as_path`."""
    return [as_path(name, item) for item in value] if isinstance(value, list | tuple) else as_path(name, value)


def call_training(train: Callable[..., Mapping[str, Any]], config: "TrainConfig") -> TrainingResult:
    """Run a training for Python; its report goes to the logger `segpipe`.

    Args:
        train: Body of the training, a function of the configuration, the folder of the results and `say`.
        config: Configuration, as `training_config` returns it.
    """
    require_extra("torch", "a training")
    folder = own_folder(config.output, ckpt_path=config.ckpt_path)
    return TrainingResult(folder / BUNDLE, train(config, folder, say=log_line))


def load_libraries() -> None:
    """Import the libraries of a training, which takes seconds."""
    with working("loading PyTorch"):
        import_module("segpipe.training.fit")


def training_config(given: Sequence[str] | AnyConfig, name: str, schema: type[AnyConfig], output: str | Path | None) -> AnyConfig:
    """Make the checked configuration of a training that Python calls.

    Args:
        given: List of Hydra overrides, `key=value`, or the whole configuration as an instance of `schema`.
        name: Name of the primary configuration.
        schema: Class of the configuration.
        output: Folder of the results; None keeps that of `given`.

    Raises:
        ConfigError: `given` is of another kind, or a key or value of it is wrong.
    """
    from omegaconf import OmegaConf  # imported late: a prediction does not need it

    from segpipe.config.building import check_names
    from segpipe.config.composing import compose_config, typed
    from segpipe.config.values import check_values

    folder = {} if output is None else {"output": as_path("output", output)}
    if isinstance(given, schema):
        config: Any = OmegaConf.merge(OmegaConf.structured(given), folder)
        check_names(config)
        check_values(config)
        return cast(AnyConfig, typed(config))
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
        raise ConfigError(
            f"a training must be given a list of overrides, such as ['data=synthetic', 'trainer.max_epochs=1'], or an instance "
            f"of {schema.__name__}, got {one_line(repr(given), 80)}"
        )
    return cast(AnyConfig, typed(compose_config(name, given, values=folder)))
