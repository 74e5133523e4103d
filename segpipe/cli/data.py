"""Subcommands for images and data sets: `predict`, `annotations`, `check`, `leaks`, `synthetic`, trainings."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.cli.call import command_again, in_sweep, output_folder, remember_call, report, report_interrupt, say
from segpipe.config.plain import compose_plain
from segpipe.config.prediction import HTML, NO_REPORT, RunPipelineConfig
from segpipe.config.values import check_values
from segpipe.errors import ImageError, ImagesFailedError, LeakError, require_extra
from segpipe.io.files import counted
from segpipe.io.image_formats import count_unread
from segpipe.io.run_files import FAILURES, FIGURES, PDF_REPORT, REPORT

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segpipe.config.schemas import TrainConfig
    from segpipe.workflows.prediction import Prediction


def predict(config: "DictConfig") -> None:
    """Process the images of a composed call, see `process`."""
    from segpipe.config.composing import typed

    check_values(config)
    process(typed(config), output_folder(config))


def predict_plain(arguments: Sequence[str], *, program: Sequence[str]) -> int | None:
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
    where = output / {HTML: REPORT, NO_REPORT: ""}.get(config.report, PDF_REPORT)
    unread = count_unread(reason for _, reason in done.failures)
    kinds = f" (not read: {', '.join(f'{name} {count}' for name, count in unread.most_common())})" if unread else ""
    counts = f"images done: {len(done.rows)}{earlier}, failed: {len(done.failures)}{kinds}; results in {where}"
    say(counts if done.shown else f"{counts}\n{DISCLAIMER}")
    if done.failures:
        first = ": ".join(done.failures[0])
        if config.folder is None and not done.model_failed:
            raise ImageError(first)
        failed = counted(len(done.failures), "image")
        raise ImagesFailedError(f"{failed} failed, see {output / FAILURES}; the first is {first}")


def check(config: "DictConfig") -> None:
    """Check a data set and report on stdout."""
    check_values(config)

    from segpipe.config.composing import typed
    from segpipe.data.check import load_dataset

    say(load_dataset(typed(config).data).report())


def leaks(config: "DictConfig") -> None:
    """List lesions and images that the parts of a split share.

    Raises:
        LeakError: They share something.
    """
    check_values(config)

    from segpipe.config.composing import typed
    from segpipe.data.check import load_dataset
    from segpipe.data.leaks import find_leaks, join_parts
    from segpipe.data.splits import own_split
    from segpipe.data.tables import read_table

    dataset = load_dataset(typed(config).data)
    split = own_split(dataset.table, dataset.parts, seed=config.seed) if config.split is None else read_table(Path(config.split))
    leaks = find_leaks(join_parts(dataset.table, split))
    say(leaks.report())
    if leaks.all:
        raise LeakError(f"the parts of a split must share nothing, got {leaks}; leave one image of each pair out of the split")


def synthetic(config: "DictConfig") -> None:
    """Draw sample images."""
    check_values(config)
    output = output_folder(config)

    from segpipe.io.output import check_output

    check_output(output, overwrite=False)

    from segpipe.data.synthetic.dataset import write_samples

    write_samples(output, seed=config.seed)
    say(f"samples in {output}")


def annotations(config: "DictConfig") -> None:
    """Convert masks and labels for annotation tools, or back."""
    from segpipe.config.composing import typed

    check_values(config)
    require_extra("annotations", "annotations")

    from segpipe.workflows.annotations import convert_annotations

    say(convert_annotations(typed(config)))


def train_segmenter(config: "DictConfig") -> float | None:
    """Train the U-Net and score it on the test split."""
    from segpipe.workflows.training import run_segmenter_training

    return _train(config, run_segmenter_training)


def train_classifier(config: "DictConfig") -> float | None:
    """Train the classifier and score it on the test split."""
    from segpipe.workflows.training import run_classifier_training

    return _train(config, run_classifier_training)


def _train(config: "DictConfig", train: Callable[..., dict[str, Any]]) -> float | None:
    """Train and report on stdout.

    Args:
        config: Configuration of the training.
        train: Body of the training, from `segpipe.workflows`.

    Returns:
        Score on the validation images for the sweeper; None outside a sweep.
    """
    from segpipe.config.composing import typed

    def checked(settings: "TrainConfig", folder: Path) -> dict[str, Any]:
        check_values(config)
        return train(settings, folder, say=say)

    if in_sweep():
        from segpipe.sweep.job import run_job

        return run_job(typed(config), checked, say=say)
    check_values(config)
    require_extra("torch", "a training")
    train(typed(config), output_folder(config), say=say)
    return None
