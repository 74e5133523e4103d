"""Display of a training: its pictures, and its last lines."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from segpipe.bundle.records import Training
from segpipe.config.arguments import as_argument
from segpipe.config.training_groups import TrainerConfig
from segpipe.evaluation.training_plot import draw_training
from segpipe.io.files import counted
from segpipe.io.images import write_png
from segpipe.io.run_files import BUNDLE, PLOT_FOLDER, TRAINING_PLOT
from segpipe.report.training_pictures import draw_diagnoses, draw_label_batch, draw_mask_batch, draw_mask_predictions
from segpipe.training.display import Display
from segpipe.training.pictures import Drawings
from segpipe.training.schedule import UnfreezePlan
from segpipe.workflows.calls import Say


def show_masks(say: Say) -> Display:
    """Make the display of a segmenter's training."""
    return Display(say, Drawings(draw_training, draw_mask_batch, draw_mask_predictions))


def show_diagnoses(say: Say, classes: Sequence[str]) -> Display:
    """Make the display of a classifier's training.

    Args:
        say: Function that reports lines to the user.
        classes: Codes of the diagnoses.
    """
    codes = tuple(classes)
    return Display(say, Drawings(draw_training, partial(draw_label_batch, classes=codes), partial(draw_diagnoses, classes=codes)))


def finish_fit(
    output: Path, training: Training, trainer: TrainerConfig, *, monitor: str, plan: UnfreezePlan | None = None
) -> str:
    """Mark the best epoch in `training.png` and describe the fit.

    Args:
        output: Folder of the training.
        training: Record of the training, from the card of its model.
        trainer: Settings of the trainer.
        monitor: Metric that chose the best epoch.
        plan: Unfreezing plan; None for a model without stages.
    """
    stages = {} if plan is None else plan.first_epochs
    write_png(output / TRAINING_PLOT, draw_training(output, monitor, training.best_epoch, stages))
    early = f", stopped early (trainer.patience={trainer.patience})" if training.epochs < trainer.max_epochs else ""
    epochs = counted(training.epochs, "epoch")
    kept = "the starting weights" if training.start.get("kept") else f"weights of epoch {training.best_epoch}"
    return f"trained {epochs}{early}; {kept} are kept; pictures in {output / PLOT_FOLDER}"


def last_lines(output: Path, stage: str, *, segmenter: str | None = None) -> str:
    """Write the folder of the bundle, and the command that uses it.

    Args:
        output: Folder of the training.
        stage: `segmenter` or `classifier`.
        segmenter: Folder of the segmenter that cut the test crops of a classifier; None for the shipped one.
    """
    bundles = {f"bundle.{stage}": output / BUNDLE} | ({} if segmenter is None else {"bundle.segmenter": Path(segmenter)})
    command = ["segpipe predict folder=IMAGES", *(as_argument(key, folder) for key, folder in bundles.items())]
    return f"bundle in {output / BUNDLE}\nuse it: {' '.join(command)}"
