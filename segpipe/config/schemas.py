"""Typed schemas of the trainings; registration of all schemas.

A misspelt key or a wrong type stops before anything heavy is imported. The other subcommands are in `segpipe.config.commands`,
the config groups in `segpipe.config.groups` and `segpipe.config.training_groups`.
"""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from segpipe.config import commands, groups, training_groups
from segpipe.config.fields import LARGEST_SEED, MISSING, setting
from segpipe.config.prediction import DATED, ExplainConfig, RunPipelineConfig, SegmenterBundleConfig, TtaConfig, config_group
from segpipe.config.training_groups import ConformalFitConfig, DistillConfig, ThresholdConfig

# Settings that a training may change on resuming where allow_change lists them.
CHANGES_ALLOWED = ("optimizer.lr", "optimizer.weight_decay", "batch_size")


@dataclass
class TrainConfig:
    """Settings that both trainings share."""

    data: groups.DataConfig = config_group("Data set")
    augment: groups.AugmentConfig = config_group("Random changes to training images")
    loss: training_groups.LossConfig = config_group("Loss")
    optimizer: training_groups.OptimizerConfig = config_group("Optimizer")
    scheduler: training_groups.SchedulerConfig = config_group("Learning rate schedule")
    logger: dict[str, training_groups.LoggerConfig] = setting(
        dict, "Trackers beside metrics.csv, one or several as [tensorboard,wandb]; they need segpipe[tracking]"
    )
    trainer: training_groups.TrainerConfig = config_group("Lightning's Trainer; any other argument of it as +trainer.NAME")
    split: str | None = setting(None, "split.csv of an earlier training; null: a new split by lesion", path="existing")
    seed: int = setting(0, "Seed of the split, the starting weights and all random numbers", least=0, most=LARGEST_SEED)
    batch_size: int = setting(MISSING, "Images per step, distributed over the devices", least=1)
    workers: int = setting(0, "Processes that load images; 0: the main process", least=0)
    ckpt_path: str | None = setting(
        None,
        "checkpoints/last.ckpt of a training to resume, with its data and settings; docs/resuming.md lists what may change",
        path="existing",
    )
    resume: bool = setting(
        False, "True to resume the training in output from its last checkpoint, if there is one, and else to begin it"
    )
    allow_change: list[str] = setting(list, "Settings that may change on resuming, as [optimizer.lr]", choices=CHANGES_ALLOWED)
    allow_leak: bool = setting(
        False, "True to accept a split whose parts share lesions, and models that have seen test lesions; noted in the card"
    )
    output: str | None = setting(None, f"Folder of the results; {DATED}, or that of ckpt_path", path="any")
    overwrite: bool = setting(False, "True to replace the results of an earlier training in output")


@dataclass
class TrainSegConfig(TrainConfig):
    """`segpipe train-seg`."""

    segmenter: groups.SegmenterConfig = config_group("Network")


@dataclass
class TrainClsConfig(TrainConfig):
    """`segpipe train-cls`."""

    crop: groups.CropConfig = config_group("Crop of the lesion")
    classifier: groups.ClassifierConfig = config_group("Network")
    sampler: str = setting(
        "square_root",
        "Sampling of the classes",
        choices={"none": "as they occur", "square_root": "by the square root of their counts", "balanced": "equally often"},
    )
    unfreeze: training_groups.UnfreezeConfig = config_group("Order in which the layers begin to train")
    distill: DistillConfig = setting(DistillConfig, "Distillation")
    tta: TtaConfig = config_group("Test-time augmentation on the test split")
    calibration: str = setting(
        "temperature",
        "Calibration on the validation images",
        choices={"none": "", "temperature": "", "logit_adjustment": "temperature and correction for class frequencies"},
    )
    threshold: ThresholdConfig = setting(ThresholdConfig, "Operating points")
    conformal: ConformalFitConfig = setting(ConformalFitConfig, "Prediction sets")
    heatmap_sample: int = setting(
        200, "Number of test images whose heatmaps are tested, see docs/heatmaps.md; 0: no test", least=0
    )
    bundle: SegmenterBundleConfig = setting(SegmenterBundleConfig, "Segmenter that cuts the crops")


# Schemas by config group (None: primary configurations) and by name; yaml files name them as NAME_schema.
SCHEMAS: dict[str | None, dict[str, type]] = {
    None: {
        "train_seg": TrainSegConfig,
        "train_cls": TrainClsConfig,
        "run_pipeline": RunPipelineConfig,
        "app": commands.AppConfig,
        "app_server": commands.AppServerConfig,
        "compare": commands.CompareConfig,
        "heatmaps": commands.HeatmapsConfig,
        "ablations": commands.AblationsConfig,
        "export": commands.ExportConfig,
        "card": commands.CardConfig,
        "selftest": commands.SelfTestConfig,
        "audit_gate": commands.AuditGateConfig,
        "annotations": commands.AnnotationsConfig,
        "audit_labels": commands.AuditLabelsConfig,
        "synthetic": commands.SyntheticSamplesConfig,
    },
    "data": {
        "ham10000": groups.DataConfig,
        "synthetic": groups.SyntheticConfig,
        "folders": groups.FoldersConfig,
        "csv": groups.CsvConfig,
        "isic2019": groups.Isic2019Config,
    },
    "augment": {"augment": groups.AugmentConfig},
    "crop": {"crop": groups.CropConfig},
    "segmenter": {"segmenter": groups.SegmenterConfig},
    "classifier": {"classifier": groups.ClassifierConfig},
    "loss": {
        "bce_dice": training_groups.BceDiceConfig,
        "focal": training_groups.FocalConfig,
        "logit_adjusted": training_groups.LogitAdjustedConfig,
    },
    "optimizer": {"optimizer": training_groups.OptimizerConfig},
    "scheduler": {"cosine": training_groups.CosineConfig, "constant": training_groups.SchedulerConfig},
    "unfreeze": {"unfreeze": training_groups.UnfreezeConfig},
    "trainer": {"trainer": training_groups.TrainerConfig},
    "logger": {
        "tensorboard": training_groups.LoggerConfig,
        "wandb": training_groups.WandbConfig,
        "mlflow": training_groups.MlflowConfig,
    },
    "tta": {"tta": TtaConfig},
    "explain": {"explain": ExplainConfig},
}


def register_schemas() -> None:
    """Make the schemas known to Hydra."""
    store = ConfigStore.instance()
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=group, name=f"{name}_schema", node=schema)


def register_resolvers() -> None:
    """Register `${first:a,b}`, which is `b` where `a` is null."""
    OmegaConf.register_new_resolver("first", lambda value, other: other if value is None else value, replace=True)


register_schemas()
register_resolvers()
