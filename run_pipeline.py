"""Find, cut out and name the lesion in one photograph, or in a folder of them. Not a medical device."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from segpipe.cli import run_script
from segpipe.config import optional_path
from segpipe.config_values import check_values
from segpipe.errors import ImageError, ImagesFailedError
from segpipe.inference.source import choose_images
from segpipe.output import output_folder, prepare_output

if TYPE_CHECKING:
    from segpipe.inference.folder import Done
    from segpipe.inference.pipeline import Pipeline

FIGURES_UP_TO = 20  # images, with figures=auto


def run(config: DictConfig) -> dict[str, Any]:
    """Work through the images of a call; returns the metrics, empty where neither labels nor masks are given."""
    check_values(config)
    source = choose_images(config)

    from segpipe.evaluation.score import headline, score_run
    from segpipe.evaluation.truth import read_truth
    from segpipe.inference.folder import Outputs, run_images, write_summary
    from segpipe.report.figure import write_figure

    truth = read_truth(**{name: optional_path(config[name]) for name in ("labels", "masks", "split")})
    pipeline = build_pipeline(config)
    output = output_folder(config)
    prepare_output(output, overwrite=config.overwrite)  # not before all else is known to be right: it may remove old results
    figures = len(source.files) <= FIGURES_UP_TO if config.figures == "auto" else config.figures.lower() == "true"
    outputs = Outputs(output, write_figure if figures else None, config.crops, config.heatmaps)
    done = run_images(pipeline, source, outputs, batch_size=config.batch_size, max_pixels=config.max_pixels)
    write_summary(output, done, source, pipeline, settings=OmegaConf.to_container(config, resolve=True))
    metrics: dict[str, Any] = {}
    if done.rows and (config.labels or config.masks):
        metrics = score_run(output, truth, source.files)
        print(headline(metrics))
    tell(config, done, output)
    return metrics


def build_pipeline(config: DictConfig) -> "Pipeline":
    """Load the models of a call."""
    from segpipe.inference.pipeline import Pipeline, choose_device, load_locator, load_namer
    from segpipe.inference.tta import VIEWS
    from segpipe.lesion.localizer import MaskSource

    device = choose_device(config.device)
    explained = None if config.explain.method == "none" else config.explain.diagnosis or "predicted"
    return Pipeline(
        load_locator(config.bundle.segmenter, device=device, start=MaskSource(config.localize)),
        load_namer(
            config.bundle.classifier,
            device=device,
            views=VIEWS[config.tta.views],
            explained=explained,
            batch_size=config.batch_size,
        ),
    )


def tell(config: DictConfig, done: "Done", output: Path) -> None:
    """Say on the terminal what was found and where it lies; raises where images failed."""
    from segpipe.report import DISCLAIMER
    from segpipe.report.terminal import finding_table

    for path, finding, figure in done.shown:
        print(finding_table(str(path), finding, figure), end="\n\n")
    counts = f"images done: {len(done.rows)}, failed: {len(done.failures)}; results in {output}"
    print(counts if done.shown else f"{counts}\n{DISCLAIMER}")
    if done.failures:
        first = ": ".join(done.failures[0])
        if config.folder is None:
            raise ImageError(first)
        raise ImagesFailedError(f"{len(done.failures)} images failed, see {output / 'failures.csv'}; the first is {first}")


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="run_pipeline")
def main(config: DictConfig) -> None:
    """Entry point for the shell and for a sweep."""
    run(config)


if __name__ == "__main__":
    sys.exit(run_script(main))
