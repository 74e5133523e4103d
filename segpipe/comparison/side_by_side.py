"""Classifiers that were run over the same images, set side by side: figures, paired differences from the best, time."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.bundle.card import Training
from segpipe.comparison.candidates import Scored
from segpipe.comparison.cost import measure_rates
from segpipe.comparison.table import METRICS, NO_FIGURE, RATE, Comparison, Entry, Figure
from segpipe.data.fingerprints import find_seen
from segpipe.data.identity import image_ids
from segpipe.errors import DatasetError
from segpipe.evaluation.truth import GroundTruth
from segpipe.io.images import decode_photograph, display_path
from segpipe.io.storage import open_source
from segpipe.metrics.classification import score_answers
from segpipe.metrics.paired import Difference, compare_runs
from segpipe.runs.source import Source
from segpipe.types import RgbImage

ROUNDS = 7
SECONDS_A_TURN = 0.5


def compare(scored: Sequence[Scored], source: Source, truth: GroundTruth) -> Comparison:
    """Set classifiers side by side, the best by macro AUROC first, and time them.

    Args:
        scored: at least two, over the same images.
        source: these images.
        truth: of them.

    Raises:
        DatasetError: images failed with some of the classifiers only, or were changed between the runs.
    """
    ordered = sorted(scored, key=_rank)
    best = ordered[0]
    for other in ordered:
        if other.paths != best.paths:
            raise DatasetError(
                f"all runs must be over the same images, got {len(best.paths)} results of {best.candidate.title!r} and "
                f"{len(other.paths)} of {other.candidate.title!r}; see {other.candidate.ask.output / 'failures.csv'}"
            )
        if other.metrics["test_set"] != best.metrics["test_set"]:
            raise DatasetError(
                f"all runs must be scored on the same images and labels, got others for {best.candidate.title!r} and "
                f"{other.candidate.title!r}, so files were changed in between; begin all runs anew with overwrite=true"
            )
    lesions = truth.groups(best.image_ids)
    images = pd.DataFrame({"image_id": image_ids([Path(path) for path in best.image_ids]), "lesion_id": lesions})
    changes = _changes(ordered, lesions)
    rates = _measure(ordered, source)
    entries = [
        Entry(
            title=run.candidate.title,
            bundle=run.candidate.bundle,
            answers=run.answers,
            figures={name: _figure(run, name) for name in METRICS} | {RATE: _over_rounds(own)},
            changes={**change, RATE: _over_rounds(own / rates[0])},
            parameters=run.candidate.parameters,
            macs=run.candidate.macs,
            seen=_count_seen(run.candidate.card.training, images),
        )
        for run, change, own in zip(ordered, changes, rates, strict=True)
    ]
    segmenter = best.candidate.pipeline.locator.bundle
    return Comparison(
        entries=entries,
        images=len(images),
        lesions=len(set(lesions)),
        interval_unit=truth.interval_unit(best.image_ids),
        failed=len(source.files) + len(source.failures) - len(best.paths),
        majority_baseline=best.metrics["metrics"]["majority_baseline"]["value"],
        melanomas=best.metrics["metrics"].get("support_mel", NO_FIGURE)["value"],
        segmenter_seen=0 if segmenter is None else _count_seen(segmenter.card.training, images),
        test_set=best.metrics["test_set"],
    )


def _rank(run: Scored) -> float:
    area = _figure(run, "macro_auroc")["value"]
    return np.inf if area is None else -area


def _figure(run: Scored, name: str) -> Figure:
    figure: Figure = run.metrics["metrics"].get(name, NO_FIGURE)
    return figure


def _changes(ordered: Sequence[Scored], lesions: Sequence[str]) -> list[dict[str, Figure]]:
    """For each run the paired differences of `METRICS` from the first one."""
    names = [name for name in METRICS if name in ordered[0].metrics["metrics"]]
    metrics = {run.candidate.title: partial(score_answers, run.answers) for run in ordered}
    compared = compare_runs(metrics, names, lesions)
    return [dict.fromkeys(METRICS, NO_FIGURE) | dict(zip(names, map(_as_figure, row), strict=True)) for row in compared]


def _as_figure(difference: Difference) -> Figure:
    return {"value": difference.change, "low": difference.low, "high": difference.high}


def _measure(ordered: Sequence[Scored], source: Source) -> NDArray[np.float64]:
    """Images per second of each classifier in each round, all on crops of the same images."""
    pipelines = [run.candidate.pipeline for run in ordered]
    count = pipelines[0].ensemble.batch_size
    images = _read_images(source, ordered[0].paths[:count], least_side=max(pipeline.least_side for pipeline in pipelines))
    places = list(zip(images, pipelines[0].locator(images), strict=True))
    works = [partial(pipeline.ensemble, [pipeline.ensemble.cut(*place) for place in places]) for pipeline in pipelines]
    return measure_rates(works, len(images), rounds=ROUNDS, seconds=SECONDS_A_TURN)


def _read_images(source: Source, paths: Sequence[str], *, least_side: int) -> list[RgbImage]:
    files: Mapping[str, Path | str] = {display_path(relative): file for file, relative in source.files}
    images = []
    for path in paths:
        with open_source(files[path]) as file:
            images.append(decode_photograph(file, least_side=least_side).image)
    return images


def _over_rounds(values: NDArray[np.float64]) -> Figure:
    return {"value": float(np.median(values)), "low": float(values.min()), "high": float(values.max())}


def _count_seen(training: Training, images: pd.DataFrame) -> int | None:
    """How many images a model has seen in training or validation, or others of their lesions; None if its card is silent."""
    return len(find_seen({"test": images}, training.seen)) if training.seen else None
