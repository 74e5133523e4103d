"""`segpipe predict`: images processed, results reported on the terminal."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from segpipe.cli.call import command_again, output_folder, say
from segpipe.config.composing import typed
from segpipe.config.values import check_values
from segpipe.errors import ImageError, ImagesFailedError
from segpipe.io.files import counted
from segpipe.io.run_files import FAILURES, FIGURES, REPORT

if TYPE_CHECKING:
    from segpipe.workflows.prediction import Prediction


def run(config: DictConfig) -> None:
    """Process the images of a call and report on stdout."""
    from segpipe.workflows import prediction

    check_values(config)
    output = output_folder(config)
    try:
        predicted = prediction.run(typed(config), output)
    except KeyboardInterrupt as stop:
        if stop.args:  # some results can be resumed
            raise KeyboardInterrupt(f"{stop}; resume with: {command_again(output=str(output), resume='true')}") from stop
        raise
    print_summary(config, predicted)


def print_summary(config: DictConfig, predicted: "Prediction") -> None:
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
