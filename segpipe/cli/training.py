"""`segpipe check`, `leaks`, `synthetic`, `train-seg` and `train-cls`: data sets and trainings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segpipe.cli.call import in_sweep, output_folder, say
from segpipe.config.composing import typed
from segpipe.config.schemas import TrainConfig
from segpipe.config.values import check_values
from segpipe.errors import LeakError, require_extra
from segpipe.io.output import check_output


def check(config: DictConfig) -> None:
    """Check a data set and report on stdout."""
    check_values(config)

    from segpipe.data.check import load_dataset

    say(load_dataset(typed(config).data).report())


def leaks(config: DictConfig) -> None:
    """List lesions and images that the parts of a split share.

    Raises:
        LeakError: They share something.
    """
    check_values(config)

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


def synthetic(config: DictConfig) -> None:
    """Draw sample images."""
    check_values(config)
    output = output_folder(config)
    check_output(output, overwrite=False)

    from segpipe.data.synthetic.dataset import write_samples

    write_samples(output, seed=config.seed)
    say(f"samples in {output}")


def train_segmenter(config: DictConfig) -> float | None:
    """Train the U-Net and score it on the test split."""
    from segpipe.workflows.training import run_segmenter_training

    return _run(config, run_segmenter_training)


def train_classifier(config: DictConfig) -> float | None:
    """Train the classifier and score it on the test split."""
    from segpipe.workflows.training import run_classifier_training

    return _run(config, run_classifier_training)


def _run(config: DictConfig, train: Callable[..., dict[str, Any]]) -> float | None:
    """Train and report on stdout.

    Args:
        config: Configuration of the training.
        train: Body of the training, from `segpipe.workflows`.

    Returns:
        Score on the validation images for the sweeper; None outside a sweep.
    """

    def checked(settings: TrainConfig, folder: Path) -> dict[str, Any]:
        check_values(config)
        return train(settings, folder, say=say)

    if in_sweep():
        from segpipe.sweep.job import run_job

        return run_job(typed(config), checked, say=say)
    check_values(config)
    require_extra("torch", "a training")
    train(typed(config), output_folder(config), say=say)
    return None
