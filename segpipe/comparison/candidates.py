"""The classifiers of a comparison: checked before any of them works, then each run over the images and scored as users do."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.folder import load_classifier, read_card
from segpipe.comparison.table import file_name
from segpipe.errors import BundleError, OutputError
from segpipe.evaluation.run import read_run
from segpipe.evaluation.score import Metrics, score_run
from segpipe.evaluation.truth import GroundTruth, check_truth
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.settings import PipelineSettings
from segpipe.io.numerals import counted
from segpipe.io.output import hold_output
from segpipe.metrics.classification import Answers
from segpipe.runs.folder import RunOptions, is_finished, run_images
from segpipe.runs.image_jobs import LocalEngine
from segpipe.runs.source import Source
from segpipe.runs.summary import changed_settings, run_identity
from segpipe.types import FloatArray


def count_parameters(model: nn.Module) -> int:
    """The number of weights that were learnt."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int) -> int:
    """The multiply-accumulate operations of one image, in convolutions and products of matrices.

    Args:
        model: as it was built, not prepared for inference, whose operators are not all known to the counter; in eval mode, on
            the CPU.
        size: side of the square input, pixels.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2  # torch counts the multiplication and the addition


def measure_rates(works: Sequence[Callable[[], object]], items: int, *, rounds: int, seconds: float) -> FloatArray:
    """How much each of several workers gets done in a second, side by side.

    They take turns in each round, so that a machine which is busy for a while slows all of them alike. On a CPU each has one
    core, as each batch has in `segpipe.runs.image_jobs`.

    Args:
        works: of each worker; a call does `items` items and returns when they are done.
        items: that a call does.
        rounds: each gives one rate; one more goes before, as a warm-up.
        seconds: length of a turn, at the least one call.

    Returns:
        Items per second, shape (workers, rounds).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for work in works:
            work()
        return np.array([[items * _calls_per_second(work, seconds) for work in works] for _ in range(rounds)]).T
    finally:
        torch.set_num_threads(threads)


def _calls_per_second(work: Callable[[], object], seconds: float) -> float:
    begun, calls = time.perf_counter(), 0
    while True:
        work()
        calls += 1
        passed = time.perf_counter() - begun
        if passed >= seconds:
            return calls / passed


@dataclass(frozen=True)
class Candidate:
    """A classifier that is to be compared.

    Attributes:
        title: by which the call names it.
        bundle: its folder.
        card: of the bundle.
        parameters: number of weights.
        macs: multiply-accumulate operations of one crop.
        pipeline: that it runs in, behind the segmenter that all share.
        ask: of its run over the images.
    """

    title: str
    bundle: Path
    card: ClassifierCard
    parameters: int
    macs: int
    pipeline: Pipeline
    ask: RunOptions


@dataclass(frozen=True)
class Scored:
    """A classifier that was run over the images.

    Attributes:
        candidate: the classifier.
        paths: of the images with a result.
        image_ids: of the labelled ones among them.
        answers: for these.
        metrics: the part `classification` of its `metrics.json`.
    """

    candidate: Candidate
    paths: Sequence[str]
    image_ids: Sequence[str]
    answers: Answers
    metrics: Metrics


def load_candidates(bundles: Mapping[str, Path], settings: PipelineSettings, output: Path) -> list[Candidate]:
    """Load the classifiers of a comparison.

    Args:
        bundles: folders by title.
        settings: of the pipelines, but for the classifier.
        output: of the comparison; each run has a folder of its own in `runs/`.

    Raises:
        BundleError: a bundle cannot be used, or two name other classes.
        ConfigError: the device is not there.
    """
    cards = {title: read_card(folder, "classifier", ClassifierCard) for title, folder in bundles.items()}
    (first, card), *others = cards.items()
    for title, other in others:
        if set(other.classes) != set(card.classes):
            raise BundleError(
                f"all bundles must name the same classes, got {', '.join(card.classes)} in {first!r} and "
                f"{', '.join(other.classes)} in {title!r}; compare them apart"
            )
    return [_load(title, folder, settings, output / "runs" / file_name(title)) for title, folder in bundles.items()]


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


def check_candidates(candidates: Sequence[Candidate], source: Source, truth: GroundTruth, *, overwrite: bool) -> GroundTruth:
    """See, before the work, that there is something to score, and that each run folder holds nothing else than this run.

    Args:
        candidates: all classifiers, with the same classes.
        source: the images.
        truth: by the names of images.
        overwrite: what the run folders hold will be removed.

    Returns:
        What is known of these images.

    Raises:
        DatasetError: no image has a label that is one of the classes, or the labels contradict each other.
        OutputError: a run folder holds results of other settings or bundles.
    """
    known = check_truth(truth, source.by_path).of_classes(candidates[0].card.classes)
    for candidate in candidates if not overwrite else ():
        ask = candidate.ask
        changed = changed_settings(ask.output, run_identity(candidate.pipeline, ask.wanted, max_pixels=ask.max_pixels))
        if changed:
            raise OutputError(
                f"{ask.output} holds the results of another run ({', '.join(changed)} changed); give all as it was, name another "
                "output, or begin all runs anew with overwrite=true"
            )
    return known


def run_candidate(candidate: Candidate, source: Source, truth: GroundTruth, *, overwrite: bool) -> Scored:
    """Run a classifier over the images, as far as it has not been, and score it.

    Args:
        candidate: the classifier; its folder then holds what `segpipe predict folder=... labels=...` writes.
        source: the images.
        truth: of them.
        overwrite: begin anew.

    Raises:
        AnswerError: the classifier gave a number that is not finite.
        RunStoppedError: the disk is full or broken.
        KeyboardInterrupt: the user stopped it; the text says how far it is.
    """
    pipeline, ask, title = candidate.pipeline, candidate.ask, candidate.title
    with hold_output(ask.output, overwrite=overwrite, resume=not overwrite):
        if is_finished(pipeline, source, ask):
            sys.stderr.write(f"{title}: done before\n")
        else:
            sys.stderr.write(f"{title}: {counted(len(source.files), 'image')}\n")
            try:
                done = run_images(pipeline, source, ask, LocalEngine(pipeline, workers=None))
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(f"{title}: {stop}; the same call, without overwrite=true, resumes") from stop
            done.require_answers()
        files = [(file, relative) for file, relative in source.files if isinstance(file, Path)]
        metrics = score_run(ask.output, truth, files)["classification"]
        run, diagnoses = read_run(ask.output), truth.diagnoses or {}
        rows = run.labelled(diagnoses)
        return Scored(candidate, list(run.results["path"]), list(rows["image_id"]), run.answers(rows, diagnoses), metrics)
