"""Training of the classifier, from its configuration to the best weights."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from lightning import seed_everything
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.folder import load_classifier
from segpipe.config.building import check_targets
from segpipe.config.schemas import TrainClsConfig
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import CropDataset, class_probs
from segpipe.diagnosis import CODES
from segpipe.lesion.crop import CropRule
from segpipe.losses.classification import DistillationLoss
from segpipe.models.classifier import LesionClassifier, build_classifier, require_feature_map
from segpipe.models.preprocessing import InputSpec
from segpipe.training import parts
from segpipe.training.consistency import TurnConsistency
from segpipe.training.display import QUIET, Display
from segpipe.training.fine_tuning import is_fine_tuning
from segpipe.training.pictures import as_probs
from segpipe.training.preparation import TrainingData
from segpipe.training.schedule import ProgressiveUnfreezing, UnfreezePlan, parameter_groups, plan_unfreezing
from segpipe.training.starting_weights import (
    load_starting_weights,
    refuse_other_network,
    start_bundle,
    start_card,
    starting_point,
)
from segpipe.training.tasks import Task

_NETWORK = ("name", "attention", "dropout", "drop_path", "padding")  # arguments of the network


class DiagnosisMetrics(Metric):
    """Accuracy, balanced accuracy and macro AUROC of single views.

    The crops are those of the training: by true masks, else by found ones.
    """

    probs: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probs", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            logits: Logits, float, shape (N, C).
            labels: Class indices, integer, shape (N,).
        """
        self.probs.append(logits.softmax(1))
        self.labels.append(labels)

    def compute(self) -> dict[str, Tensor]:
        """Compute the metrics of all images.

        Returns:
            `val_accuracy`, `val_balanced_accuracy` and `val_auroc`, in [0, 1]; the last two are means over the classes that
            occur. `val_auroc` is missing where all images are of one class.
        """
        probs, labels = dim_zero_cat(self.probs).cpu(), dim_zero_cat(self.labels).cpu()
        hits = (probs.argmax(1) == labels).float()
        present = torch.unique(labels)
        areas = [roc_auc_score(labels == code, probs[:, code]) for code in present if len(present) > 1]
        scores = {
            "val_accuracy": hits.mean(),
            "val_balanced_accuracy": torch.stack([hits[labels == code].mean() for code in present]).mean(),
        }
        return scores | ({"val_auroc": torch.tensor(areas).mean()} if areas else {})


def build_untrained(config: TrainClsConfig) -> tuple[LesionClassifier, UnfreezePlan]:
    """Build the classifier of a training, after seeding, and plan its unfreezing."""
    check_targets(config)
    seed_everything(config.seed, workers=True, verbose=False)
    settings, folder = config.classifier, start_bundle(config)
    start = None if folder is None else load_classifier(folder)
    known = CODES if start is None else start.card.classes
    model = build_classifier(classes=len(known), **{name: getattr(settings, name) for name in _NETWORK})
    require_feature_map(model, settings.name)
    if start is None:
        fetch = partial(timm.create_model, settings.name, pretrained=True)
        load_starting_weights(model.backbone, name=settings.name, init=settings.init, fetch=fetch)
    else:
        refuse_other_network(config, start.card, {"name": settings.name, "attention": settings.attention})
        model.load_state_dict(start.model.state_dict())
    return model, _plan(config, model)


def fit_head(config: TrainClsConfig, data: TrainingData, model: LesionClassifier) -> tuple[UnfreezePlan, str]:
    """Give the model an output for each class of the data set.

    The outputs of a starting bundle are kept where it has all classes of the data set; else the linear layer is a new one.

    Args:
        config: Configuration of the training.
        data: Checked and split data.
        model: Model of `build_untrained`; changed in place.

    Returns:
        Unfreezing plan of the changed model, and a line that describes the starting weights.

    Raises:
        BundleError: The starting weights have seen validation or test lesions of this training.
    """
    start, classes = start_card(config), data.dataset.classes
    line = f"starting weights: {starting_point(config.classifier.name, config.classifier.init)}"
    if start is not None:
        data.refuse_seen(start.training, key="classifier.init", allowed=config.allow_leak)
    known = start.classes if isinstance(start, ClassifierCard) else CODES
    if start is not None and classes != known and set(classes) <= set(known):
        model.linear = _select_outputs(model.linear, [known.index(code) for code in classes])
        line += f", with the outputs of the classes {', '.join(classes)}"
    elif classes != known:
        model.linear = nn.Linear(model.linear.in_features, len(classes))
        line += f", with a new linear layer for the classes {', '.join(classes)}"
    return _plan(config, model), line


def _select_outputs(linear: nn.Linear, outputs: list[int]) -> nn.Linear:
    selected = nn.Linear(linear.in_features, len(outputs))
    selected.load_state_dict({name: values[outputs] for name, values in linear.state_dict().items()})
    return selected


def _plan(config: TrainClsConfig, model: LesionClassifier) -> UnfreezePlan:
    return plan_unfreezing(
        model,
        from_epochs=config.unfreeze.from_epochs,
        lr_decay=config.unfreeze.lr_decay,
        learning_rate=config.optimizer.lr,
    )


def fit_classifier(
    config: TrainClsConfig,
    data: TrainingData,
    model: LesionClassifier,
    plan: UnfreezePlan,
    output: Path,
    *,
    teacher_probs: NDArray[np.float32] | None = None,
    display: Display = QUIET,
) -> ClassifierCard:
    """Train a classifier on crops, keeping the best weights.

    Args:
        config: Configuration of the training.
        data: Checked and split data.
        model: Model with its starting weights; trained in place, in eval mode afterwards.
        plan: Unfreezing plan of the model.
        output: Folder for `metrics.csv`, `checkpoints/` and the pictures.
        teacher_probs: Probabilities of each image of the train part, shape (N, C), see `DistillationLoss`; None for no teacher.
        display: Lines and pictures that show the progress of the training.

    Returns:
        Card of the model, without calibration and test metrics.
    """
    settings, rows = config.classifier, data.parts["train"]
    spec, rule = InputSpec(settings.input_size), _crop_rule(config)
    counts = rows.groupby("dx")["weight"].sum().reindex(data.dataset.classes, fill_value=0.0)
    drawn = class_probs(counts.to_list(), config.sampler)
    loss = parts.build_loss(config.loss, counts=(drawn * counts.sum()).tolist())
    if teacher_probs is not None:
        distill = config.distill
        loss = DistillationLoss(loss, temperature=distill.temperature, label_weight=distill.label_weight)
    weight = config.augment.turn_consistency
    task = Task(
        model,
        spec,
        loss,
        DiagnosisMetrics(),
        optimizer=parts.build_optimizer(config.optimizer),
        scheduler=parts.build_scheduler(config.scheduler),
        groups=parameter_groups(model, plan),
        mixup_alpha=config.augment.mixup_alpha,
        sizes={pair[0]: pair[1] for pair in config.augment.sizes},
        consistency=TurnConsistency(weight) if weight else None,
    )
    monitor = data.choose_monitor(config.trainer.monitor)
    diagnoses = data.parts["val"]["dx"].to_list()
    shown = display.callbacks(output, config.trainer, monitor=monitor, diagnoses=diagnoses, decode=as_probs, plan=plan)
    fitted = parts.fit_as_configured(
        config,
        task,
        _examples(config, data, drawn / counts.clip(lower=1e-9).to_numpy(), teacher_probs=teacher_probs),
        output,
        identity=data.identity,
        monitor=monitor,
        cpu_bf16=False,
        fine_tuning=is_fine_tuning(config, data.dataset.classes, seen_by=data.seen_by),
        callbacks=[ProgressiveUnfreezing(plan), *shown],
    )
    return ClassifierCard(
        arguments={name: getattr(settings, name) for name in _NETWORK},
        input=spec,
        training=data.describe(fitted, config),
        classes=data.dataset.classes,
        malignant=data.dataset.malignant,
        crop=rule,
    )


def _examples(
    config: TrainClsConfig,
    data: TrainingData,
    class_rates: NDArray[np.float64],
    *,
    teacher_probs: NDArray[np.float32] | None,
) -> SeededDataModule:
    """Make the crops of the train and val parts.

    Args:
        config: Configuration of the training.
        data: Checked and split data.
        class_rates: Relative rate at which an image of each class is drawn.
        teacher_probs: Probabilities of each image of the train part, or None.
    """
    rule, rows = _crop_rule(config), data.parts["train"]
    crops = partial(CropDataset, classes=data.dataset.classes, size=config.classifier.input_size, cache=config.data.cache)
    margin = config.augment.margin_fraction
    wide = rule if margin is None else replace(rule, margin_fraction=margin)
    train = crops(rows, rule=wide, augmentation=parts.build_augmentation(config.augment), teacher_probs=teacher_probs)
    shares = class_rates[train.labels] * rows["weight"].to_numpy()
    return SeededDataModule(
        train,
        crops(data.parts["val"], rule=rule),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        draw_probs=None if np.allclose(shares, shares[0]) else shares,
        least_draws=parts.least_draws(config),
    )


def _crop_rule(config: TrainClsConfig) -> CropRule:
    return CropRule(**vars(config.crop))
