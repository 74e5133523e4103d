"""One batch of files, from reading to what is to be written: the same work on a thread of this machine and on another machine."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

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
