"""The engine of many machines: actors of Ray that hold the models and take whole batches, as the threads of one machine do."""

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

import torch

from segpipe.errors import ConfigError, RunStoppedError
from segpipe.inference.loading import default_batch_size, load_pipeline
from segpipe.inference.memory import keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.runs.image_jobs import MOST_WORKERS, ImageJob, Outcome, Plan, Worker
from segpipe.runs.ray_cluster import Claims, choose_device, connect, first_line, lay_out, nodes_of_cluster

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

MOST_DEATHS = 3  # of actors in the middle of the same images, before these are held to be the cause
MOST_BLOCKS = 10_000  # that Ray moves and repeats; each costs a millisecond before the work begins


class RayEngine:
    """Runs a pipeline over batches of files on the actors of a Ray cluster.

    An item of Ray's is a whole batch: the networks see the same images together as with the local engine, and give the same
    numbers. Ray starts an actor again that was lost, and gives its batches to others.

    Args:
        settings: the models, and how they run.
        workers: actors; None takes one for each GPU, or without GPUs one for each node and at least two.

    Attributes:
        settings: those of all actors: with their device, the size of their batches, and absolute paths.

    Raises:
        ConfigError: Ray is not installed or not to be reached, no worker is asked for, or the cluster has no such device.
    """

    def __init__(self, settings: PipelineSettings, workers: int | None) -> None:
        if workers == 0:
            raise ConfigError("workers must be 1 or more with engine=ray, got 0; engine=local works in the main process")
        self._is_ours = connect()
        nodes = nodes_of_cluster()
        device = choose_device(settings.device, nodes)
        self._actors = lay_out(nodes, workers, gpus=int(device == "cuda"))
        self.settings = replace(
            settings,
            segmenter=None if settings.segmenter is None else os.path.abspath(settings.segmenter),
            classifier=None if settings.classifier is None else tuple(map(os.path.abspath, settings.classifier)),
            device=device,
            batch_size=settings.batch_size or default_batch_size(device),
        )

    def run(self, plan: Plan, batches: Sequence[Sequence[ImageJob]]) -> Iterator[list[Outcome]]:
        """Yields outcomes as they come in, in any order.

        Raises:
            RunStoppedError: actors died again and again over the same images, or the cluster is lost.
        """
        import ray

        try:
            with _clear_errors(), _data_settings():
                # Held to the end: what has to start again reads it again.
                known = ray.put({sha256: path for path, sha256 in plan.known.items()})
                dataset = self._dataset(ray.put(plan), known, batches)
                for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                    answers = [pickle.loads(answer) for answer in table["answer"].to_pylist()]
                    for error in answers:
                        if isinstance(error, Exception):
                            raise error
                    yield answers
        finally:
            if self._is_ours:
                ray.shutdown()

    def _dataset(self, plan: Any, known: Any, batches: Sequence[Sequence[ImageJob]]) -> "Dataset":
        import ray.data
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # On the machine of the driver, without which there is no run anyway.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Should it be lost, too, files that are there more than once are done more than once, with the same results.
        lasting = {"max_restarts": -1, "max_task_retries": -1}
        claims = ray.remote(Claims).options(num_cpus=0, scheduling_strategy=here, **lasting).remote(known)
        items = [{"tasks": pickle.dumps([_absolute_task(task) for task in batch])} for batch in batches]
        cores = self._actors.cores
        return ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS)).map_batches(
            _Actor,
            fn_constructor_args=(self.settings, plan, claims, cores),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=self._actors.number,
                max_concurrent_calls_per_actor=min(cores, MOST_WORKERS),
                enable_true_multi_threading=True,
            ),
            num_cpus=cores,
            num_gpus=self._actors.gpus,
        )


class _Actor:
    """A process of the cluster with the models, which its threads share.

    Errors are handed over as values: what an actor raises, Ray wraps, words anew, and in part repeats for ever.
    """

    def __init__(self, settings: PipelineSettings, plan: Any, claims: Any, cores: int) -> None:
        self._settings = settings
        self._plan = plan
        self._claims = claims
        self._threads = max(1, cores // MOST_WORKERS)
        self._worker: Worker | None = None
        self._loading = threading.Lock()

    def __call__(self, item: "pyarrow.Table") -> "Iterator[pyarrow.Table]":
        import pyarrow

        answers: Sequence[Outcome | Exception]
        try:
            answers = self._work(pickle.loads(item["tasks"][0].as_py()))
        except Exception as error:
            answers = [_portable(error)]
        for answer in answers:
            yield pyarrow.table({"answer": pyarrow.array([pickle.dumps(answer)], pyarrow.large_binary())})

    def _work(self, tasks: Sequence[ImageJob]) -> list[Outcome]:
        import ray

        # Ray itself would go on for ever.
        if ray.get(self._claims.begin.remote(tasks[0].path)) > MOST_DEATHS:
            raise RunStoppedError(f"{MOST_DEATHS} actors of Ray died, each while it worked on {tasks[0].path} and others")
        torch.set_num_threads(self._threads)  # counts for the calling thread
        with self._loading:
            self._worker = self._worker or self._load()
        return self._worker(tasks)

    def _load(self) -> Worker:
        import ray

        keep_freed_memory()
        return Worker(load_pipeline(**vars(self._settings)), ray.get(self._plan), self._claim)

    def _claim(self, sha256: str, path: str) -> str:
        import ray

        return str(ray.get(self._claims.claim.remote(sha256, path)))


@contextmanager
def _data_settings() -> Iterator[None]:
    """How the datasets made inside behave: nothing on the terminal, and blocks that are whole."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = None  # all that comes of a block comes at once, so that nothing of it can come twice
    context.max_consecutive_actor_init_deaths = MOST_DEATHS
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
    """Errors of Ray as one line."""
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, ExecutionTimeoutError) as error:
        raise RunStoppedError(f"Ray gave up ({first_line(error)})") from error


def _portable(error: Exception) -> Exception:
    """An error for another process, with its traceback as a note."""
    text = "".join(traceback.format_exception(error))
    error.add_note(f"on an actor of Ray:\n{text}")
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # of a class that cannot be pickled
        copy = None
    return copy if isinstance(copy, Exception) else RuntimeError(text)


def _absolute_task(task: ImageJob) -> ImageJob:
    return replace(task, source=task.source.absolute()) if isinstance(task.source, Path) else task
