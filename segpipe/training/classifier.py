"""The training of the classifier, from its configuration to the best weights."""

from pathlib import Path

from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig

from segpipe.card import ClassifierCard
from segpipe.data.augmentation import BoxJitter
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import CropDataset
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.lesion.crop import CropRule
from segpipe.models.classifier import LesionClassifier, build_classifier
from segpipe.models.preprocessing import InputSpec
from segpipe.models.starting_weights import load_starting_weights
from segpipe.training.metrics import DiagnosisMetrics
from segpipe.training.setup import TrainingData, build_augmentation, fit_as_configured
from segpipe.training.tasks import Task
from segpipe.training.unfreezing import ProgressiveUnfreezing, UnfreezePlan, parameter_groups, plan_unfreezing


def build_untrained(config: DictConfig) -> tuple[LesionClassifier, UnfreezePlan]:
    """Seed all that is random in a training, build its classifier with its starting weights, and lay out the unfreezing.

    Args:
        config: see `segpipe.config.TrainClsConfig`.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    settings = config.classifier
    model = build_classifier(name=settings.name, classes=len(CODES), attention=settings.attention, dropout=settings.dropout)
    load_starting_weights(model.backbone, name=settings.name, init=settings.init)
    return model, plan_unfreezing(model, **config.unfreeze, learning_rate=config.optimizer.lr)


def train_classifier(
    config: DictConfig, data: TrainingData, model: LesionClassifier, plan: UnfreezePlan, output: Path
) -> ClassifierCard:
    """Train a classifier on crops of the train part; it ends with the weights of the best AUROC on the val part.

    Args:
        config: see `segpipe.config.TrainClsConfig`.
        data: checked and split.
        model: with its starting weights; trained in place, and in eval mode afterwards.
        plan: of its unfreezing.
        output: takes `metrics.csv` and `checkpoints/`.

    Returns:
        The model's card, still without test metrics.
    """
    settings = config.classifier
    spec, rule = InputSpec(settings.input_size), CropRule(**config.crop)
    counts = data.parts["train"]["dx"].value_counts().reindex(CODES, fill_value=0)
    task = Task(
        model,
        spec,
        instantiate(config.loss, counts=counts.to_list()),
        DiagnosisMetrics(),
        optimizer=instantiate(config.optimizer),
        schedule=instantiate(config.scheduler),
        groups=parameter_groups(model, plan),
    )
    examples = SeededDataModule(
        CropDataset(
            data.parts["train"],
            classes=CODES,
            rule=rule,
            size=spec.size,
            jitter=BoxJitter(config.augment.box_jitter),
            augmentation=build_augmentation(config),
        ),
        CropDataset(data.parts["val"], classes=CODES, rule=rule, size=spec.size),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
    )
    fitted = fit_as_configured(
        config, task, examples, output, monitor="val_auroc", cpu_bf16=False, callbacks=[ProgressiveUnfreezing(plan)]
    )
    return ClassifierCard(
        arguments={"name": settings.name, "attention": settings.attention, "dropout": settings.dropout},
        input=spec,
        training=data.describe(fitted, config),
        classes=CODES,
        malignant=MALIGNANT_CODES,
        crop=rule,
    )
