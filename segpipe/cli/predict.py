"""`segpipe predict`: images processed, results reported on the terminal."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.cli.call import command_again, output_folder, remember_call, report, report_interrupt, say
from segpipe.config.plain import compose_plain
from segpipe.config.prediction import RunPipelineConfig
from segpipe.config.values import check_values
from segpipe.errors import ImageError, ImagesFailedError
from segpipe.io.files import counted
from segpipe.io.run_files import FAILURES, FIGURES, REPORT

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segpipe.workflows.prediction import Prediction


def run(config: "DictConfig") -> None:
    """Process the images of a composed call, see `process`."""
    from segpipe.config.composing import typed

    check_values(config)
    process(typed(config), output_folder(config))


def run_plain(arguments: Sequence[str], *, program: Sequence[str]) -> int | None:
    """Run a call without Hydra, whose start takes longer than a prediction.

    Args:
        arguments: Arguments of the call, without the program.
        program: Words by which the program was called.

    Returns:
        Exit status as of `segpipe.cli.running.run_main`; None where nothing was done, because the call needs Hydra.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        return None
    try:
        config = compose_plain("run_pipeline", RunPipelineConfig, arguments)
        if config is None:
            return None
        from segpipe.workflows.calls import own_folder

        remember_call(program, arguments)
        logging.basicConfig(format="%(levelname)s: %(message)s")  # as conf/hydra/job_logging/quiet.yaml
        process(config, own_folder(config.output))
    except KeyboardInterrupt as stop:
        return report_interrupt(stop)
    except Exception as error:  # an error that is no wrong call is shown as a bug
        return report(error, arguments, ())
    return 0


def process(config: RunPipelineConfig, output: Path) -> None:
    """Process the images of a call and report on stdout.

    Args:
        config: Configuration with checked values.
        output: Folder of the results.
    """
    from segpipe.workflows import prediction

    try:
        predicted = prediction.run(config, output)
    except KeyboardInterrupt as stop:
        if stop.args:  # some results can be resumed
            raise KeyboardInterrupt(f"{stop}; resume with: {command_again(output=str(output), resume='true')}") from stop
        raise
    print_summary(config, predicted)


def print_summary(config: RunPipelineConfig, predicted: "Prediction") -> None:
    """Report the first findings, the metrics and the summary on stdout.

    Raises:
        ImageError: The only image failed.
        ImagesFailedError: Images of a folder failed.
    """
    from segpipe.report.terminal import finding_table
    from segpipe.report.wording import DISCLAIMER, titled_warnings

    done, output = predicted.result, predicted.output
    for path, finding in done.shown:
        figure = output / FIGURES / done.names[path]
        say(finding_table(path, finding, figure if figure.is_file() else None) + "\n")
    if predicted.metrics:
        from segpipe.evaluation.text import headline

        say(headline(predicted.metrics))
    if unsure := [f"{title}: {count}" for title, count in titled_warnings(done.summary["warnings"]).items()]:
        say(f"images with an unreliable diagnosis: {', '.join(unsure)}; see the column warnings")
    before = done.summary["images_done_before"]
    earlier = f" ({before} of them earlier)" if before else ""
    where = output / REPORT if config.report == "html" else output
    counts = f"images done: {len(done.rows)}{earlier}, failed: {len(done.failures)}; results in {where}"
    say(counts if done.shown else f"{counts}\n{DISCLAIMER}")
    if done.failures:
        first = ": ".join(done.failures[0])
        if config.folder is None and not done.model_failed:
            raise ImageError(first)
        failed = counted(len(done.failures), "image")
        raise ImagesFailedError(f"{failed} failed, see {output / FAILURES}; the first is {first}")
