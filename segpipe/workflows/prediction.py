"""Prediction: a run of the pipeline over one image or a folder."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.config.fields import optional_path, to_dict
from segpipe.config.prediction import NO_REPORT, RunPipelineConfig
from segpipe.inference.resources import gc_paused, keep_freed_memory
from segpipe.inference.settings import PipelineSettings
from segpipe.io.output import check_free, check_output, hold_output
from segpipe.io.run_files import REPORT_PICTURES
from segpipe.runs.source import Source, choose_images
from segpipe.workflows.calls import FolderResult, as_path, as_paths, own_folder
from segpipe.workflows.reports import check_report, write_reports

if TYPE_CHECKING:
    from segpipe.evaluation.truth import GroundTruth
    from segpipe.inference.pipeline import Pipeline
    from segpipe.runs.folder import Engine, RunResult
    from segpipe.runs.options import PictureOptions

FIGURES_UP_TO = 20  # images, with figures=auto


@dataclass(frozen=True)
class Prediction:
    """Finished run over images.

    Attributes:
        output: Folder of the results.
        result: Results and failures.
        metrics: Content of `metrics.json`; empty without labels and masks.
    """

    output: Path
    result: "RunResult"
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
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    gate: str = "warn",
    coverage: float | None = None,
    mm_per_pixel: float | None = None,
    labels: str | Path | None = None,
    masks: str | Path | None = None,
    given_masks: str | Path | None = None,
    split: str | Path | None = None,
    part: str | None = None,
    figures: bool | str = "auto",
    crops: bool = False,
    heatmaps: bool = False,
    report: str = "none",
    similar_root: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    heatmap_sample: int = 200,
    max_pixels: int | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
) -> FolderResult:
    """Find, crop and classify the lesion in each image of a folder.

    The call corresponds to `segpipe predict folder=`.

    Args:
        folder: Folder of the images, searched with its subfolders, or its URL in an object store.
        output: Folder of the results; None: `outputs/<date>/<time>`.
        classifier: Folder of a trained classifier; None: the shipped one; the probabilities of several are averaged.
        segmenter: Folder of a trained segmenter; None: the shipped one.
        tta: Views of the crop that are averaged: `none`, `flips` (4), `d4` (8) or `crops` (12).
        explain: Heatmap of what the diagnosis rests on: `gradcam` or `none`.
        localize: First mask source: `unet`, `contour` or `whole_image`.
        runtime: `auto`, `torch`, `onnx` or `openvino`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto` (float32), `float32`, `bfloat16` or `float16`.
        gate: Effect of the input gate on images of an unknown kind: `warn`, `refuse` or `off`.
        coverage: Probability with which a prediction set holds the true diagnosis; None: that of the card.
        mm_per_pixel: Side of a pixel on the skin, millimeters; None: unknown.
        labels: Table of the true diagnoses, or a file of COCO, Label Studio or CVAT, for metrics.
        masks: Folder of the true masks, or such a file, for metrics.
        given_masks: Folder of masks to use in place of those that would be found.
        split: Table of the images that are kept.
        part: Part of the split that is kept: `train`, `val` or `test`.
        figures: True to write a summary picture of each image; `auto`: for up to 20 images.
        crops: True to write the crops.
        heatmaps: True to write the heatmaps as separate pictures.
        report: `html` for a page of all images, `pdf` for a page of each, `contact_sheet` for 20 on a page, or `none`.
        similar_root: Folder of the classifier's training images, for pictures of similar cases in the report; None: names.
        resume: True to resume an earlier run in `output`.
        overwrite: True to replace the results of an earlier run in `output`.
        heatmap_sample: Number of images whose heatmaps are tested, with labels or masks; 0: no test.
        max_pixels: Largest image that is read, height x width; None: 150 million.
        workers: Number of threads in addition to the main one; None: one for each core.
        batch_size: Largest number of images x views in a batch; None: the default of the device.

    Returns:
        Table of the results and list of the failures, which raise nothing; also the output folder and the metrics.

    Raises:
        ConfigError: An argument is wrong; it is a ValueError, too.
        BundleError: A model cannot be used.
        DatasetError: Labels, masks, given masks or split cannot be used.
        OutputError: The output folder cannot be used, or holds results.
        RunStoppedError: The disk is full or broken.
    """
    from segpipe.config.composing import compose_config, typed

    paths = {"labels": labels, "masks": masks, "given_masks": given_masks, "split": split, "output": output}
    paths["similar.root"] = similar_root
    values = {
        "folder": as_path("folder", folder),
        **{name: as_path(name, path) for name, path in paths.items() if path is not None},
        "bundle.classifier": None if classifier is None else as_paths("classifier", classifier),
        "bundle.segmenter": None if segmenter is None else as_path("segmenter", segmenter),
        "tta": str(tta),
        "explain": str(explain),
        "localize": localize,
        "runtime": runtime,
        "device": device,
        "precision": precision,
        "gate": gate,
        "conformal.coverage": coverage,
        "mm_per_pixel": mm_per_pixel,
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
    config: RunPipelineConfig = typed(compose_config("run_pipeline", values=values))
    predicted = run(config, own_folder(config.output))
    return FolderResult.read(predicted.output, predicted.result.failures, predicted.metrics)


def run(config: RunPipelineConfig, output: Path) -> Prediction:
    """Run the pipeline over the images of a call.

    Args:
        config: Configuration with checked values.
        output: Folder of the results.
    """
    check_output(output, overwrite=config.overwrite, resume=config.resume)
    check_free(output)
    check_report(config)
    source = choose_images(config)
    if config.given_masks is not None:
        from segpipe.runs.given_masks import with_given_masks

        source = with_given_masks(source, Path(config.given_masks), output=output)
    keep_freed_memory()
    with gc_paused():
        from segpipe.runs.folder import run_images
        from segpipe.runs.options import RunOptions

        truth = read_call_truth(config, source)
        pipeline, engine = build_engine(config, PipelineSettings.of(config))
        truth = None if truth is None else truth.keep_classes(pipeline.ensemble.classes)
        options = RunOptions(output, choose_pictures(config, source), config.max_pixels, to_dict(config))
    for remark in (*source.remarks, *(truth.remarks() if truth is not None else ())):
        sys.stderr.write(f"{remark}\n")
    # After all other checks, because it may remove old results.
    with hold_output(output, overwrite=config.overwrite, resume=config.resume):
        result = run_images(pipeline, source, options, engine)
        metrics = score(config, pipeline, output, truth, source) if truth is not None and result.rows else {}
        write_reports(config, output, result, truth, metrics)
    return Prediction(output, result, metrics)


def read_call_truth(config: RunPipelineConfig, source: Source) -> "GroundTruth | None":
    """Read the labels and masks of a call, or None without both."""
    if config.labels is None and config.masks is None:
        return None

    from segpipe.evaluation.truth import check_truth, read_truth

    given = {name: optional_path(getattr(config, name)) for name in ("labels", "masks", "split")}
    files = source.by_path
    truth = read_truth(**given, images=[file for file in files.values() if isinstance(file, Path)])
    dataset = None if config.folder is None else Path(config.folder).resolve().name
    return replace(check_truth(truth, files), dataset=dataset, part=config.part)


def score(config: RunPipelineConfig, pipeline: "Pipeline", output: Path, truth: "GroundTruth", source: Source) -> dict[str, Any]:
    """Score a run, and test its heatmaps on a sample."""
    from segpipe.evaluation.heatmap_faithfulness import HeatmapTest
    from segpipe.evaluation.score import score_run

    files = [(file, relative) for file, relative in source.files if isinstance(file, Path)]
    explain = config.explain
    heatmaps = HeatmapTest.of(pipeline.ensemble, method=explain.method, sample=config.heatmap_sample, diagnosis=explain.diagnosis)
    return score_run(output, truth, files, heatmaps=heatmaps)


def choose_pictures(config: RunPipelineConfig, source: Source) -> "PictureOptions":
    """Choose the pictures of a call, importing only what draws them."""
    from segpipe.runs.options import PictureOptions

    pictures = PictureOptions(crops=config.crops, heatmaps=config.heatmaps)
    if len(source.files) <= FIGURES_UP_TO if config.figures == "auto" else config.figures.lower() == "true":
        from segpipe.report.figure import encode_figure

        pictures = replace(pictures, figure=encode_figure)
    if config.report != NO_REPORT:
        from segpipe.report.overlays import report_pictures

        pictures = replace(pictures, report=report_pictures, report_folders=REPORT_PICTURES)
    return pictures


def build_engine(config: RunPipelineConfig, settings: PipelineSettings) -> tuple["Pipeline", "Engine"]:
    """Load the models of a call and choose its engine."""
    from segpipe.inference.loading import load_pipeline

    if config.engine == "ray":
        from segpipe.runs.ray_engine import RayEngine

        engine = RayEngine(settings, config.workers)
        # This process only needs the cards of the models; the device may exist on the other machines alone.
        return load_pipeline(**vars(replace(engine.settings, device="cpu"))), engine

    from segpipe.runs.local_engine import LocalEngine

    pipeline = load_pipeline(**vars(settings))
    return pipeline, LocalEngine(pipeline, config.workers)
