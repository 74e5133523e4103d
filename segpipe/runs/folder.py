"""Runs over many images: batches, recorded outcomes, and tables."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segpipe.errors import OutputError, PredictionError, RunStoppedError
from segpipe.inference.finding import Finding
from segpipe.inference.networks import batched
from segpipe.inference.pipeline import Pipeline
from segpipe.io.files import counted
from segpipe.io.passes import Progress
from segpipe.io.run_files import FAILURES, MASKS, RESULTS, SUBMISSION
from segpipe.io.storage import content_hash
from segpipe.runs.journal import Journal, Outcome, Recorder, run_key
from segpipe.runs.options import RunOptions, RunPlan, read_identity, refuse_other_run, run_identity, write_summary
from segpipe.runs.results import SUBMISSION_CLASSES, Row, read_hashes, write_failures, write_results, write_submission
from segpipe.runs.source import ImageJob, Source, make_jobs


class Engine(Protocol):
    """Processor of batches of files, on this machine or on many."""

    def run(self, plan: RunPlan, batches: Sequence[Sequence[ImageJob]]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of each batch, in any order."""


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        rows: Rows of the images with a result, sorted by path, see `Finding.to_dict`.
        failures: Path and reason of the other images, sorted by path.
        model_failed: True where a model returned a number that is not finite for one of these; otherwise all of them are
            unusable files.
        names: Name of the pictures of each image, by its path.
        shown: Path and finding of the first few images, for the terminal.
        summary: Content of `summary.json`.
    """

    rows: tuple[Row, ...]
    failures: tuple[tuple[str, str], ...]
    model_failed: bool
    names: Mapping[str, Path]
    shown: tuple[tuple[str, Finding], ...]
    summary: Mapping[str, Any]

    def require_predictions(self) -> None:
        """Refuse a run in which a model failed.

        Metrics would leave out the images on which it failed.

        Raises:
            PredictionError: A model returned a number that is not finite for one of the images.
        """
        if self.model_failed:
            raise PredictionError(f"no prediction for {len(self.failures)} images, the first is {': '.join(self.failures[0])}")


def run_images(pipeline: Pipeline, source: Source, options: RunOptions, engine: Engine) -> RunResult:
    """Process images and write their rows, masks and pictures.

    Failed files are listed and skipped. However the run ends, the tables hold all results
    until then, and the next run resumes from there.

    Args:
        pipeline: Pipeline of the engine, whose bundles and settings identify the run.
        source: Images of the run.
        options: Options of the run.
        engine: Engine that processes the images.

    Raises:
        OutputError: The output folder holds results of other settings or bundles.
        RunStoppedError: The disk is full or broken.
        KeyboardInterrupt: The user stopped the run; the text states its progress.
    """
    run = _Run(pipeline, source, options)
    try:
        run.process(engine)
    except BaseException as error:
        # The first error is reported, even where a full disk prevents the tables.
        with suppress(OutputError, OSError):
            run.finish(finished=False)
        if isinstance(error, RunStoppedError):
            raise RunStoppedError(f"{error}; {run.progress_text()}, continue with resume=true when that is solved") from error
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(run.progress_text()) from error
        raise
    return run.finish(finished=True)


def is_finished(pipeline: Pipeline, source: Source, options: RunOptions) -> bool:
    """Return True where the output holds current results for all images.

    Args:
        pipeline: Pipeline of the run.
        source: Images of the run; they are hashed only where everything else is unchanged.
        options: Options of the run; the output folder need not exist.
    """
    hashes = read_hashes(options.output / RESULTS)
    files = source.by_path
    identity = _identity(pipeline, source, options)
    return (
        hashes.keys() == files.keys()
        and read_identity(options.output) == identity
        and all(content_hash(file) == hashes[path] for path, file in files.items())
    )


def _identity(pipeline: Pipeline, source: Source, options: RunOptions) -> dict[str, Any]:
    masks = source.hash_masks()
    return run_identity(pipeline.identity(), options.pictures, max_pixels=options.max_pixels, given_masks=masks)


class _Run:
    """State of one run."""

    def __init__(self, pipeline: Pipeline, source: Source, options: RunOptions) -> None:
        self._pipeline = pipeline
        self._source = source
        self._options = options
        self._identity = _identity(pipeline, source, options)
        refuse_other_run(options.output, self._identity)
        self._journal = Journal(options.output, run_key(self._identity))
        self._recorder = Recorder(options.output, self._journal, dict(source.failures))
        self._jobs = make_jobs(source)
        self._names = {job.path: job.name for job in self._jobs}
        self._start: float | None = None
        self._write_summary(finished=False)  # identifies the run for a later call, should this one be killed

    def process(self, engine: Engine) -> None:
        finished = {path: row["sha256"] for path, row in self._journal.read().items() if self._has_mask(path)}
        plan = RunPlan(self._options.pictures, self._options.max_pixels, finished)
        batches = list(batched(self._jobs, self._pipeline.ensemble.batch_size))
        self._start = time.perf_counter()
        with Progress(len(self._jobs), self._options.title) as progress:
            for outcomes in engine.run(plan, batches):
                self._recorder.record(outcomes)
                progress.update(len(outcomes), failed=len(self._recorder.failures))
        self._recorder.record_duplicates(self._names, self._options.pictures.endings)

    def finish(self, *, finished: bool) -> RunResult:
        """Write the tables of all results so far."""
        output, recorder, classes = self._options.output, self._recorder, self._pipeline.ensemble.classes
        rows = self._rows()
        failures = tuple(sorted(recorder.failures.items()))
        write_results(output / RESULTS, rows, classes)
        write_failures(output / FAILURES, failures)
        if {code.lower() for code in SUBMISSION_CLASSES} == set(classes):
            write_submission(output / SUBMISSION, rows)
        shown, summary = tuple(sorted(recorder.shown.items())), self._write_summary(finished=finished)
        return RunResult(rows, failures, recorder.model_failed, self._names, shown, summary)

    def progress_text(self) -> str:
        return f"{len(self._rows())} of {counted(len(self._jobs), 'image')} done"

    def _rows(self) -> tuple[Row, ...]:
        """Return the rows of this run's images, sorted by path."""
        # From the journal, because an interrupt may come before a row is counted.
        paths = self._names.keys() - self._recorder.failures.keys()
        return tuple(row for path, row in sorted(self._journal.read().items()) if path in paths)

    def _write_summary(self, *, finished: bool) -> dict[str, Any]:
        rows, recorder, now = self._rows(), self._recorder, time.perf_counter()
        images = len(rows)
        seconds = now - (self._start or now)
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
        models = self._pipeline.describe_models()
        return write_summary(
            self._options.output, counts, settings=self._options.settings, identity=self._identity, models=models
        )

    def _has_mask(self, path: str) -> bool:
        """Return True where the mask exists under this run's name."""
        name = self._names.get(path)
        return name is not None and (self._options.output / MASKS / name).is_file()


def _count_warnings(rows: Sequence[Row]) -> dict[str, int]:
    """Count the images with each warning."""
    return dict(Counter(code for row in rows for code in row["warnings"].split(";") if code))
