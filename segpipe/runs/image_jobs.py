"""One batch of files, from reading to what is to be written: the same work on a thread of this machine and on another machine."""

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

from segpipe.errors import ImageError
from segpipe.inference.finding import Finding
from segpipe.inference.image_sources import Unanswered, find_each
from segpipe.inference.pipeline import Pipeline
from segpipe.io.images import Photograph, decode_photograph, display_path
from segpipe.io.storage import open_source
from segpipe.runs.pictures import PictureOptions, encode_pictures


@dataclass(frozen=True)
class ImageJob:
    """A file to work on.

    Attributes:
        source: the file, or its URL.
        path: relative to the folder, as it is shown; the key of its results.
        name: of its pictures, relative and with the ending .png.
        shown: its finding is wanted for the terminal.
    """

    source: Path | str
    path: str
    name: Path
    shown: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run wants of each file.

    Attributes:
        wanted: the pictures.
        max_pixels: cap on the size of an image.
        known: SHA-256 of the files that have their results already, by path.
    """

    wanted: PictureOptions
    max_pixels: int
    known: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """An image was done: its row, what to write by path below the output folder, and its finding where the task asks for it."""

    row: dict[str, Any]
    pictures: Mapping[Path, bytes]
    finding: Finding | None


@dataclass(frozen=True)
class Failure:
    """There is no result for a file.

    Attributes:
        path: of the file.
        reason: in words.
        by_model: the file is sound, but a model gave a number that is not finite.
    """

    path: str
    reason: str
    by_model: bool = False


@dataclass(frozen=True)
class Double:
    """A file has the content of another one, `first`, which is done once for both."""

    path: str
    sha256: str
    first: str


@dataclass(frozen=True)
class Known:
    """A file has its results already."""

    path: str


Outcome = Result | Failure | Double | Known
# From the SHA-256 of a file and its path to the path of the first file with this content: to itself, if that is the first one.
Claim = Callable[[str, str], str]


class StoppedError(Exception):
    """The worker was told to stop."""


class Worker:
    """Does batches of files; threads may share it.

    Args:
        pipeline: from images to findings.
        plan: what is wanted of each file.
        claim: who does a file that is there more than once.
    """

    def __init__(self, pipeline: Pipeline, plan: Plan, claim: Claim) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._claim = claim
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give up the batches that are under way: their calls end with a StoppedError before the next image."""
        self._stopped.set()

    def __call__(self, tasks: Sequence[ImageJob]) -> list[Outcome]:
        """One outcome for each task, in their order; a file that cannot be used is one of them, not an error."""
        begun = time.perf_counter()
        read = [self._read(task) for task in tasks]
        photographs = [photograph for photograph in read if isinstance(photograph, _Read)]
        self._check()
        find = partial(self._pipeline, between=self._check)
        findings = find_each(find, [photograph.photograph for photograph in photographs])
        latency_ms = 1000 * (time.perf_counter() - begun) / max(len(photographs), 1)
        found = iter(findings)
        return [self._finish(entry, next(found), latency_ms) if isinstance(entry, _Read) else entry for entry in read]

    def _read(self, task: ImageJob) -> "_Read | Outcome":
        self._check()
        try:
            with open_source(task.source) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                if self._plan.known.get(task.path) == sha256:
                    return Known(task.path)
                first = self._claim(sha256, task.path)
                if first != task.path:
                    return Double(task.path, sha256, first)
                file.seek(0)
                photograph = decode_photograph(file, least_side=self._pipeline.least_side, max_pixels=self._plan.max_pixels)
        except ImageError as error:
            return Failure(task.path, str(error).removeprefix(f"{_shown(task.source)}: "))
        return _Read(task, sha256, photograph)

    def _finish(self, read: "_Read", finding: Finding | Unanswered, latency_ms: float) -> Outcome:
        self._check()
        task = read.task
        if isinstance(finding, Unanswered):
            return Failure(task.path, finding.reason, finding.by_model)
        finding = replace(finding, path=task.path, sha256=read.sha256, latency_ms=latency_ms)
        pictures = encode_pictures(self._plan.wanted, finding, task.name)
        return Result(finding.to_dict(), pictures, finding if task.shown else None)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise StoppedError


@dataclass(frozen=True)
class _Read:
    task: ImageJob
    sha256: str
    photograph: Photograph


def _shown(source: Path | str) -> str:
    return display_path(source) if isinstance(source, Path) else source


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
