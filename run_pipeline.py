"""Find, cut out and name the lesion in one photograph, or in a folder of them. Not a medical device."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from segpipe.cli import command_again, output_folder, run_script
from segpipe.config import optional_path
from segpipe.config_values import check_values
from segpipe.errors import ImageError, ImagesFailedError
from segpipe.inference.settings import PipelineSettings
from segpipe.inference.source import Source, choose_images
from segpipe.memory import garbage_left, keep_freed_memory
from segpipe.numerals import counted
from segpipe.output import check_free, check_output, hold_output

if TYPE_CHECKING:
    from segpipe.evaluation.truth import Truth
    from segpipe.inference.folder import Done, Engine
    from segpipe.inference.pictures import Wanted
    from segpipe.inference.pipeline import Pipeline

FIGURES_UP_TO = 20  # images, with figures=auto


def run(config: DictConfig) -> dict[str, Any]:
    """Work through the images of a call; returns the metrics, empty where neither labels nor masks are given."""
    check_values(config)
    output = output_folder(config)
    check_output(output, overwrite=config.overwrite, resume=config.resume)
    check_free(output)
    source = choose_images(config)
    keep_freed_memory()
    with garbage_left():
        from segpipe.inference.folder import Ask, run_images

        truth = read_call_truth(config, source)
        pipeline, engine = build_engine(config, PipelineSettings.of(config))
        truth = None if truth is None else truth.of_classes(pipeline.namer.classes)
        ask = Ask(output, wanted_pictures(config, source), config.max_pixels, OmegaConf.to_container(config, resolve=True))
    for remark in (*source.remarks, *(truth.remarks() if truth is not None else ())):
        sys.stderr.write(f"{remark}\n")
    # Not before all else is known to be right: it may remove old results.
    with hold_output(output, overwrite=config.overwrite, resume=config.resume):
        try:
            done = run_images(pipeline, source, ask, engine)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{stop}; go on with: {command_again(output=str(output), resume='true')}") from stop
        if config.report == "html":
            from segpipe.report.html import write_report

            write_report(output, done.rows, done.names, done.failures, done.summary)
        metrics = score(config, pipeline, output, truth, source) if truth is not None and done.rows else {}
    tell(config, done, output, metrics)
    return metrics


def read_call_truth(config: DictConfig, source: Source) -> "Truth | None":
    """What the labels and masks of a call know of its images, seen to before the work; None where it gives neither."""
    if config.labels is None and config.masks is None:
        return None

    from segpipe.evaluation.truth import check_truth, read_truth

    given = {name: optional_path(config[name]) for name in ("labels", "masks", "split")}
    files = source.by_path
    truth = read_truth(**given, images=[file for file in files.values() if isinstance(file, Path)])
    dataset = None if config.folder is None else Path(config.folder).resolve().name
    return replace(check_truth(truth, files), dataset=dataset, part=config.part)


def score(config: DictConfig, pipeline: "Pipeline", output: Path, truth: "Truth", source: Source) -> dict[str, Any]:
    """Score the results in a folder, and test the heatmaps on a sample of the images."""
    from segpipe.evaluation.heatmap_sample import HeatmapTest
    from segpipe.evaluation.score import score_run

    files = [(file, relative) for file, relative in source.files if isinstance(file, Path)]
    return score_run(output, truth, files, heatmaps=HeatmapTest.of(config, pipeline.namer))


def wanted_pictures(config: DictConfig, source: Source) -> "Wanted":
    """The pictures that a call asks for; what draws them is imported only where it is wanted."""
    from segpipe.inference.pictures import Wanted

    wanted = Wanted(crops=config.crops, heatmaps=config.heatmaps)
    if len(source.files) <= FIGURES_UP_TO if config.figures == "auto" else config.figures.lower() == "true":
        from segpipe.report.figure import encode_figure

        wanted = replace(wanted, figure=encode_figure)
    if config.report == "html":
        from segpipe.report.html_pictures import PICTURES, report_pictures

        wanted = replace(wanted, report=report_pictures, report_folders=PICTURES)
    return wanted


def build_engine(config: DictConfig, settings: PipelineSettings) -> tuple["Pipeline", "Engine"]:
    """The models of a call, and what does its work with them."""
    from segpipe.inference.loading import load_pipeline

    if config.engine == "ray":
        from segpipe.inference.ray_engine import RayEngine

        engine = RayEngine(settings, config.workers)
        # Here the models only say what the results are; the device may be there on the other machines alone.
        return load_pipeline(replace(engine.settings, device="cpu")), engine

    from segpipe.inference.local_engine import LocalEngine

    pipeline = load_pipeline(settings)
    return pipeline, LocalEngine(pipeline, config.workers)


def tell(config: DictConfig, done: "Done", output: Path, metrics: dict[str, Any]) -> None:
    """Say on the terminal what was found, how good that is and where it lies; raises where images failed.

    The summary comes last, where it stays in sight however many findings stand above it.
    """
    from segpipe.report import DISCLAIMER, titled_warnings
    from segpipe.report.terminal import finding_table

    for path, finding in done.shown:
        figure = output / "figures" / done.names[path]
        print(finding_table(path, finding, figure if figure.is_file() else None), end="\n\n")
    if metrics:
        from segpipe.evaluation.headline import headline

        print(headline(metrics))
    if unsure := [f"{title}: {count}" for title, count in titled_warnings(done.summary["warnings"]).items()]:
        print(f"images whose diagnosis is not to be relied on: {', '.join(unsure)}; see the column warnings")
    before = done.summary["images_done_before"]
    earlier = f" ({before} of them before)" if before else ""
    where = output / "report.html" if config.report == "html" else output
    counts = f"images done: {len(done.rows)}{earlier}, failed: {len(done.failures)}; results in {where}"
    print(counts if done.shown else f"{counts}\n{DISCLAIMER}")
    if done.failures:
        first = ": ".join(done.failures[0])
        if config.folder is None and not done.model_failed:
            raise ImageError(first)
        failed = counted(len(done.failures), "image")
        raise ImagesFailedError(f"{failed} failed, see {output / 'failures.csv'}; the first is {first}")


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="run_pipeline")
def main(config: DictConfig) -> None:
    """Entry point for the shell and for a sweep."""
    run(config)


if __name__ == "__main__":
    sys.exit(run_script(main))
