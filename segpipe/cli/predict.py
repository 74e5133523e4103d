"""`segpipe predict`: the lesion in one photograph, or in a folder of them, found, cut out and classified."""

from omegaconf import DictConfig

from segpipe.cli.call import command_again, output_folder, say
from segpipe.errors import ImageError, ImagesFailedError
from segpipe.io.numerals import counted
from segpipe.workflows import prediction
from segpipe.workflows.prediction import Prediction


def run(config: DictConfig) -> None:
    """Work through the images of a call and report on stdout."""
    output = output_folder(config)
    try:
        predicted = prediction.run(config, output)
    except KeyboardInterrupt as stop:
        if stop.args:  # there are results to resume from
            raise KeyboardInterrupt(f"{stop}; resume with: {command_again(output=str(output), resume='true')}") from stop
        raise
    print_summary(config, predicted)


def print_summary(config: DictConfig, predicted: Prediction) -> None:
    """Report on stdout: the first findings, the metrics and, last, the summary; raises where images failed."""
    from segpipe.report.terminal import finding_table
    from segpipe.report.wording import DISCLAIMER, titled_warnings

    done, output = predicted.done, predicted.output
    for path, finding in done.shown:
        figure = output / "figures" / done.names[path]
        say(finding_table(path, finding, figure if figure.is_file() else None) + "\n")
    if predicted.metrics:
        from segpipe.evaluation.headline import headline

        say(headline(predicted.metrics))
    if unsure := [f"{title}: {count}" for title, count in titled_warnings(done.summary["warnings"]).items()]:
        say(f"images whose diagnosis is not to be relied on: {', '.join(unsure)}; see the column warnings")
    before = done.summary["images_done_before"]
    earlier = f" ({before} of them before)" if before else ""
    where = output / "report.html" if config.report == "html" else output
    counts = f"images done: {len(done.rows)}{earlier}, failed: {len(done.failures)}; results in {where}"
    say(counts if done.shown else f"{counts}\n{DISCLAIMER}")
    if done.failures:
        first = ": ".join(done.failures[0])
        if config.folder is None and not done.model_failed:
            raise ImageError(first)
        failed = counted(len(done.failures), "image")
        raise ImagesFailedError(f"{failed} failed, see {output / 'failures.csv'}; the first is {first}")
