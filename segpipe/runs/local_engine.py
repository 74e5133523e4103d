"""The engine of one machine, with workers on threads."""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from segpipe.errors import ImageError
from segpipe.inference.finding import Finding
from segpipe.inference.given_masks import read_given_mask
from segpipe.inference.image_sources import FailedPrediction, predict_batch
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.resources import available_cores
from segpipe.io.files import display_path
from segpipe.io.images import decode_photograph, encode_png
from segpipe.io.run_files import CROPS, FIGURES, HEATMAPS, MASKS
from segpipe.io.storage import open_source
from segpipe.runs.journal import AlreadyFinished, Duplicate, Failure, Outcome, Result
from segpipe.runs.options import PictureOptions, RunPlan
from segpipe.runs.source import ImageJob
from segpipe.types import BoolMask, Photograph

MAX_WORKERS = 16

# Function from the SHA-256 and the path of a file to the path of the first file with this content, possibly itself.
Claim = Callable[[str, str], str]


class WorkerStoppedError(Exception):
    """The worker was stopped while it processed a batch."""


class Worker:
    """Worker that processes batches of files, on this machine or another one. Thread-safe.

    Args:
        pipeline: Pipeline from images to findings.
        plan: Options of the run.
        claim: Function that assigns duplicate files to the first of them.
    """

    def __init__(self, pipeline: Pipeline, plan: RunPlan, claim: Claim) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._claim = claim
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop all calls before their next image; they raise a WorkerStoppedError."""
        self._stopped.set()

    def use_threads(self, count: int) -> None:
        """Set the number of cores of a call from this thread."""
        self._pipeline.use_threads(count)

    def __call__(self, jobs: Sequence[ImageJob]) -> list[Outcome]:
        """Process a batch; return one outcome per job, in order, failures included."""
        start = time.perf_counter()
        entries = [self._read(job) for job in jobs]
        read = [entry for entry in entries if isinstance(entry, _ReadJob)]
        self._check_stopped()
        predict = partial(self._pipeline, on_step=self._check_stopped)
        findings = predict_batch(predict, [entry.photograph for entry in read], [entry.mask for entry in read])
        latency_ms = 1000 * (time.perf_counter() - start) / max(len(read), 1)
        rest = iter(findings)
        return [self._finish(entry, next(rest), latency_ms) if isinstance(entry, _ReadJob) else entry for entry in entries]

    def _read(self, job: ImageJob) -> "_ReadJob | Outcome":
        self._check_stopped()
        try:
            with open_source(job.source) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                if self._plan.finished.get(job.path) == sha256:
                    return AlreadyFinished(job.path)
                # A given mask belongs to one path, so the file is no duplicate of another one.
                first = self._claim(sha256, job.path) if job.mask is None else job.path
                if first != job.path:
                    return Duplicate(job.path, sha256, first)
                file.seek(0)
                photograph = decode_photograph(file, least_side=self._pipeline.least_side, max_pixels=self._plan.max_pixels)
            mask = None if job.mask is None else read_given_mask(job.mask, photograph, max_pixels=self._plan.max_pixels)
        except ImageError as error:
            shown = display_path(job.source) if isinstance(job.source, Path) else job.source
            return Failure(job.path, str(error).removeprefix(f"{shown}: "))
        return _ReadJob(job, sha256, photograph, mask)

    def _finish(self, entry: "_ReadJob", finding: Finding | FailedPrediction, latency_ms: float) -> Outcome:
        self._check_stopped()
        job = entry.job
        if isinstance(finding, FailedPrediction):
            return Failure(job.path, finding.reason, finding.by_model)
        finding = replace(finding, path=job.path, sha256=entry.sha256, latency_ms=latency_ms)
        pictures = encode_pictures(self._plan.pictures, finding, job.name)
        return Result(finding.to_dict(), pictures, finding if job.shown else None)

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise WorkerStoppedError


@dataclass(frozen=True)
class _ReadJob:
    job: ImageJob
    sha256: str
    photograph: Photograph
    mask: BoolMask | None


def encode_pictures(options: PictureOptions, finding: Finding, name: Path) -> dict[Path, bytes]:
    """Draw and encode the pictures of one image.

    Args:
        options: Pictures to draw.
        finding: Finding of the image.
        name: Name of the pictures, relative, with the ending .png.

    Returns:
        Content of each file by its path below the output folder.
    """
    pictures = {Path(MASKS, name): encode_png(finding.mask)}
    if options.crops:
        pictures[Path(CROPS, name)] = encode_png(finding.crop)
    if options.heatmaps and (heatmap := finding.heatmap) is not None:
        pictures[Path(HEATMAPS, name)] = encode_png(np.rint(heatmap * 255).astype(np.uint8))
    if options.figure is not None:
        pictures[Path(FIGURES, name)] = options.figure(finding, name.stem)
    if options.report is not None:
        drawn = options.report(finding)
        pictures |= {Path(folder, name.with_suffix(".jpg")): content for folder, content in drawn.items()}
    return pictures


class LocalEngine:
    """Engine that runs a pipeline over batches of files on threads.

    On a CPU whole batches run in parallel, one for each core, because a network on one core does not wait for other cores. On an
    accelerator the threads read and crop while one of them uses it.

    Args:
        pipeline: Pipeline from images to findings.
        workers: Number of threads; 0 works in the calling thread, None takes one for each core, at most `MAX_WORKERS`.
    """

    def __init__(self, pipeline: Pipeline, workers: int | None) -> None:
        self._pipeline = pipeline
        self._workers = min(available_cores(), MAX_WORKERS) if workers is None else workers

    def run(self, plan: RunPlan, batches: Sequence[Sequence[ImageJob]]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of each batch in order.

        After Ctrl-C, batches that are finished are yielded before the interrupt is raised.
        """
        claims = {sha256: path for path, sha256 in plan.finished.items()}
        worker = Worker(self._pipeline, plan, claims.setdefault)
        workers = min(self._workers, len(batches))
        if self._workers == 0 or len(batches) < 2:
            yield from map(worker, batches)
            return
        with _shared_cores(self._pipeline, workers) as start_thread, _pool(workers, start_thread, worker) as submit:
            window: deque[Future[list[Outcome]]] = deque()
            try:
                for batch in batches:
                    window.append(submit(batch))
                    if len(window) > 2 * workers:  # limits the outcomes that wait to be written
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
def _shared_cores(pipeline: Pipeline, workers: int) -> Iterator[Callable[[], None]]:
    """Divide the cores among threads, which must call the yielded function."""
    opencv_threads = cv2.getNumThreads()
    threads = max(1, pipeline.threads // workers)
    cv2.setNumThreads(threads)
    try:
        yield lambda: pipeline.use_threads(threads)
    finally:
        cv2.setNumThreads(opencv_threads)
