"""Which classifier to take: several bundles over the same labelled images, by what they find and by what they cost.

    python -m segpipe.evaluation.compare --folder data/ham10000 --labels data/ham10000/HAM10000_metadata.csv \
        --split segpipe/weights/split.csv --part test --output runs/comparison \
        "ResNet-18=runs/resnet18/bundle" "EfficientNet-B0=runs/efficientnet_b0/bundle"

runs each as run_pipeline.py does, into OUTPUT/runs/, where a later call finds what is done; prints a Markdown table and writes it
with all digits and three pictures into OUTPUT.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.errors import CommandParser, ConfigError, OutputError, run_command
from segpipe.evaluation.titles import read_titles
from segpipe.inference.source import images_of_folder
from segpipe.memory import garbage_left, keep_freed_memory
from segpipe.output import find_results, hold_output

if TYPE_CHECKING:
    from segpipe.evaluation.candidates import Candidate
    from segpipe.evaluation.comparison_table import Comparison
    from segpipe.evaluation.truth import Truth


def compare_bundles(given: Namespace) -> str:
    """Run, score and time the bundles of a call; returns the table and where the files are.

    Raises:
        ConfigError: there are fewer than two bundles, or the folder or the device cannot be used.
        BundleError: a bundle cannot be used, or two name other classes.
        DatasetError: labels or split cannot be used, or know none of the images.
        OutputError: the output folder holds results that are not of these runs.
    """
    bundles = check_call(given)
    source = images_of_folder(given.folder, split=given.split, part=given.part)
    keep_freed_memory()
    with garbage_left():
        from segpipe.evaluation.candidates import check_candidates, run_candidate
        from segpipe.evaluation.comparison import compare

        truth, candidates = load_models(given, bundles)
        truth = check_candidates(candidates, source, truth, overwrite=given.overwrite)
    for remark in (*source.remarks, *truth.remarks()):
        sys.stderr.write(f"{remark}\n")
    with hold_output(given.output, overwrite=False, resume=True):
        scored = [run_candidate(candidate, source, truth, overwrite=given.overwrite) for candidate in candidates]
        return write_files(given, compare(scored, source, truth))


def check_call(given: Namespace) -> Mapping[str, Path]:
    """See that the words of a call can be meant, before anything heavy is imported; returns the bundles by their titles."""
    bundles = read_titles(given.bundles)
    if len(bundles) < 2:
        raise ConfigError(
            f"there must be at least two bundles, got {len(bundles)}; run_pipeline.py labels=... scores a single one"
        )
    if given.batch_size is not None and given.batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more, got {given.batch_size}")
    found = find_results(given.output)
    if found:
        raise OutputError(f"--output must hold no other results, got {given.output} with {', '.join(found)}; name another folder")
    return bundles


def load_models(given: Namespace, bundles: Mapping[str, Path]) -> tuple["Truth", list["Candidate"]]:
    """What is known of the images, and the models."""
    from segpipe.evaluation.candidates import load_candidates
    from segpipe.evaluation.truth import read_truth
    from segpipe.inference.settings import PipelineSettings

    truth = read_truth(labels=given.labels, masks=None, split=given.split)
    truth = replace(truth, dataset=Path(given.folder).resolve().name, part=given.part)
    settings = PipelineSettings(
        segmenter=None if given.segmenter is None else str(given.segmenter),
        localize=given.localize,
        tta=given.tta,
        explain="none",
        device=given.device,
        batch_size=given.batch_size,
    )
    return truth, load_candidates(bundles, settings, given.output)


def write_files(given: Namespace, comparison: "Comparison") -> str:
    """Write the table and the pictures; returns the table and where they are."""
    from segpipe.evaluation.comparison_plots import draw_cost, draw_metrics, draw_roc
    from segpipe.evaluation.comparison_table import comparison_text, write_comparison
    from segpipe.image_io import write_file
    from segpipe.inference.loading import choose_device

    part, device = "" if given.part is None else f", part {given.part}", choose_device(given.device)
    timed = " (timed on one core)" if device.type == "cpu" else ""
    text = comparison_text(
        comparison,
        images_from=f"{Path(given.folder).resolve().name}{part}",
        conditions=f"views {given.tta}, masks from {given.localize}, device {device}{timed}",
    )
    write_comparison(given.output / "comparison.csv", comparison)
    write_file(given.output / "comparison.md", f"{text}\n".encode())
    pictures = {"roc.png": draw_roc, "metrics.png": draw_metrics, "cost.png": draw_cost}
    for name, draw in pictures.items():
        draw(comparison, given.output / name)
    paths = [given.output / name for name in ("comparison.csv", "comparison.md", *pictures)]
    return "\n".join([text, "", *map(str, paths)])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = CommandParser(prog="python -m segpipe.evaluation.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("bundles", nargs="+", metavar="TITLE=BUNDLE", help="folders of classifiers with the same classes")
    parser.add_argument("--folder", required=True, help="images, or their URL; a data set's root will do")
    parser.add_argument("--labels", type=Path, required=True, help="table of diagnoses, with lesion ids where they are known")
    parser.add_argument("--split", type=Path, help="keep only images that this table lists")
    parser.add_argument("--part", choices=("train", "val", "test"), help="of the split")
    parser.add_argument("--output", type=Path, required=True, help="where everything goes; an earlier comparison is gone on with")
    parser.add_argument("--segmenter", type=Path, help="bundle (default: the shipped one)")
    parser.add_argument("--localize", choices=("unet", "contour", "whole_image"), default="unet", help="first way to a mask")
    parser.add_argument("--tta", choices=("none", "flips", "d4"), default="none", help="views of each crop")
    parser.add_argument("--batch-size", type=int, help="images at once (default: what suits the device)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--overwrite", action="store_true", help="begin the runs anew")
    return run_command(lambda: compare_bundles(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
