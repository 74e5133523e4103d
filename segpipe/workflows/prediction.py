"""A run over one photograph or a folder of them: every lesion found, cut out and classified. Not a medical device."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from segpipe.config.composing import compose_config
from segpipe.config.schemas import optional_path
from segpipe.config.values import check_values
from segpipe.inference.memory import gc_paused, keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.io.output import check_free, check_output, hold_output
from segpipe.runs.source import Source, choose_images
from segpipe.workflows.calls import FolderResult, as_path, as_paths, own_folder

if TYPE_CHECKING:
    from segpipe.evaluation.truth import GroundTruth
    from segpipe.inference.pipeline import Pipeline
    from segpipe.runs.folder import Engine, RunResult
    from segpipe.runs.pictures import PictureOptions

FIGURES_UP_TO = 20  # images, with figures=auto


@dataclass(frozen=True)
class Prediction:
    """A run over images that has ended.

    Attributes:
        output: Folder of the results.
        done: Results and failures.
        metrics: Content of `metrics.json`; empty where neither labels nor masks are given.
    """

    output: Path
    done: "RunResult"
    metrics: Mapping[str, Any]


def predict_folder(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    classifier: str | Path | Sequence[str | Path] | None = None,
    segmenter: str | Path | None = None,
    tta: str = "d4",
    explain: str = "gradcam",
    localize: str = "unet",
    device: str = "auto",
    precision: str = "auto",
    labels: str | Path | None = None,
    masks: str | Path | None = None,
    split: str | Path | None = None,
    part: str | None = None,
    figures: bool | str = "auto",
    crops: bool = False,
    heatmaps: bool = False,
    report: str = "none",
    resume: bool = False,
    overwrite: bool = False,
    heatmap_sample: int = 200,
    max_pixels: int | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
) -> FolderResult:
    """Find, crop and classify the lesion in each image of a folder, as `segpipe predict folder=` does.

    Args:
        folder: Folder of the images, searched with its subfolders, or its URL in an object store.
        output: Folder of the results; None: `outputs/<date>/<time>`.
        classifier: Folder of a trained classifier; None: the shipped one; the probabilities of several are averaged.
        segmenter: Folder of a trained segmenter; None: the shipped one.
        tta: Views of the crop that are averaged: `none`, `flips` (4), `d4` (8) or `crops` (12).
        explain: Heatmap of what the diagnosis rests on: `gradcam` or `none`.
        localize: First mask source: `unet`, `contour` or `whole_image`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto` (float32), `float32`, `bfloat16` or `float16`.
        labels: Table of the true diagnoses, which scores the run.
        masks: Folder of the true masks, which scores the run.
        split: Table that says which images are kept.
        part: Part of the split that is kept: `train`, `val` or `test`.
        figures: Whether a picture that sums up each image is written; `auto`: for up to 20 images.
        crops: Whether the crops are written.
        heatmaps: Whether the heatmaps are written as pictures of their own.
        report: `html` for a page of all images, or `none`.
        resume: Whether an earlier run in `output` is resumed.
        overwrite: Whether the results of an earlier run in `output` are replaced.
        heatmap_sample: Number of images whose heatmaps are tested where labels or masks are given; 0: no test.
        max_pixels: Largest image that is read, height x width; None: 150 million.
        workers: Threads beside the main one; None: one for each core.
        batch_size: Images that a network takes at once, their views counted; None: what suits the device.

    Returns:
        Table of the results and list of the failures, which raise nothing; also the output folder and the metrics.

    Raises:
        ConfigError: An argument is wrong; it is a ValueError, too.
        BundleError: A model cannot be used.
        DatasetError: Labels, masks or split cannot be used.
        OutputError: The output folder cannot be used, or holds results.
        RunStoppedError: The disk is full or broken.
    """
    paths = {"labels": labels, "masks": masks, "split": split, "output": output}
    values = {
        "folder": as_path("folder", folder),
        **{name: as_path(name, path) for name, path in paths.items() if path is not None},
        "bundle.classifier": None if classifier is None else as_paths("classifier", classifier),
        "bundle.segmenter": None if segmenter is None else as_path("segmenter", segmenter),
        "tta": str(tta),
        "explain": str(explain),
        "localize": localize,
        "device": device,
        "precision": precision,
        "part": part,
        "figures": figures,
        "crops": crops,
        "heatmaps": heatmaps,
        "report": report,
        "heatmap_sample": heatmap_sample,
        "resume": resume,
        "overwrite": overwrite,
        "workers": workers,
        "batch_size": batch_size,
        **({} if max_pixels is None else {"max_pixels": max_pixels}),
    }
    config = compose_config("run_pipeline", values=values)
    predicted = run(config, own_folder(config))
    return FolderResult.read(predicted.output, predicted.done.failures, predicted.metrics)


def run(config: DictConfig, output: Path) -> Prediction:
    """Work through the images of a call.

    Args:
        config: See `segpipe.config.schemas.RunPipelineConfig`.
        output: Folder of the results.
    """
    check_values(config)
    check_output(output, overwrite=config.overwrite, resume=config.resume)
    check_free(output)
    source = choose_images(config)
    keep_freed_memory()
    with gc_paused():
        from segpipe.runs.folder import RunOptions, run_images

        truth = read_call_truth(config, source)
        pipeline, engine = build_engine(config, PipelineSettings.of(config))
        truth = None if truth is None else truth.of_classes(pipeline.ensemble.classes)
        ask = RunOptions(output, wanted_pictures(config, source), config.max_pixels, OmegaConf.to_container(config, resolve=True))
    for remark in (*source.remarks, *(truth.remarks() if truth is not None else ())):
        sys.stderr.write(f"{remark}\n")
    # Not before all else is known to be right: it may remove old results.
    with hold_output(output, overwrite=config.overwrite, resume=config.resume):
        done = run_images(pipeline, source, ask, engine)
        if config.report == "html":
            from segpipe.report.html import write_report

            write_report(output, done.rows, done.names, done.failures, done.summary)
        metrics = score(config, pipeline, output, truth, source) if truth is not None and done.rows else {}
    return Prediction(output, done, metrics)


def read_call_truth(config: DictConfig, source: Source) -> "GroundTruth | None":
    """Read what the labels and masks of a call know of its images; None where it gives neither."""
    if config.labels is None and config.masks is None:
        return None

    from segpipe.evaluation.truth import check_truth, read_truth

    given = {name: optional_path(config[name]) for name in ("labels", "masks", "split")}
    files = source.by_path
    truth = read_truth(**given, images=[file for file in files.values() if isinstance(file, Path)])
    dataset = None if config.folder is None else Path(config.folder).resolve().name
    return replace(check_truth(truth, files), dataset=dataset, part=config.part)


def score(config: DictConfig, pipeline: "Pipeline", output: Path, truth: "GroundTruth", source: Source) -> dict[str, Any]:
    """Score the results in a folder, and test the heatmaps on a sample of the images."""
    from segpipe.evaluation.heatmap_sample import HeatmapTest
    from segpipe.evaluation.score import score_run

    files = [(file, relative) for file, relative in source.files if isinstance(file, Path)]
    return score_run(output, truth, files, heatmaps=HeatmapTest.of(config, pipeline.ensemble))


def wanted_pictures(config: DictConfig, source: Source) -> "PictureOptions":
    """Choose the pictures that a call asks for; what draws them is imported only where it is wanted."""
    from segpipe.runs.pictures import PictureOptions

    wanted = PictureOptions(crops=config.crops, heatmaps=config.heatmaps)
    if len(source.files) <= FIGURES_UP_TO if config.figures == "auto" else config.figures.lower() == "true":
        from segpipe.report.figure import encode_figure

        wanted = replace(wanted, figure=encode_figure)
    if config.report == "html":
        from segpipe.report.overlays import PICTURES, report_pictures

        wanted = replace(wanted, report=report_pictures, report_folders=PICTURES)
    return wanted


def build_engine(config: DictConfig, settings: PipelineSettings) -> tuple["Pipeline", "Engine"]:
    """Load the models of a call, and choose what does its work with them."""
    from segpipe.inference.loading import load_pipeline

    if config.engine == "ray":
        from segpipe.runs.ray_engine import RayEngine

        engine = RayEngine(settings, config.workers)
        # Here the models only say what the results are; the device may be there on the other machines alone.
        return load_pipeline(**vars(replace(engine.settings, device="cpu"))), engine

    from segpipe.runs.image_jobs import LocalEngine

    pipeline = load_pipeline(**vars(settings))
    return pipeline, LocalEngine(pipeline, config.workers)
