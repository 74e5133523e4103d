"""Trainings of segmenter and classifier, scored on the test split."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.config.fields import optional_path
from segpipe.config.schemas import TrainClsConfig, TrainSegConfig
from segpipe.config.values import AUTO, refuse_values, threshold_targets
from segpipe.inference.resources import keep_freed_memory
from segpipe.io.output import check_output
from segpipe.io.passes import working
from segpipe.io.run_files import BUNDLE, FOUND_MASKS, GATE, SIMILAR, TEST
from segpipe.workflows.calls import (
    RESUMABLE,
    Say,
    TrainingResult,
    call_training,
    load_libraries,
    resume_output,
    say_all,
    training_config,
    warn,
)

if TYPE_CHECKING:
    import pandas as pd

    from segpipe.bundle.card import ClassifierCard
    from segpipe.inference.stages import Localizer
    from segpipe.models.classifier import LesionClassifier
    from segpipe.training.preparation import TrainingData


def train_segmenter(config: Sequence[str] | TrainSegConfig, output: str | Path | None = None) -> TrainingResult:
    """Train a segmenter and score it on the test split.

    The call corresponds to `segpipe train-seg`.

    Args:
        config: List of overrides such as `["data=synthetic", "trainer.max_epochs=1"]`, or the whole configuration.
        output: Folder of the results; None takes that of `config`, or one named after the date and time.

    Returns:
        Folder of the trained model, and its metrics on the test split.

    Raises:
        MissingExtraError: The extra `torch` is not installed.
        ConfigError: A key or a value of the configuration is wrong.
        DatasetError: The data set or its split cannot be used.
        BundleError: A model on disk cannot be used.
        OutputError: The output folder cannot be used, or holds results.
        TrainingError: The training started and failed.
    """
    return call_training(run_segmenter_training, training_config(config, "train_seg", TrainSegConfig, output))


def run_segmenter_training(config: TrainSegConfig, output: Path, *, say: Say) -> dict[str, Any]:
    """Train a segmenter, write its bundle, and return its test metrics.

    Args:
        config: Configuration with checked values.
        output: Folder of the results.
        say: Function that reports lines about the data and the metrics.
    """
    config = resume_output(config, output, say=say)
    check_output(output, overwrite=config.overwrite, ckpt_path=optional_path(config.ckpt_path), resumable=RESUMABLE)
    keep_freed_memory()
    load_libraries()

    from segpipe.bundle.saving import bundle_segmenter, save_bundle, save_reference
    from segpipe.evaluation.gate import fit_gate, has_enough_images
    from segpipe.evaluation.score import segmenter_test_metrics
    from segpipe.evaluation.segmenter_alone import measure_segmenter, score_segmenter
    from segpipe.evaluation.text import headline
    from segpipe.inference.golden import write_segmenter_golden
    from segpipe.inference.torch_runtime import TorchSegmenter
    from segpipe.training.parts import repeats_text
    from segpipe.training.preparation import prepare_data
    from segpipe.training.segmenter import MONITOR, build_untrained, fit_segmenter
    from segpipe.training.trial import try_parts
    from segpipe.workflows.fine_tuning import compare_segmenters, comparison_lines
    from segpipe.workflows.training_display import finish_fit, last_lines, show_masks

    with refuse_values():
        model = build_untrained(config)
        try_parts(config, model)
    data = prepare_data(config, output, need_masks=True)
    say_all(say, data.report(), repeats_text(config, len(data.parts["train"])))
    start, monitor = copy.deepcopy(model), config.trainer.monitor or MONITOR
    card = fit_segmenter(config, data, model, output, display=show_masks(say))
    say(finish_fit(output, card.training, config.trainer, monitor=monitor))
    trained = bundle_segmenter(model, card)
    network = TorchSegmenter(trained)
    metrics = score_segmenter(network, data.parts["test"], output / TEST, dataset=data.dataset.name)
    metrics |= compare_segmenters(card, start, data.parts["test"], output, measure=measure_segmenter)
    card = replace(card, metrics=segmenter_test_metrics(metrics))
    save_bundle(output / BUNDLE, model, card)
    images = data.parts["train"], data.parts["val"]
    if has_enough_images(*images):
        gate = fit_gate(network, *images)
        source = f"{data.dataset.name}, training part"
        save_reference(output / BUNDLE, GATE, card, gate.reference, images=gate.images, source=source)
    with working("outputs for segpipe selftest"):
        write_segmenter_golden(output / BUNDLE, network)
    say_all(say, headline(metrics), *comparison_lines(metrics, card, output, monitor=monitor), last_lines(output, "segmenter"))
    return metrics


def train_classifier(config: Sequence[str] | TrainClsConfig, output: str | Path | None = None) -> TrainingResult:
    """Train a classifier and score it on the test split.

    The call corresponds to `segpipe train-cls`.

    Args:
        config: List of overrides such as `["data=synthetic", "trainer.max_epochs=1"]`, or the whole configuration.
        output: Folder of the results; None takes that of `config`, or one named after the date and time.

    Returns:
        Folder of the trained model, and its metrics on the test split.

    Raises:
        MissingExtraError: The extra `torch` is not installed.
        ConfigError: A key or a value of the configuration is wrong.
        DatasetError: The data set or its split cannot be used.
        BundleError: A model on disk cannot be used.
        OutputError: The output folder cannot be used, or holds results.
        TrainingError: The training started and failed.
    """
    return call_training(run_classifier_training, training_config(config, "train_cls", TrainClsConfig, output))


def run_classifier_training(config: TrainClsConfig, output: Path, *, say: Say) -> dict[str, Any]:
    """Train a classifier, write its bundle, and return its test metrics.

    Args:
        config: Configuration with checked values.
        output: Folder of the results.
        say: Function that reports lines about the data, the plan and the metrics.
    """
    config = resume_output(config, output, say=say)
    check_output(output, overwrite=config.overwrite, ckpt_path=optional_path(config.ckpt_path), resumable=RESUMABLE)
    keep_freed_memory()
    load_libraries()

    from segpipe.bundle.saving import bundle_classifier
    from segpipe.evaluation import held_out
    from segpipe.evaluation.text import headline
    from segpipe.inference.torch_runtime import TorchClassifier
    from segpipe.inference.tta import VIEWS
    from segpipe.training.classifier import build_untrained, fit_classifier, fit_head
    from segpipe.training.parts import repeats_text
    from segpipe.training.preparation import prepare_data
    from segpipe.training.starting_weights import read_teachers
    from segpipe.training.trial import double_remedy, try_parts
    from segpipe.workflows.distillation import predict_for_training, refuse_unfit
    from segpipe.workflows.fine_tuning import comparison_lines
    from segpipe.workflows.training_display import finish_fit, last_lines, show_diagnoses
    from segpipe.workflows.unseen_segmenter import load_unseen_segmenter

    # Seed, model and a trial of all parts
    warn(double_remedy(config))
    with refuse_values():
        model, _ = build_untrained(config)
        try_parts(config, model)
    teachers = read_teachers(config)

    # Data
    data = prepare_data(config, output, need_masks=False)
    say(data.report())
    warn(data.missing_classes)
    monitor, targets = data.choose_monitor(config.trainer.monitor), choose_targets(config, data)
    plan, origin = fit_head(config, data, model)
    say_all(say, origin, str(plan), repeats_text(config, len(data.parts["train"])))
    start = copy.deepcopy(model)
    refuse_unfit(teachers, data, allowed=config.allow_leak)
    segmenter = load_unseen_segmenter(config, data)
    tested = data.parts  # masks are scored by true ones alone
    parts, masks = held_out.find_missing_masks(segmenter, data.parts, output / FOUND_MASKS)
    data = replace(data, parts=parts)
    teacher_probs, line = predict_for_training(teachers, data, config, output)
    say_all(say, masks, line)

    # Fit
    display = show_diagnoses(say, data.dataset.classes)
    card = fit_classifier(config, data, model, plan, output, teacher_probs=teacher_probs, display=display)
    say(finish_fit(output, card.training, config.trainer, monitor=monitor, plan=plan))

    # Calibration
    options: dict[str, Any] = {"views": VIEWS[config.tta.views], "batch_size": config.batch_size}
    network = TorchClassifier(bundle_classifier(model, card))
    chosen: dict[str, Any] = {"method": config.calibration, "targets": targets, "coverage": config.conformal.coverage}
    card = held_out.calibrate(segmenter, network, data.parts, **chosen, **options)

    # Similar cases, score and bundle
    metrics = _score_and_save(config, data, (start, model), card, output, segmenter=segmenter, tested=tested)
    ending = last_lines(output, "classifier", segmenter=config.bundle.segmenter)
    say_all(say, headline(metrics), *comparison_lines(metrics, card, output, monitor=monitor), ending)
    return metrics


def _score_and_save(
    config: TrainClsConfig,
    data: "TrainingData",
    models: tuple["LesionClassifier", "LesionClassifier"],
    card: "ClassifierCard",
    output: Path,
    *,
    segmenter: "Localizer",
    tested: Mapping[str, "pd.DataFrame"],
) -> dict[str, Any]:
    """Score a calibrated classifier with its similar cases; write its bundle.

    `models` are the starting and the trained one.
    """
    from segpipe.bundle.saving import bundle_classifier, save_bundle, save_reference
    from segpipe.evaluation import held_out
    from segpipe.evaluation.score import card_with_test_metrics
    from segpipe.evaluation.similar import fit_similar
    from segpipe.inference.golden import write_classifier_golden
    from segpipe.inference.loading import load_gate
    from segpipe.inference.similar import SimilarIndex
    from segpipe.inference.torch_runtime import TorchClassifier
    from segpipe.inference.tta import VIEWS
    from segpipe.workflows.fine_tuning import compare_classifiers
    from segpipe.workflows.unseen_segmenter import segmenter_folder

    start, model = models
    network = TorchClassifier(bundle_classifier(model, card))
    similar = fit_similar(segmenter, network, data.parts["train"])
    options: dict[str, Any] = {"views": VIEWS[config.tta.views], "batch_size": config.batch_size, "dataset": data.dataset.name}
    if config.data.fold is not None:
        held_out.predict_fold(segmenter, network, tested["val"], output, fold=config.data.fold, **options)
    options |= {"gate": load_gate(segmenter_folder(config), segmenter), "index": SimilarIndex(similar, card.classes)}
    metrics = held_out.score_classifier(
        segmenter, network, tested["test"], output / TEST, heatmaps=config.heatmap_sample, **options
    )
    metrics |= compare_classifiers(config, network, start, {**data.parts, "test": tested["test"]}, output, segmenter=segmenter)
    card = card_with_test_metrics(card, metrics)
    save_bundle(output / BUNDLE, model, card)
    cases = len(similar.arrays["points"])
    save_reference(output / BUNDLE, SIMILAR, card, similar, images=cases, source=f"{data.dataset.name}, training part")
    with working("outputs for segpipe selftest"):
        write_classifier_golden(output / BUNDLE, network)
    return metrics


def choose_targets(config: TrainClsConfig, data: "TrainingData") -> dict[str, float]:
    """Choose the operating points whose targets occur in the validation part.

    Raises:
        ConfigError: A target that the configuration names does not occur.
    """
    from segpipe.evaluation.held_out import present_targets

    codes, required = set(data.parts["val"]["dx"]), config.threshold.diagnosis != AUTO
    return present_targets(threshold_targets(config), codes, data.dataset.malignant, required=required)
