"""Several classifiers over the same labeled images, compared by their metrics and by what they cost.

Each is run as `segpipe predict` does, into OUTPUT/runs/, where a later call finds what is done; the table goes with all digits
and three pictures into OUTPUT.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.bundle.card import Training
from segpipe.comparison.candidates import Scored, measure_rates
from segpipe.comparison.table import METRICS, NO_FIGURE, RATE, Comparison, Entry, Figure
from segpipe.data.fingerprints import find_seen
from segpipe.data.identity import image_ids
from segpipe.errors import ConfigError, DatasetError, OutputError
from segpipe.evaluation.truth import GroundTruth
from segpipe.inference.memory import gc_paused, keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.io.images import decode_photograph, display_path
from segpipe.io.output import find_results, hold_output
from segpipe.io.storage import open_source
from segpipe.metrics.bootstrap import Difference, compare_runs
from segpipe.metrics.classification import score_answers
from segpipe.runs.source import Source, images_of_folder
from segpipe.types import RgbImage

if TYPE_CHECKING:
    from segpipe.comparison.candidates import Candidate
    from segpipe.comparison.table import Comparison
    from segpipe.evaluation.truth import GroundTruth


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


@dataclass(frozen=True)
class ComparisonSettings:
    """Images and conditions of a comparison.

    Attributes:
        folder: Folder of the images, or its URL.
        labels: Table of the true diagnoses, with lesion ids where they are known.
        output: Folder of the results.
        split: Table that says which images are kept; None keeps all.
        part: Part of the split that is kept; None keeps all parts.
        pipeline: Settings of the pipelines, but for the classifier.
        overwrite: Whether earlier runs in `output` are removed.
    """

    folder: str
    labels: Path
    output: Path
    split: Path | None = None
    part: str | None = None
    pipeline: PipelineSettings = field(default_factory=lambda: PipelineSettings(tta="none", explain="none"))
    overwrite: bool = False


def compare_bundles(bundles: Mapping[str, Path], given: ComparisonSettings) -> str:
    """Run, score and time classifiers; returns the table as Markdown and the paths of the files.

    Args:
        bundles: Folders of the classifiers by title.
        given: Images and conditions.

    Raises:
        ConfigError: There are fewer than two bundles, or the folder or the device cannot be used.
        BundleError: A bundle cannot be used, or two have other classes.
        DatasetError: Labels or split cannot be used, or know none of the images.
        OutputError: The output folder holds results that are not of these runs.
    """
    check_call(bundles, given)
    source = images_of_folder(given.folder, split=given.split, part=given.part)
    keep_freed_memory()
    with gc_paused():
        from segpipe.comparison.candidates import check_candidates, run_candidate

        truth, candidates = load_models(bundles, given)
        truth = check_candidates(candidates, source, truth, overwrite=given.overwrite)
    for remark in (*source.remarks, *truth.remarks()):
        sys.stderr.write(f"{remark}\n")
    with hold_output(given.output, overwrite=False, resume=True):
        scored = [run_candidate(candidate, source, truth, overwrite=given.overwrite) for candidate in candidates]
        return write_files(given, compare(scored, source, truth))


def check_call(bundles: Mapping[str, Path], given: ComparisonSettings) -> None:
    """Check what a comparison was given, before anything heavy is imported."""
    if len(bundles) < 2:
        raise ConfigError(
            f"bundles must name at least two classifiers, got {len(bundles)}; segpipe predict labels=... scores a single one"
        )
    found = find_results(given.output)
    if found:
        raise OutputError(f"output must hold no other results, got {given.output} with {', '.join(found)}; name another folder")


def load_models(bundles: Mapping[str, Path], given: ComparisonSettings) -> tuple["GroundTruth", list["Candidate"]]:
    """Load what is known of the images, and the models."""
    from segpipe.comparison.candidates import load_candidates
    from segpipe.evaluation.truth import read_truth

    truth = read_truth(labels=given.labels, masks=None, split=given.split)
    truth = replace(truth, dataset=Path(given.folder).resolve().name, part=given.part)
    return truth, load_candidates(bundles, given.pipeline, given.output)


def write_files(given: ComparisonSettings, comparison: "Comparison") -> str:
    """Write the table and the pictures; returns the table and where they are."""
    from segpipe.comparison.plots import draw_cost, draw_metrics, draw_roc
    from segpipe.comparison.table import comparison_text, write_comparison
    from segpipe.inference.loading import choose_device
    from segpipe.io.images import write_file

    part, device = "" if given.part is None else f", part {given.part}", choose_device(given.pipeline.device)
    timed = " (timed on one core)" if device.type == "cpu" else ""
    text = comparison_text(
        comparison,
        images_from=f"{Path(given.folder).resolve().name}{part}",
        conditions=f"views {given.pipeline.tta}, masks from {given.pipeline.localize}, device {device}{timed}",
    )
    write_comparison(given.output / "comparison.csv", comparison)
    write_file(given.output / "comparison.md", f"{text}\n".encode())
    pictures = {"roc.png": draw_roc, "metrics.png": draw_metrics, "cost.png": draw_cost}
    for name, draw in pictures.items():
        draw(comparison, given.output / name)
    paths = [given.output / name for name in ("comparison.csv", "comparison.md", *pictures)]
    return "\n".join([text, "", *map(str, paths)])
