"""The training of the classifier, with its score end to end on the test split. Not a medical device."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segpipe.config.schemas import TrainClsConfig, optional_path
from segpipe.config.values import AUTO, check_values, refuse_values, threshold_targets
from segpipe.inference.memory import keep_freed_memory
from segpipe.io.output import check_output
from segpipe.training.trial import double_remedy
from segpipe.workflows.calls import Say, TrainingResult, call_training, training_config


def train_classifier(config: Sequence[str] | TrainClsConfig, output: str | Path | None = None) -> TrainingResult:
    """Train a classifier and score it end to end on the test split, as `segpipe train-cls` does.

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
    return call_training(train, training_config(config, "train_cls", TrainClsConfig, output))


def train(config: DictConfig, output: Path, *, say: Say) -> dict[str, Any]:
    """Train a classifier, write its bundle, and return its metrics on the test split, with the U-Net's own crops.

    Args:
        config: See `segpipe.config.schemas.TrainClsConfig`.
        output: Folder of the results.
        say: Taker of the lines that report the data, the plan and the metrics.
    """
    check_values(config)
    check_output(output, overwrite=config.overwrite, ckpt_path=optional_path(config.ckpt_path))
    if warning := double_remedy(config):
        sys.stderr.write(f"warning: {warning}\n")
    keep_freed_memory()

    from segpipe.bundle.folder import load_classifier, save_bundle
    from segpipe.evaluation.headline import headline
    from segpipe.evaluation.held_out import (
        calibrate,
        find_missing_masks,
        load_unseen_segmenter,
        present_targets,
        score_classifier,
    )
    from segpipe.evaluation.out_of_fold import predict_fold
    from segpipe.evaluation.score import scored_card
    from segpipe.inference.tta import VIEWS
    from segpipe.training.classifier import build_untrained, fit_head
    from segpipe.training.classifier import train_classifier as fit_classifier
    from segpipe.training.setup import prepare_data
    from segpipe.training.teachers import read_teachers
    from segpipe.training.trial import try_parts
    from segpipe.workflows.distillation import predict_for_training, refuse_unfit

    with refuse_values():
        model, _ = build_untrained(config)
        try_parts(config, model)
    teachers = read_teachers(config)
    data = prepare_data(config, output, need_masks=False)
    say(data.report())
    if data.missing_classes:
        sys.stderr.write(f"warning: {data.missing_classes}\n")
    targets = present_targets(threshold_targets(config), data, required=config.threshold.diagnosis != AUTO)
    plan, start = fit_head(config, data, model)
    say(f"{start}\n{plan}")
    refuse_unfit(teachers, data, allowed=config.allow_leak)
    segmenter = load_unseen_segmenter(config, data)
    checked = data.parts  # with true masks only, by which alone masks are scored
    data, masks = find_missing_masks(segmenter, data, output / "found_masks")
    say(masks)
    teacher_probs, taught = predict_for_training(teachers, data, config, output)
    if taught:
        say(taught)
    card = fit_classifier(config, data, model, plan, output, teacher_probs=teacher_probs)
    save_bundle(output / "bundle", model, card)
    answer = {"views": VIEWS[config.tta.views], "batch_size": config.batch_size}
    card = calibrate(
        segmenter, load_classifier(output / "bundle"), data.parts, method=config.calibration, targets=targets, **answer
    )
    save_bundle(output / "bundle", model, card)
    answer |= {"dataset": data.dataset.name}
    if config.data.fold is not None:
        predict_fold(segmenter, load_classifier(output / "bundle"), checked["val"], output, fold=config.data.fold, **answer)
    answer |= {"heatmaps": config.heatmap_sample}
    metrics = score_classifier(segmenter, load_classifier(output / "bundle"), checked["test"], output / "test", **answer)
    save_bundle(output / "bundle", model, scored_card(card, metrics))
    say(f"{headline(metrics)}\nbundle in {output / 'bundle'}")
    return metrics
