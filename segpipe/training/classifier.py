"""The training of the classifier, from its configuration to the best weights."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import timm
from lightning import seed_everything
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import nn

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.folder import load_classifier
from segpipe.config.building import build, check_targets
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import CropDataset, class_shares
from segpipe.diagnosis import CODES
from segpipe.lesion.crop import CropRule
from segpipe.losses.distillation import DistillationLoss
from segpipe.models.classifier import LesionClassifier, build_classifier, require_feature_map
from segpipe.models.preprocessing import InputSpec
from segpipe.training.consistency import TurnConsistency
from segpipe.training.setup import TrainingData, build_augmentation, fit_as_configured
from segpipe.training.starting_weights import (
    load_starting_weights,
    refuse_other_network,
    start_bundle,
    start_card,
    starting_point,
)
from segpipe.training.tasks import DiagnosisMetrics, Task
from segpipe.training.unfreezing import ProgressiveUnfreezing, UnfreezePlan, parameter_groups, plan_unfreezing


def build_untrained(config: DictConfig) -> tuple[LesionClassifier, UnfreezePlan]:
    """Seed all that is random in a training, build its classifier with its starting weights, and lay out the unfreezing.

    Args:
        config: see `segpipe.config.schemas.TrainClsConfig`.
    """
    check_targets(config)
    seed_everything(config.seed, workers=True, verbose=False)
    settings, folder = config.classifier, start_bundle(config)
    start = None if folder is None else load_classifier(folder)
    known = CODES if start is None else start.card.classes
    model = build_classifier(
        name=settings.name,
        classes=len(known),
        attention=settings.attention,
        dropout=settings.dropout,
        drop_path=settings.drop_path,
        padding=settings.padding,
    )
    require_feature_map(model, settings.name)
    if start is None:
        fetch = partial(timm.create_model, settings.name, pretrained=True)
        load_starting_weights(model.backbone, name=settings.name, init=settings.init, fetch=fetch)
    else:
        refuse_other_network(config, start.card, {"name": settings.name, "attention": settings.attention})
        model.load_state_dict(start.model.state_dict())
    return model, plan_unfreezing(model, **config.unfreeze, learning_rate=config.optimizer.lr)


def fit_head(config: DictConfig, data: TrainingData, model: LesionClassifier) -> tuple[UnfreezePlan, str]:
    """Give the model the classes of the data set: its linear layer stays where it names the same ones, else it gets a fresh one.

    Args:
        config: see `segpipe.config.schemas.TrainClsConfig`.
        data: checked and split.
        model: as `build_untrained` made it; changed in place.

    Returns:
        The unfreezing of the model as it is now, and a line that says where its weights come from.

    Raises:
        BundleError: the starting weights have seen lesions by which the model will be judged.
    """
    start, classes = start_card(config), data.dataset.classes
    line = f"starting weights: {starting_point(config.classifier.name, config.classifier.init)}"
    if start is not None:
        data.refuse_seen(start.training, key="classifier.init", allowed=config.allow_leak)
    if classes != (start.classes if isinstance(start, ClassifierCard) else CODES):
        model.linear = nn.Linear(model.linear.in_features, len(classes))
        line += f", with a fresh linear layer for the classes {', '.join(classes)}"
    return plan_unfreezing(model, **config.unfreeze, learning_rate=config.optimizer.lr), line


def train_classifier(
    config: DictConfig,
    data: TrainingData,
    model: LesionClassifier,
    plan: UnfreezePlan,
    output: Path,
    *,
    teacher_probs: NDArray[np.float32] | None = None,
) -> ClassifierCard:
    """Train a classifier on crops of the train part; it ends with the weights of the best epoch on the val part, see `monitor`.

    Args:
        config: see `segpipe.config.schemas.TrainClsConfig`.
        data: checked and split.
        model: with its starting weights; trained in place, and in eval mode afterwards.
        plan: of its unfreezing.
        output: takes `metrics.csv` and `checkpoints/`.
        teacher_probs: probabilities of each image of the train part, shape (N, C), see `DistillationLoss`; None for no teacher.

    Returns:
        The model's card, still without test metrics.
    """
    settings, classes = config.classifier, data.dataset.classes
    spec, rule = InputSpec(settings.input_size), CropRule(**config.crop)
    rows = data.parts["train"]
    counts = rows.groupby("dx")["weight"].sum().reindex(classes, fill_value=0.0)
    drawn = class_shares(counts.to_list(), config.sampler)
    loss = build(config.loss, "loss", counts=drawn * counts.sum())
    distillation = {name: config.distill[name] for name in ("temperature", "label_weight")}
    task = Task(
        model,
        spec,
        loss if teacher_probs is None else DistillationLoss(loss, **distillation),
        DiagnosisMetrics(),
        optimizer=build(config.optimizer, "optimizer", _partial_=True),
        schedule=build(config.scheduler, "scheduler"),
        groups=parameter_groups(model, plan),
        mixup_alpha=config.augment.mixup_alpha,
        sizes=dict(config.augment.sizes),
        consistency=TurnConsistency(config.augment.turn_consistency) if config.augment.turn_consistency else None,
    )
    crops = partial(CropDataset, classes=classes, size=spec.size, cache=config.data.cache)
    margin = config.augment.margin_fraction
    wide = rule if margin is None else replace(rule, margin_fraction=margin)
    train = crops(rows, rule=wide, augmentation=build_augmentation(config), teacher_probs=teacher_probs)
    shares = (drawn / counts.clip(lower=1e-9).to_numpy())[train.labels] * rows["weight"].to_numpy()
    examples = SeededDataModule(
        train,
        crops(data.parts["val"], rule=rule),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        shares=None if np.allclose(shares, shares[0]) else shares,
    )
    fitted = fit_as_configured(
        config,
        task,
        examples,
        output,
        identity=data.identity,
        monitor=data.monitor,
        cpu_bf16=False,
        callbacks=[ProgressiveUnfreezing(plan)],
    )
    return ClassifierCard(
        arguments={key: settings[key] for key in ("name", "attention", "dropout", "drop_path", "padding")},
        input=spec,
        training=data.describe(fitted, config),
        classes=classes,
        malignant=data.dataset.malignant,
        crop=rule,
    )
