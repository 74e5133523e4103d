"""Many images: batch after batch through an engine, written down as they are done, and the tables at the end."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from segpipe.errors import OutputError, PredictionError, RunStoppedError
from segpipe.inference.finding import Finding
from segpipe.inference.networks import batched
from segpipe.inference.pipeline import Pipeline
from segpipe.io.images import DEFAULT_MAX_PIXELS, display_path
from segpipe.io.numerals import counted
from segpipe.io.storage import content_hash
from segpipe.runs.image_jobs import ImageJob, Outcome, Plan
from segpipe.runs.journal import Journal, Recorder, run_key
from segpipe.runs.pictures import MASKS, PictureOptions
from segpipe.runs.progress import Progress
from segpipe.runs.results import RESULTS, SUBMISSION_CLASSES, Row, read_hashes, write_failures, write_results, write_submission
from segpipe.runs.source import Source, result_names
from segpipe.runs.summary import read_identity, refuse_other_run, run_identity, write_summary

SHOWN = 3  # findings that go to the terminal, whatever the size of the folder


class Engine(Protocol):
    """Does batches of files, on this machine or on many."""

    def run(self, plan: Plan, batches: Sequence[Sequence[ImageJob]]) -> Iterator[list[Outcome]]:
        """Yields the outcomes of batch after batch, in any order."""


@dataclass(frozen=True)
class RunOptions:
    """What a run is to do, and where.

    Attributes:
        output: folder, which exists; what its journal holds already is not done again.
        wanted: pictures of each image, beside its mask.
        max_pixels: cap on the size of an image.
        settings: the configuration of the call, as plain values, for `summary.json`; None where a program calls.
    """

    output: Path
    wanted: PictureOptions = field(default_factory=PictureOptions)
    max_pixels: int = DEFAULT_MAX_PIXELS
    settings: Any = None


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        rows: of the images with a result, sorted by path, see `Finding.to_dict`.
        failures: path and reason of the rest, sorted by path.
        model_failed: for one of these a model gave a number that is not finite; the others are files that cannot be used.
        names: of the pictures of each image, by its path.
        shown: path and finding of the first few images, for the terminal.
        summary: what `summary.json` holds.
    """

    rows: tuple[Row, ...]
    failures: tuple[tuple[str, str], ...]
    model_failed: bool
    names: Mapping[str, Path]
    shown: tuple[tuple[str, Finding], ...]
    summary: Mapping[str, Any]

    def require_answers(self) -> None:
        """See that scores would not leave out images only because a model failed on them.

        Raises:
            AnswerError: for one of the images a model gave a number that is not finite.
        """
        if self.model_failed:
            raise PredictionError(f"no answer for {len(self.failures)} images, the first is {': '.join(self.failures[0])}")


def run_images(pipeline: Pipeline, source: Source, ask: RunOptions, engine: Engine) -> RunResult:
    """Work through images and write their lines, masks and pictures; a bad file is noted and passed over.

    Whatever ends the run, the tables hold all that was done until then, and the next one goes on from there.

    Args:
        pipeline: that the engine runs; its bundles say what the results are.
        source: the images.
        ask: what is wanted, and where.
        engine: does the work.

    Raises:
        OutputError: the output folder holds results of other settings or bundles.
        RunStoppedError: the disk is full or broken.
        KeyboardInterrupt: the user stopped it; the text says how far it is.
    """
    run = _Run(pipeline, source, ask)
    try:
        run.work(engine)
    except BaseException as error:
        # The first error is the one to be told, whatever a full disk says to the tables.
        with suppress(OutputError, OSError):
            run.finish(finished=False)
        if isinstance(error, RunStoppedError):
            raise RunStoppedError(f"{error}; {run.how_far()}, resume=true goes on when that is mended") from error
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(run.how_far()) from error
        raise
    return run.finish(finished=True)


def is_finished(pipeline: Pipeline, source: Source, ask: RunOptions) -> bool:
    """Whether a run would add nothing to its output folder: it holds a result for each of the images as they are now.

    Args:
        pipeline: of the run.
        source: its images; they are read for their hashes where all else is as it was.
        ask: its wishes; the output folder need not exist.
    """
    done = read_hashes(ask.output / RESULTS)
    files = {display_path(relative): file for file, relative in source.files}
    return (
        done.keys() == files.keys()
        and read_identity(ask.output) == run_identity(pipeline, ask.wanted, max_pixels=ask.max_pixels)
        and all(content_hash(file) == done[path] for path, file in files.items())
    )


class _Run:
    """One run, from the first look at its output folder to the tables."""

    def __init__(self, pipeline: Pipeline, source: Source, ask: RunOptions) -> None:
        self._pipeline = pipeline
        self._source = source
        self._ask = ask
        self._identity = run_identity(pipeline, ask.wanted, max_pixels=ask.max_pixels)
        refuse_other_run(ask.output, self._identity)
        self._journal = Journal(ask.output, run_key(self._identity))
        self._recorder = Recorder(ask.output, self._journal, dict(source.failures))
        self._tasks = make_tasks(source)
        self._names = {task.path: task.name for task in self._tasks}
        self._begun: float | None = None
        self._summarize(finished=False)  # what a later call goes on with, should this one be killed

    def work(self, engine: Engine) -> None:
        known = {path: row["sha256"] for path, row in self._journal.read().items() if self._has_mask(path)}
        plan = Plan(self._ask.wanted, self._ask.max_pixels, known)
        batches = list(batched(self._tasks, self._pipeline.ensemble.batch_size))
        self._begun = time.perf_counter()
        with Progress(len(self._tasks)) as progress:
            for outcomes in engine.run(plan, batches):
                self._recorder.record(outcomes)
                progress.update(len(outcomes), failed=len(self._recorder.failures))
        self._recorder.record_doubles(self._names, self._ask.wanted.endings)

    def finish(self, *, finished: bool) -> RunResult:
        """Write the tables of what is done."""
        output, recorder, classes = self._ask.output, self._recorder, self._pipeline.ensemble.classes
        rows = self._rows()
        failures = tuple(sorted(recorder.failures.items()))
        write_results(output / RESULTS, rows, classes)
        write_failures(output / "failures.csv", failures)
        if {code.lower() for code in SUBMISSION_CLASSES} == set(classes):
            write_submission(output / "submission.csv", rows)
        shown, summary = tuple(sorted(recorder.shown.items())), self._summarize(finished=finished)
        return RunResult(rows, failures, recorder.model_failed, self._names, shown, summary)

    def how_far(self) -> str:
        return f"{len(self._rows())} of {counted(len(self._tasks), 'image')} done"

    def _rows(self) -> tuple[Row, ...]:
        """Of the images of this run, by path, as the journal has them: an interrupt may come before a line is counted."""
        here = self._names.keys() - self._recorder.failures.keys()
        return tuple(row for path, row in sorted(self._journal.read().items()) if path in here)

    def _summarize(self, *, finished: bool) -> dict[str, Any]:
        rows, recorder, now = self._rows(), self._recorder, time.perf_counter()
        images = len(rows)
        seconds = now - (self._begun or now)
        counts = {
            "finished": finished,
            "images": images,
            "images_done_before": images - recorder.written,
            "failures": len(recorder.failures),
            "ignored_files": self._source.ignored,
            "warnings": _count_warnings(rows),
            "seconds": round(seconds, 3),
            "images_per_second": round(recorder.written / max(seconds, 1e-9), 3),
        }
        return write_summary(self._ask.output, self._pipeline, self._identity, counts, settings=self._ask.settings)

    def _has_mask(self, path: str) -> bool:
        """A result counts as done if its mask is there, under the name that it has in this run."""
        name = self._names.get(path)
        return name is not None and (self._ask.output / MASKS / name).is_file()


def _count_warnings(rows: Sequence[Row]) -> dict[str, int]:
    """Number of images by warning."""
    return dict(Counter(code for row in rows for code in row["warnings"].split(";") if code))


def make_tasks(source: Source) -> list[ImageJob]:
    """The files of a run, in the order of their paths; the first few are shown."""
    names = result_names([relative for _, relative in source.files])
    return [
        ImageJob(path, display_path(relative), names[relative], shown=number < SHOWN)
        for number, (path, relative) in enumerate(source.files)
    ]
