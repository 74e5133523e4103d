"""Several classifiers over the same labeled images, compared by their metrics and by what they cost.

Each is run as `segpipe predict` does, into OUTPUT/runs/, where a later call finds what is done; the table goes with all digits
and three pictures into OUTPUT.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.errors import ConfigError, OutputError
from segpipe.inference.memory import gc_paused, keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.io.output import find_results, hold_output
from segpipe.runs.source import images_of_folder

if TYPE_CHECKING:
    from segpipe.comparison.candidates import Candidate
    from segpipe.comparison.table import Comparison
    from segpipe.evaluation.truth import GroundTruth


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
        from segpipe.comparison.side_by_side import compare

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
