"""The engine of many machines, with workers on Ray actors."""

import logging
import os
import pickle
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.errors import ConfigError, RunStoppedError
from segpipe.inference.loading import load_pipeline
from segpipe.inference.resources import default_batch_size, keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.runs.journal import Outcome
from segpipe.runs.local_engine import MAX_WORKERS, Worker
from segpipe.runs.options import RunPlan
from segpipe.runs.ray_cluster import Claims, choose_actor_device, connect, first_line, nodes_of_cluster, plan_actors
from segpipe.runs.source import ImageJob

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

MAX_DEATHS = 3  # of actors on the same images, after which these are considered the cause
MAX_BLOCKS = 10_000  # units that Ray moves and repeats; each costs a millisecond at the start


class RayEngine:
    """Engine that processes batches of files on a Ray cluster.

    Ray's items are whole batches, so the networks see the same images together as with the local engine, and give the same
    numbers. Ray restarts lost actors, and gives their batches to others.

    Args:
        settings: Settings of the pipeline.
        workers: Number of actors; None takes one for each GPU, or without GPUs one for each node and at least two.

    Attributes:
        settings: Settings of all actors, with device, batch size and absolute paths.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: Ray cannot be reached, `workers` is 0, or the cluster has no such device.
    """

    def __init__(self, settings: PipelineSettings, workers: int | None) -> None:
        if workers == 0:
            raise ConfigError("workers must be 1 or more with engine=ray, got 0; engine=local works in the main process")
        self._must_shut_down = connect()
        nodes = nodes_of_cluster()
        device = choose_actor_device(settings.device, nodes)
        self._actors = plan_actors(nodes, workers, gpus=int(device == "cuda"))
        self.settings = replace(
            settings,
            segmenter=None if settings.segmenter is None else os.path.abspath(settings.segmenter),
            classifier=None if settings.classifier is None else tuple(map(os.path.abspath, settings.classifier)),
            device=device,
            # The main process, which has no GPU, must name the runtime that the actors choose.
            runtime="torch" if settings.runtime == "auto" and device != "cpu" else settings.runtime,
            batch_size=settings.batch_size or default_batch_size(device),
        )

    def run(self, plan: RunPlan, batches: Sequence[Sequence[ImageJob]]) -> Iterator[list[Outcome]]:
        """Yield outcomes as they arrive, in any order.

        Raises:
            RunStoppedError: Actors died repeatedly over the same images, or the cluster was lost.
        """
        import ray

        try:
            with _clear_errors(), _data_settings():
                # Referenced to the end, because restarted actors read it again.
                finished = ray.put({sha256: path for path, sha256 in plan.finished.items()})
                dataset = self._dataset(ray.put(plan), finished, batches)
                for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                    outcomes = [pickle.loads(outcome) for outcome in table["outcome"].to_pylist()]
                    for error in outcomes:
                        if isinstance(error, Exception):
                            raise error
                    yield outcomes
        finally:
            if self._must_shut_down:
                ray.shutdown()

    def _dataset(self, plan: Any, finished: Any, batches: Sequence[Sequence[ImageJob]]) -> "Dataset":
        import ray.data
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # On the machine of the driver, which the run needs anyway.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # If it is lost, duplicate files are processed repeatedly, with the same results.
        lasting = {"max_restarts": -1, "max_task_retries": -1}
        claims = ray.remote(Claims).options(num_cpus=0, scheduling_strategy=here, **lasting).remote(finished)
        items = [{"jobs": pickle.dumps([_with_absolute_path(job) for job in batch])} for batch in batches]
        cores = self._actors.cores
        return ray.data.from_items(items, override_num_blocks=min(len(items), MAX_BLOCKS)).map_batches(
            _Actor,
            fn_constructor_args=(self.settings, plan, claims, cores),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=self._actors.number,
                max_concurrent_calls_per_actor=min(cores, MAX_WORKERS),
                enable_true_multi_threading=True,
            ),
            num_cpus=cores,
            num_gpus=self._actors.gpus,
        )


class _Actor:
    """Process of the cluster with the models, which its threads share.

    Errors are returned as values: Ray wraps and rewords raised errors, and repeats some of them for ever.
    """

    def __init__(self, settings: PipelineSettings, plan: Any, claims: Any, cores: int) -> None:
        self._settings = settings
        self._plan = plan
        self._claims = claims
        self._threads = max(1, cores // MAX_WORKERS)
        self._worker: Worker | None = None
        self._loading = threading.Lock()

    def __call__(self, item: "pyarrow.Table") -> "Iterator[pyarrow.Table]":
        import pyarrow

        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = self._process(pickle.loads(item["jobs"][0].as_py()))
        except Exception as error:
            outcomes = [_portable(error)]
        for outcome in outcomes:
            yield pyarrow.table({"outcome": pyarrow.array([pickle.dumps(outcome)], pyarrow.large_binary())})

    def _process(self, jobs: Sequence[ImageJob]) -> list[Outcome]:
        import ray

        # Ray itself would never stop.
        if ray.get(self._claims.begin.remote(jobs[0].path)) > MAX_DEATHS:
            raise RunStoppedError(f"{MAX_DEATHS} actors of Ray died while they processed {jobs[0].path} and others")
        with self._loading:
            self._worker = self._worker or self._load()
        self._worker.use_threads(self._threads)  # applies to the calling thread
        return self._worker(jobs)

    def _load(self) -> Worker:
        import ray

        keep_freed_memory()
        return Worker(load_pipeline(**vars(self._settings)), ray.get(self._plan), self._claim)

    def _claim(self, sha256: str, path: str) -> str:
        import ray

        return str(ray.get(self._claims.claim.remote(sha256, path)))


@contextmanager
def _data_settings() -> Iterator[None]:
    """Configure Ray datasets: no terminal output, and unsplit blocks."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = None  # all outcomes of a block arrive at once, so none can arrive twice
    context.max_consecutive_actor_init_deaths = MAX_DEATHS
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Convert errors of Ray to one line."""
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, ExecutionTimeoutError) as error:
        raise RunStoppedError(f"Ray gave up ({first_line(error)})") from error


def _portable(error: Exception) -> Exception:
    """Make an error picklable, with its traceback as a note."""
    text = "".join(traceback.format_exception(error))
    error.add_note(f"on an actor of Ray:\n{text}")
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # of a class that cannot be pickled
        copy = None
    return copy if isinstance(copy, Exception) else RuntimeError(text)


def _with_absolute_path(job: ImageJob) -> ImageJob:
    source = job.source.absolute() if isinstance(job.source, Path) else job.source
    return replace(job, source=source, mask=None if job.mask is None else job.mask.absolute())
