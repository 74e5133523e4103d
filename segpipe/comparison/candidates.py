"""Classifiers of a comparison: loading, cost, runs over the images, scores."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.card_file import read_card
from segpipe.bundle.folder import load_classifier
from segpipe.comparison.table import file_name
from segpipe.errors import BundleError, OutputError
from segpipe.evaluation.run import read_run
from segpipe.evaluation.score import Metrics, score_run
from segpipe.evaluation.truth import GroundTruth, check_truth
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.settings import PipelineSettings
from segpipe.io.files import counted
from segpipe.io.output import hold_output
from segpipe.io.run_files import COMPARED_RUNS
from segpipe.metrics.classification import LabeledPredictions
from segpipe.runs.folder import is_finished, run_images
from segpipe.runs.local_engine import LocalEngine
from segpipe.runs.options import RunOptions, changed_settings, run_identity
from segpipe.runs.source import Source
from segpipe.types import FloatArray


@dataclass(frozen=True)
class Candidate:
    """Classifier to be compared.

    Attributes:
        title: Title in the comparison.
        bundle: Folder of its bundle.
        card: Card of the bundle.
        parameters: Number of weights.
        macs: Multiply-accumulate operations of one crop.
        pipeline: Pipeline of the classifier, with the segmenter that all candidates share.
        options: Options of its run over the images.
    """

    title: str
    bundle: Path
    card: ClassifierCard
    parameters: int
    macs: int
    pipeline: Pipeline
    options: RunOptions


@dataclass(frozen=True)
class ScoredCandidate:
    """Classifier with the scores of its run.

    Attributes:
        candidate: Classifier.
        paths: Paths of the images with a result.
        image_ids: Ids of the labeled images among them.
        predictions: Predictions for the labeled images.
        metrics: Part `classification` of its `metrics.json`.
    """

    candidate: Candidate
    paths: Sequence[str]
    image_ids: Sequence[str]
    predictions: LabeledPredictions
    metrics: Metrics


def load_candidates(bundles: Mapping[str, Path], settings: PipelineSettings, output: Path) -> list[Candidate]:
    """Load the classifiers of a comparison.

    Args:
        bundles: Folders of the bundles by title.
        settings: Settings of the pipelines, except the classifier.
        output: Folder of the comparison; each run has its own folder in `runs/`.

    Raises:
        BundleError: A bundle cannot be used, or the classes of two bundles differ.
        ConfigError: The device is not available.
    """
    cards = {title: read_card(folder, "classifier", ClassifierCard) for title, folder in bundles.items()}
    (first, card), *others = cards.items()
    for title, other in others:
        if set(other.classes) != set(card.classes):
            raise BundleError(
                f"all bundles must have the same classes, got {', '.join(card.classes)} in {first!r} and "
                f"{', '.join(other.classes)} in {title!r}; compare them separately"
            )
    return [_load(title, folder, settings, output / COMPARED_RUNS / file_name(title)) for title, folder in bundles.items()]


def check_candidates(candidates: Sequence[Candidate], source: Source, truth: GroundTruth, *, overwrite: bool) -> GroundTruth:
    """Check labels and run folders before the runs.

    Args:
        candidates: Classifiers with the same classes.
        source: Images.
        truth: Ground truth by the names of images.
        overwrite: True if earlier results in the run folders will be removed.

    Returns:
        Ground truth of these images.

    Raises:
        DatasetError: No image has a label of one of the classes, or labels contradict each other.
        OutputError: A run folder has results of other settings or bundles.
    """
    matched = check_truth(truth, source.by_path).keep_classes(candidates[0].card.classes)
    for candidate in candidates if not overwrite else ():
        options = candidate.options
        identity = run_identity(candidate.pipeline.identity(), options.pictures, max_pixels=options.max_pixels, given_masks=None)
        changed = changed_settings(options.output, identity)
        if changed:
            raise OutputError(
                f"{options.output} holds the results of another run ({', '.join(changed)} changed); give the same settings, set "
                "another output, or restart all runs with overwrite=true"
            )
    return matched


def run_candidate(candidate: Candidate, source: Source, truth: GroundTruth, *, overwrite: bool) -> ScoredCandidate:
    """Run a classifier over the images without a result, and score it.

    Args:
        candidate: Classifier; its folder gets the files of `segpipe predict folder=... labels=...`.
        source: Images.
        truth: Ground truth of the images.
        overwrite: True to restart the run.

    Raises:
        PredictionError: The classifier gave a number that is not finite.
        RunStoppedError: The disk is full or broken.
        KeyboardInterrupt: The user stopped the run; the message has its progress.
    """
    pipeline, options, title = candidate.pipeline, candidate.options, candidate.title
    with hold_output(options.output, overwrite=overwrite, resume=not overwrite):
        if is_finished(pipeline, source, options):
            sys.stderr.write(f"{title}: already finished\n")
        else:
            sys.stderr.write(f"{title}: {counted(len(source.files), 'image')}\n")
            try:
                result = run_images(pipeline, source, options, LocalEngine(pipeline, workers=None))
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(f"{title}: {stop}; the same call, without overwrite=true, resumes") from stop
            result.require_predictions()
        files = [(file, relative) for file, relative in source.files if isinstance(file, Path)]
        metrics = score_run(options.output, truth, files)["classification"]
        run, diagnoses = read_run(options.output), truth.diagnoses or {}
        rows = run.labeled(diagnoses)
        paths, image_ids = list(run.results["path"]), list(rows["image_id"])
        return ScoredCandidate(candidate, paths, image_ids, run.predictions(rows, diagnoses), metrics)


def count_parameters(model: nn.Module) -> int:
    """Count the weights of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int) -> int:
    """Count the multiply-accumulate operations of one image.

    Convolutions and matrix products count.

    Args:
        model: Network in eval mode on the CPU, as built: the counter does not know all operators of a network that was prepared
            for inference.
        size: Side of the square input, pixels.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2  # torch counts the multiplication and the addition


def measure_rates(works: Sequence[Callable[[], object]], items: int, *, rounds: int, seconds: float) -> FloatArray:
    """Measure the throughput of several workers in turn.

    They take turns in each round, so that other load on the machine slows all of them alike.

    Args:
        works: Workers; a call processes `items` items and returns when they are finished.
        items: Number of items of a call.
        rounds: Number of rounds, one rate each, after a warm-up.
        seconds: Length of a turn, at least one call.

    Returns:
        Items per second, shape (workers, rounds).
    """
    for work in works:
        work()
    return np.array([[items * _calls_per_second(work, seconds) for work in works] for _ in range(rounds)]).T


@contextmanager
def on_one_core(pipelines: Sequence[Pipeline]) -> Iterator[None]:
    """Restrict pipelines to one core within a block.

    Each batch of a run on a CPU has one core, too.
    """
    before = [pipeline.threads for pipeline in pipelines]
    for pipeline in pipelines:
        pipeline.use_threads(1)
    try:
        yield
    finally:
        for pipeline, threads in zip(pipelines, before, strict=True):
            pipeline.use_threads(threads)


def _load(title: str, folder: Path, settings: PipelineSettings, output: Path) -> Candidate:
    bundle = load_classifier(folder)
    return Candidate(
        title,
        folder,
        bundle.card,
        count_parameters(bundle.model),
        count_macs(bundle.model, bundle.card.input.size),
        load_pipeline(**vars(replace(settings, classifier=(str(folder),)))),
        RunOptions(output),
    )


def _calls_per_second(work: Callable[[], object], seconds: float) -> float:
    start, calls = time.perf_counter(), 0
    while True:
        work()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return calls / elapsed
