"""Comparison of several classifiers on the same labeled images: metrics and cost.

Each classifier is run as by `segpipe predict`, into OUTPUT/runs/, where a later call finds finished results; the tables and
pictures of the comparison go into OUTPUT.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.bundle.records import Training
from segpipe.comparison.candidates import (
    ScoredCandidate,
    check_candidates,
    load_candidates,
    measure_rates,
    on_one_core,
    run_candidate,
)
from segpipe.comparison.plots import draw_cost, draw_metrics, draw_roc
from segpipe.comparison.table import (
    METRICS,
    NO_ESTIMATE,
    RATE,
    ComparedClassifier,
    Comparison,
    Estimate,
    comparison_text,
    write_comparison,
)
from segpipe.data.duplicates import find_seen
from segpipe.data.identity import image_ids
from segpipe.errors import ConfigError, DatasetError, OutputError
from segpipe.evaluation.truth import GroundTruth, read_truth
from segpipe.inference.resources import choose_device, gc_paused, keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.io.files import display_path, write_file
from segpipe.io.images import decode_photograph
from segpipe.io.output import find_results, hold_output
from segpipe.io.run_files import COMPARISON, COMPARISON_TEXT, COST_PLOT, FAILURES, METRICS_PLOT, ROC_PLOT
from segpipe.io.storage import open_source
from segpipe.metrics.bootstrap import PairedDifference, paired_differences
from segpipe.metrics.classification import score_predictions
from segpipe.runs.source import Source, images_of_folder
from segpipe.types import RgbImage

ROUNDS = 7
SECONDS_A_TURN = 0.5
_PICTURES = {ROC_PLOT: draw_roc, METRICS_PLOT: draw_metrics, COST_PLOT: draw_cost}


@dataclass(frozen=True)
class ComparisonSettings:
    """Images and conditions of a comparison.

    Attributes:
        folder: Folder of the images, or its URL.
        labels: Table of the true diagnoses, with optional lesion ids.
        output: Folder of the results.
        split: Table of the images to keep; None keeps all.
        part: Part of the split to keep; None keeps all parts.
        pipeline: Settings of the pipelines, except the classifier.
        overwrite: True to remove earlier runs in `output`.
    """

    folder: str
    labels: Path
    output: Path
    split: Path | None = None
    part: str | None = None
    pipeline: PipelineSettings = field(default_factory=lambda: PipelineSettings(tta="none", explain="none"))
    overwrite: bool = False


def compare_bundles(bundles: Mapping[str, Path], settings: ComparisonSettings) -> str:
    """Run, score and time classifiers.

    Args:
        bundles: Folders of the classifiers by title.
        settings: Images and conditions.

    Returns:
        Comparison as Markdown, and the paths of the files.

    Raises:
        ConfigError: There are fewer than two bundles, or the folder or the device cannot be used.
        BundleError: A bundle cannot be used, or the classes of two bundles differ.
        DatasetError: Labels or split cannot be used, or fit none of the images.
        OutputError: The output folder has results that are not of these runs.
    """
    _check(bundles, settings)
    source = images_of_folder(settings.folder, split=settings.split, part=settings.part)
    keep_freed_memory()
    with gc_paused():
        truth = read_truth(labels=settings.labels, masks=None, split=settings.split)
        truth = replace(truth, dataset=Path(settings.folder).resolve().name, part=settings.part)
        candidates = load_candidates(bundles, settings.pipeline, settings.output)
        truth = check_candidates(candidates, source, truth, overwrite=settings.overwrite)
    for remark in (*source.remarks, *truth.remarks()):
        sys.stderr.write(f"{remark}\n")
    with hold_output(settings.output, overwrite=False, resume=True):
        scored = [run_candidate(candidate, source, truth, overwrite=settings.overwrite) for candidate in candidates]
        return _write_files(settings, compare(scored, source, truth))


def compare(scored: Sequence[ScoredCandidate], source: Source, truth: GroundTruth) -> Comparison:
    """Order classifiers by macro AUROC, and time them.

    Args:
        scored: Classifiers, at least two, with runs over the same images.
        source: Images.
        truth: Ground truth of the images.

    Raises:
        DatasetError: Images failed with only some of the classifiers, or were changed between the runs.
    """
    ordered = sorted(scored, key=_rank)
    best = ordered[0]
    for other in ordered:
        _require_same_images(best, other)
    lesions = truth.lesions_of(best.image_ids)
    images = pd.DataFrame({"image_id": image_ids([Path(path) for path in best.image_ids]), "lesion_id": lesions})
    changes = _changes(ordered, lesions)
    rates = _measure_rates(ordered, source)
    classifiers = [
        ComparedClassifier(
            title=run.candidate.title,
            bundle=run.candidate.bundle,
            predictions=run.predictions,
            metrics={name: _metric(run, name) for name in METRICS} | {RATE: _range_over_rounds(own)},
            changes={**change, RATE: _range_over_rounds(own / rates[0])},
            parameters=run.candidate.parameters,
            macs=run.candidate.macs,
            seen=_count_seen(run.candidate.card.training, images),
        )
        for run, change, own in zip(ordered, changes, rates, strict=True)
    ]
    segmenter = best.candidate.pipeline.localizer.network
    return Comparison(
        classifiers=classifiers,
        images=len(images),
        lesions=len(set(lesions)),
        interval_unit=truth.interval_unit(best.image_ids),
        failed=len(source.files) + len(source.failures) - len(best.paths),
        majority_baseline=best.metrics["metrics"]["majority_baseline"]["value"],
        melanomas=best.metrics["metrics"].get("support_mel", NO_ESTIMATE)["value"],
        segmenter_seen=0 if segmenter is None else _count_seen(segmenter.card.training, images),
        test_set=best.metrics["test_set"],
    )


def _check(bundles: Mapping[str, Path], settings: ComparisonSettings) -> None:
    if len(bundles) < 2:
        raise ConfigError(
            f"bundles must name at least two classifiers, got {len(bundles)}; segpipe predict labels=... scores a single one"
        )
    results = find_results(settings.output)
    if results:
        raise OutputError(
            f"output must hold no other results, got {settings.output} with {', '.join(results)}; name another folder"
        )


def _require_same_images(one: ScoredCandidate, other: ScoredCandidate) -> None:
    titles = one.candidate.title, other.candidate.title
    if other.paths != one.paths:
        raise DatasetError(
            f"all runs must be over the same images, got {len(one.paths)} results of {titles[0]!r} and {len(other.paths)} of "
            f"{titles[1]!r}; see {other.candidate.options.output / FAILURES}"
        )
    if other.metrics["test_set"] != one.metrics["test_set"]:
        raise DatasetError(
            f"all runs must be scored on the same images and labels, got others for {titles[0]!r} and {titles[1]!r}, so files "
            "were changed in between; restart all runs with overwrite=true"
        )


def _rank(run: ScoredCandidate) -> float:
    area = _metric(run, "macro_auroc")["value"]
    return np.inf if area is None else -area


def _metric(run: ScoredCandidate, name: str) -> Estimate:
    estimate: Estimate = run.metrics["metrics"].get(name, NO_ESTIMATE)
    return estimate


def _changes(ordered: Sequence[ScoredCandidate], lesions: Sequence[str]) -> list[dict[str, Estimate]]:
    """Compute the paired differences of `METRICS` from the first run."""
    names = [name for name in METRICS if name in ordered[0].metrics["metrics"]]
    metrics = {run.candidate.title: partial(score_predictions, run.predictions) for run in ordered}
    compared = paired_differences(metrics, names, lesions)
    return [dict.fromkeys(METRICS, NO_ESTIMATE) | dict(zip(names, map(_change, row), strict=True)) for row in compared]


def _change(difference: PairedDifference) -> Estimate:
    return {"value": difference.change, "low": difference.low, "high": difference.high}


def _measure_rates(ordered: Sequence[ScoredCandidate], source: Source) -> NDArray[np.float64]:
    """Measure images per second in each round, on the same crops."""
    pipelines = [run.candidate.pipeline for run in ordered]
    count = pipelines[0].ensemble.batch_size
    images = _read_images(source, ordered[0].paths[:count], least_side=max(pipeline.least_side for pipeline in pipelines))
    localized = list(zip(images, pipelines[0].localizer(images), strict=True))
    works = [partial(pipeline.ensemble, [pipeline.ensemble.cut(*pair) for pair in localized]) for pipeline in pipelines]
    with on_one_core(pipelines):
        return measure_rates(works, len(images), rounds=ROUNDS, seconds=SECONDS_A_TURN)


def _read_images(source: Source, paths: Sequence[str], *, least_side: int) -> list[RgbImage]:
    files: Mapping[str, Path | str] = {display_path(relative): file for file, relative in source.files}
    images = []
    for path in paths:
        with open_source(files[path]) as file:
            images.append(decode_photograph(file, least_side=least_side).image)
    return images


def _range_over_rounds(values: NDArray[np.float64]) -> Estimate:
    return {"value": float(np.median(values)), "low": float(values.min()), "high": float(values.max())}


def _count_seen(training: Training, images: pd.DataFrame) -> int | None:
    """Count images whose lesions a model has seen; None if unknown."""
    return len(find_seen({"test": images}, training.seen)) if training.seen else None


def _write_files(settings: ComparisonSettings, comparison: Comparison) -> str:
    """Write tables and pictures; return the Markdown table and the paths."""
    part, device = "" if settings.part is None else f", part {settings.part}", choose_device(settings.pipeline.device)
    timed = " (timed on one core)" if device == "cpu" else ""
    text = comparison_text(
        comparison,
        images_from=f"{Path(settings.folder).resolve().name}{part}",
        conditions=f"views {settings.pipeline.tta}, masks from {settings.pipeline.localize}, device {device}{timed}",
    )
    write_comparison(settings.output / COMPARISON, comparison)
    write_file(settings.output / COMPARISON_TEXT, f"{text}\n".encode())
    for name, draw in _PICTURES.items():
        draw(comparison, settings.output / name)
    paths = [settings.output / name for name in (COMPARISON, COMPARISON_TEXT, *_PICTURES)]
    return "\n".join([text, "", *map(str, paths)])
