"""Hydra sweeper for Optuna with searches that resume from a file.

Hydra finds sweepers only in a package with the name `hydra_plugins`. Hydra's own sweeper for Optuna needs Optuna 2 and does not
resume.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from segpipe.errors import ConfigError, require_extra

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

STORAGE = "optuna.journal"


class OptunaSweeper(Sweeper):
    """Search for the settings with the largest score.

    The score of a job is what the task function returns.

    Args:
        n_trials: Number of trials, including those of earlier starts.
        n_jobs: Number of trials that are passed to the launcher at once.
        storage: Path of a journal file, or URL of a database; None for `optuna.journal` in the folder of the sweep.
        seed: Seed of the TPE sampler.
        params: Search space in Hydra's grammar, by key: `interval(a,b)`, `range(a,b)`, `choice(a,b)`, or
            `tag(log,interval(a,b))` for a logarithmic scale. Arguments of the call may add to it or replace it.
    """

    def __init__(self, n_trials: int, n_jobs: int, storage: str | None, seed: int, params: Mapping[str, Any]) -> None:
        self._n_trials = n_trials
        self._n_jobs = n_jobs
        self._storage = storage
        self._seed = seed
        self._params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Receive the context of the sweep from Hydra."""
        self._parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        self._folder = Path(config.hydra.sweep.dir)
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the remaining trials.

        Raises:
            MissingExtraError: Optuna is not installed.
            ConfigError: No key has a range, or another process uses the folder of the sweep.
            Exception: The first error of a trial; raised after all trials have run.
        """
        given = self._parser.parse_overrides([f"{key}={value}" for key, value in self._params.items()])
        overrides = {override.key_or_group: override for override in [*given, *self._parser.parse_overrides(arguments)]}
        space = {key: distribution(override) for key, override in overrides.items() if override.is_sweep_override()}
        fixed = [str(override.input_line) for key, override in overrides.items() if key not in space]
        if not space:
            raise ConfigError("the Optuna sweeper needs a key with a range, such as 'optimizer.lr=interval(1e-4,1e-2)'")
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / ".optuna.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ConfigError(
                f"{self._folder} is in use by another search; wait until it ends, or name another output"
            ) from error
        with lock:
            failures = self._search(self._open_study(space, fixed), space, fixed)
        for failure in failures:
            _ = failure.return_value  # raises what the job raised

    def _open_study(self, space: Mapping[str, "BaseDistribution"], fixed: Sequence[str]) -> "optuna.Study":
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = self._storage or str(self._folder / STORAGE)
        problem = repr([sorted((key, repr(values)) for key, values in space.items()), sorted(fixed)])
        try:
            study = optuna.create_study(
                storage=storage if "://" in storage else JournalStorage(JournalFileBackend(storage)),
                study_name=f"segpipe-{hashlib.sha256(problem.encode()).hexdigest()[:12]}",  # one study for each search space
                direction="maximize",
                load_if_exists=True,
            )
        except Exception as error:  # any error of a damaged journal or a database
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ConfigError(
                f"hydra.sweeper.storage must be a journal or a database of Optuna, got {storage} ({reason}); name another one"
            ) from error
        # With the same seed, a resumed search would draw the first trials again.
        study.sampler = optuna.samplers.TPESampler(seed=self._seed + len(study.trials))
        return study

    def _search(self, study: "optuna.Study", space: Mapping[str, "BaseDistribution"], fixed: Sequence[str]) -> list[JobReturn]:
        from optuna.trial import TrialState

        # Unfinished trials of an interrupted search run again with their numbers.
        waiting = [(trial.number, trial.params) for trial in study.trials if not trial.state.is_finished()]
        failures = []
        while waiting or len(study.trials) < self._n_trials:
            while len(waiting) < self._n_jobs and len(study.trials) < self._n_trials:
                trial = study.ask(dict(space))
                waiting.append((trial.number, trial.params))
            batch, waiting = waiting[: self._n_jobs], waiting[self._n_jobs :]
            jobs = [[*fixed, *_as_overrides(params)] for _, params in batch]
            for (number, _), job in zip(batch, self._launcher.launch(jobs, initial_job_idx=batch[0][0]), strict=True):
                if job.status is not JobStatus.COMPLETED:
                    failures.append(job)
                score = float(job.return_value) if job.status is JobStatus.COMPLETED else math.nan
                if math.isfinite(score):
                    study.tell(number, score)
                else:
                    study.tell(number, state=TrialState.FAIL)
        if any(trial.state is TrialState.COMPLETE for trial in study.trials):
            best = study.best_trial
            print(f"best of {len(study.trials)} trials: {' '.join(_as_overrides(best.params))} with {best.value:.4f}")
        return failures


def distribution(override: Override) -> "BaseDistribution":
    """Convert a sweep of Hydra's grammar to a distribution of Optuna.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    require_extra("sweeps", "hydra/sweeper=optuna")
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep: Any = override.value()
    kind = type(sweep)
    whole = all(isinstance(getattr(sweep, name, 0), int) for name in ("start", "stop", "end", "step"))
    if kind is IntervalSweep:
        return (IntDistribution if whole else FloatDistribution)(sweep.start, sweep.end, log="log" in sweep.tags)
    if kind is RangeSweep and whole:
        values = range(sweep.start, sweep.stop, sweep.step)
        return IntDistribution(values[0], values[-1], step=sweep.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _as_overrides(params: Mapping[str, Any]) -> Iterable[str]:
    return [f"{key}={value}" for key, value in params.items()]
