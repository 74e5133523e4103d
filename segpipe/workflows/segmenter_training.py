"""The training of the segmenter, a U-Net, with its score on the test split. Not a medical device."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segpipe.config.schemas import TrainSegConfig, optional_path
from segpipe.config.values import check_values, refuse_values
from segpipe.inference.memory import keep_freed_memory
from segpipe.io.output import check_output
from segpipe.workflows.calls import Say, TrainingResult, call_training, training_config


def train_segmenter(config: Sequence[str] | TrainSegConfig, output: str | Path | None = None) -> TrainingResult:
    """Train a segmenter and score it on the test split, as `segpipe train-seg` does.

    Args:
        config: List of overrides such as `["data=synthetic", "trainer.max_epochs=1"]`, or the whole configuration.
        output: Folder of the results; None takes that of `config`, or one named after the date and time.

    Returns:
        Folder of the trained model, and its metrics on the test split.

    Raises:
        ConfigError: A key or a value of the configuration is wrong.
        DatasetError: The data set or its split cannot be used.
        BundleError: A model on disk cannot be used.
        OutputError: The output folder cannot be used, or holds results.
        TrainingError: The training started and failed.
    """
    return call_training(train, training_config(config, "train_seg", TrainSegConfig, output))


def train(config: DictConfig, output: Path, *, say: Say) -> dict[str, Any]:
    """Train a segmenter, write its bundle, and return its metrics on the test split.

    Args:
        config: See `segpipe.config.schemas.TrainSegConfig`.
        output: Folder of the results.
        say: Taker of the lines that report the data and the metrics.
    """
    check_values(config)
    check_output(output, overwrite=config.overwrite, ckpt_path=optional_path(config.ckpt_path))
    keep_freed_memory()

    from segpipe.bundle.folder import load_segmenter, save_bundle
    from segpipe.evaluation.headline import headline
    from segpipe.evaluation.score import segmenter_figures
    from segpipe.evaluation.segmenter_alone import score_segmenter
    from segpipe.training.segmenter import build_untrained
    from segpipe.training.segmenter import train_segmenter as fit_segmenter
    from segpipe.training.setup import prepare_data
    from segpipe.training.trial import try_parts

    with refuse_values():
        model = build_untrained(config)
        try_parts(config, model)
    data = prepare_data(config, output, need_masks=True)
    say(data.report())
    card = fit_segmenter(config, data, model, output)
    save_bundle(output / "bundle", model, card)
    tested = load_segmenter(output / "bundle")
    metrics = score_segmenter(tested, data.parts["test"], output / "test", dataset=data.dataset.name)
    save_bundle(output / "bundle", model, replace(card, metrics=segmenter_figures(metrics)))
    say(f"{headline(metrics)}\nbundle in {output / 'bundle'}")
    return metrics
