"""The engine of one machine: threads that each take a batch of files from reading to what is to be written."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import torch

from segpipe.inference.pipeline import Pipeline
from segpipe.runs.image_jobs import ImageJob, Outcome, Plan, Worker

MOST_WORKERS = 16


class LocalEngine:
    """Runs a pipeline over batches of files.

    On a CPU whole batches run side by side, one for each core, because a network with a core of its own wastes no time in waiting
    for the others. On an accelerator the threads read and cut while one of them has it.

    Args:
        pipeline: from images to findings.
        workers: threads; 0 does all in the caller's own, None takes one for each core, at most `MOST_WORKERS`.
    """

    def __init__(self, pipeline: Pipeline, workers: int | None) -> None:
        self._pipeline = pipeline
        self._workers = min(_cores(), MOST_WORKERS) if workers is None else workers

    def run(self, plan: Plan, batches: Sequence[Sequence[ImageJob]]) -> Iterator[list[Outcome]]:
        """Yields the outcomes of each batch, in order; after Ctrl-C those that are finished, and then the interrupt."""
        claims = {sha256: path for path, sha256 in plan.known.items()}
        worker = Worker(self._pipeline, plan, claims.setdefault)
        workers = min(self._workers, len(batches))
        if self._workers == 0 or len(batches) < 2:
            yield from map(worker, batches)
            return
        with _shared_cores(workers) as start_thread, _pool(workers, start_thread, worker) as submit:
            window: deque[Future[list[Outcome]]] = deque()
            try:
                for batch in batches:
                    window.append(submit(batch))
                    if len(window) > 2 * workers:  # so that not more than this waits to be written
                        yield window.popleft().result()
                while window:
                    yield window.popleft().result()
            except KeyboardInterrupt:
                yield from (future.result() for future in window if future.done() and future.exception() is None)
                raise


@contextmanager
def _pool(
    workers: int, start_thread: Callable[[], None], worker: Worker
) -> Iterator[Callable[[Sequence[ImageJob]], Future[list[Outcome]]]]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="segpipe", initializer=start_thread)
    try:
        yield lambda batch: pool.submit(worker, batch)
    finally:
        worker.stop()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _shared_cores(workers: int) -> Iterator[Callable[[], None]]:
    """Share the cores out among the workers; each thread has to call what this gives."""
    threads, threads_of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    share = max(1, threads // workers)
    cv2.setNumThreads(share)
    try:
        yield lambda: torch.set_num_threads(share)
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads_of_opencv)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
