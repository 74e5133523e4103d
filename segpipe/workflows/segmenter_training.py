"""Training of the segmenter, a U-Net, scored on the test split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpipe.config.schemas import TrainSegConfig, optional_path
from segpipe.config.values import refuse_values
from segpipe.inference.memory import keep_freed_memory
from segpipe.io.output import check_output
from segpipe.io.run_files import BUNDLE, TEST
from segpipe.workflows.calls import Say, TrainingResult, call_training, training_config


def train_segmenter(config: Sequence[str] | TrainSegConfig, output: str | Path | None = None) -> TrainingResult:
    """Train a segmenter and score it on the test split.

    The call corresponds to `segpipe train-seg`.

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


def train(config: TrainSegConfig, output: Path, *, say: Say) -> dict[str, Any]:
    """Train a segmenter, write its bundle, and return its test metrics.

    Args:
        config: Configuration with checked values.
        output: Folder of the results.
        say: Function that reports lines about the data and the metrics.
    """
    check_output(output, overwrite=config.overwrite, ckpt_path=optional_path(config.ckpt_path))
    keep_freed_memory()

    from segpipe.bundle.folder import bundle_segmenter, save_bundle
    from segpipe.evaluation.headline import headline
    from segpipe.evaluation.score import segmenter_test_metrics
    from segpipe.evaluation.segmenter_alone import score_segmenter
    from segpipe.evaluation.training_curves import draw_training
    from segpipe.training.preparation import prepare_data
    from segpipe.training.segmenter import MONITOR, build_untrained, fit_segmenter
    from segpipe.training.trial import try_parts

    with refuse_values():
        model = build_untrained(config)
        try_parts(config, model)
    data = prepare_data(config, output, need_masks=True)
    say(data.report())
    card = fit_segmenter(config, data, model, output)
    draw_training(output, monitor=config.trainer.monitor or MONITOR, best_epoch=card.training.best_epoch)
    trained = bundle_segmenter(model, card)
    metrics = score_segmenter(trained, data.parts["test"], output / TEST, dataset=data.dataset.name)
    save_bundle(output / BUNDLE, model, replace(card, metrics=segmenter_test_metrics(metrics)))
    say(f"{headline(metrics)}\nbundle in {output / BUNDLE}")
    return metrics
