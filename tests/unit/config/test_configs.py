"""Composition and building of each option of each config group; refusal of wrong values before anything is built."""

import re
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from hydra import compose
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.folder import load_classifier
from segpipe.config.building import check_targets
from segpipe.config.commands import AppConfig, AppServerConfig, CompareConfig, ExportConfig
from segpipe.config.composing import typed
from segpipe.config.fields import LARGEST_SIDE, settings_of
from segpipe.config.groups import ClassifierConfig, CropConfig
from segpipe.config.prediction import RunPipelineConfig, TtaConfig
from segpipe.config.schemas import SCHEMAS as ALL_SCHEMAS
from segpipe.config.schemas import TrainClsConfig, TrainSegConfig
from segpipe.config.training_groups import FocalConfig
from segpipe.config.values import check_values, list_settings, refuse_values, threshold_targets
from segpipe.data.datasets import _SAMPLING_POWERS
from segpipe.errors import ConfigError
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.runtimes import PRECISIONS
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.lesion.crop import BORDERS, CropRule
from segpipe.lesion.localization import FINDERS
from segpipe.losses.classification import WEIGHTINGS
from segpipe.metrics.calibration import METHODS
from segpipe.models.classifier import PADDINGS, build_attention
from segpipe.models.preprocessing import InputSpec
from segpipe.models.unet import build_unet
from segpipe.training.classifier import build_untrained
from segpipe.training.fit import trainer_arguments
from segpipe.training.identity import portable_settings
from segpipe.training.parts import build_augmentation, build_loggers
from segpipe.training.schedule import parameter_groups

CONF = Path(__file__).parents[3] / "conf"
SCHEMAS = {
    "run_pipeline": RunPipelineConfig,
    "app": AppConfig,
    "app_server": AppServerConfig,
    "compare": CompareConfig,
    "export": ExportConfig,
    "train_seg": TrainSegConfig,
    "train_cls": TrainClsConfig,
}
GROUPS = {
    "run_pipeline": ("tta", "explain"),
    "app": ("tta", "explain"),
    "app_server": ("tta", "explain"),
    "compare": ("tta",),
    "export": ("data",),
    "train_seg": ("data", "augment", "segmenter", "loss", "optimizer", "scheduler", "trainer", "logger"),
    "train_cls": (
        *("data", "augment", "crop", "classifier", "loss", "optimizer", "scheduler", "unfreeze", "trainer", "logger", "tta"),
    ),
}
# A loss belongs to its stage.
OF_DIAGNOSES = ("focal", "cross_entropy", "weighted_cross_entropy", "logit_adjusted")
ELSEWHERE = {
    *(("train_seg", "loss", option) for option in OF_DIAGNOSES),
    ("train_cls", "loss", "bce_dice"),
    *(("train_seg", "augment", f"classification{strength}") for strength in ("", "_strong")),
    *(("train_cls", "augment", f"segmentation{strength}") for strength in ("", "_strong")),
}
OPTIONS = [
    (script, group, path.stem)
    for script, groups in GROUPS.items()
    for group in groups
    for path in sorted((CONF / group).glob("*.yaml"))
    if (script, group, path.stem) not in ELSEWHERE
]
# What a call must give.
GIVEN = {"compare": ["bundles=[.]", "folder=.", "labels=."], "export": ["output=out"]}
# What an option leaves to its user.
MANDATORY = {
    ("data", "csv"): ["data.table=."],
    ("classifier", "timm"): ["classifier.name=test_efficientnet"],
    ("segmenter", "unet"): ["segmenter.encoder=mobilenet_v2"],
}


pytestmark = pytest.mark.usefixtures("hydra")


def options_of(group: str) -> list[str]:
    return [option for _, owner, option in dict.fromkeys(OPTIONS) if owner == group]


@pytest.mark.parametrize("script", SCHEMAS)
def test_groups_of_a_script_are_those_that_its_defaults_name(script: str) -> None:
    config = OmegaConf.load(CONF / f"{script}.yaml")
    named = {str(key) for entry in config.defaults if not isinstance(entry, str) for key in entry}
    assert {name for name in named if not name.startswith("override ")} == set(GROUPS[script])


def test_each_folder_of_conf_is_a_group_of_some_script() -> None:
    folders = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert folders - {"hydra", "experiment", "sweep"} == {group for groups in GROUPS.values() for group in groups}


@pytest.mark.parametrize("script", SCHEMAS)
def test_no_folder_of_conf_bears_the_name_of_a_plain_key(script: str) -> None:
    plain = {field.name for field in fields(SCHEMAS[script])} - set(GROUPS[script])
    assert not plain & {path.name for path in CONF.iterdir() if path.is_dir()}


@pytest.mark.parametrize(("script", "group", "option"), OPTIONS)
def test_each_option_composes_under_its_schema(tmp_path: Path, script: str, group: str, option: str) -> None:
    data = [f"data.root={tmp_path}"] if "data" in GROUPS[script] else []
    config = compose(script, [f"{group}={option}", *MANDATORY.get((group, option), []), *data, *GIVEN.get(script, [])])
    assert OmegaConf.get_type(config) is SCHEMAS[script]
    chosen = config[group].values() if group == "logger" else [config[group]]
    assert all(is_dataclass(OmegaConf.get_type(node)) for node in chosen)  # each has a schema of its own
    missing = OmegaConf.missing_keys(config)
    assert not missing
    check_values(config)


@pytest.mark.parametrize(("group", "option"), MANDATORY)
def test_key_that_must_be_given_and_is_not_is_refused(tmp_path: Path, group: str, option: str) -> None:
    script = "train_seg" if group == "segmenter" else "train_cls"
    config = compose(script, ["data=synthetic", f"{group}={option}", *([f"data.root={tmp_path}"] if group == "data" else [])])
    key = MANDATORY[group, option][0].partition("=")[0]
    with pytest.raises(ConfigError, match=f"^{key} must be given, got nothing; write {key}=...$"):
        check_values(config)


@pytest.mark.parametrize("script", SCHEMAS)
def test_key_that_a_group_does_not_have_is_refused(script: str) -> None:
    for group in GROUPS[script]:
        with pytest.raises(ConfigCompositionException, match="misspelt"):
            compose(script, [f"{group}.misspelt=1"])


@pytest.mark.parametrize("option", options_of("loss"))
def test_each_loss_builds_and_gives_a_number(option: str) -> None:
    of_masks = option == "bce_dice"
    config = compose("train_seg" if of_masks else "train_cls", [f"loss={option}"])
    loss = instantiate(config.loss) if of_masks else instantiate(config.loss, counts=[5, 4, 3, 2, 1, 1, 0])
    targets = torch.ones(2, 1, 4, 4) if of_masks else torch.tensor([0, 3])
    value = loss(torch.zeros_like(targets) if of_masks else torch.zeros(2, 7), targets)
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize(
    ("option", "gamma", "weighted"),
    [("focal", 2, False), ("cross_entropy", 0, False), ("weighted_cross_entropy", 0, True)],
)
def test_each_loss_is_one_remedy_against_class_imbalance_or_none(option: str, gamma: float, weighted: bool) -> None:
    loss = instantiate(compose("train_cls", [f"loss={option}"]).loss, counts=[5, 4, 3, 2, 1, 1, 0])
    assert (loss.gamma, loss.class_weights is not None) == (gamma, weighted)


@pytest.mark.parametrize("option", options_of("optimizer"))
def test_each_optimizer_builds_with_its_learning_rate(option: str) -> None:
    config = compose("train_seg", [f"optimizer={option}", "optimizer.lr=0.125"])
    optimizer = instantiate(config.optimizer)(nn.Linear(2, 2).parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [0.125]


@pytest.mark.parametrize("option", options_of("scheduler"))
def test_each_schedule_is_a_positive_factor_of_at_most_one(option: str) -> None:
    schedule = instantiate(compose("train_seg", [f"scheduler={option}"]).scheduler)
    assert all(0 < schedule(step, 50) <= 1 for step in range(50))
    assert max(schedule(step, 50) for step in range(50)) == 1


@pytest.mark.parametrize("option", options_of("augment"))
def test_each_augmentation_builds_and_keeps_the_shape(option: str) -> None:
    config = compose("train_cls", [f"augment={option}", "classifier.input_size=64"])
    augmentation = build_augmentation(typed(config.augment))
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = image[..., 0] > 127
    for seed in range(5):
        changed, changed_mask = augmentation.image_and_mask(image, mask, seed=seed)
        assert (changed.shape, changed.dtype, changed_mask.shape) == (image.shape, np.uint8, mask.shape)
    np.testing.assert_array_equal(augmentation.image(image, seed=3), augmentation.image(image, seed=3))
    assert (option == "none") == np.array_equal(changed, image)


@pytest.mark.parametrize("option", options_of("crop"))
def test_each_crop_rule_builds(option: str) -> None:
    rule = CropRule(**compose("train_cls", [f"crop={option}"]).crop)
    assert (rule.whole_image, rule.keep_background, rule.margin_fraction == 0) == (
        option == "whole_image",
        option != "masked",
        option == "tight",
    )


@pytest.mark.parametrize("option", options_of("segmenter"))
def test_each_segmenter_builds_and_takes_its_input(option: str) -> None:
    settings = compose("train_seg", [f"segmenter={option}", *MANDATORY.get(("segmenter", option), [])]).segmenter
    model = build_unet(encoder=settings.encoder, decoder_channels=list(settings.decoder_channels)).eval()
    size = settings.input_size
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, size, size)).shape == (1, 1, size, size)


@pytest.mark.parametrize("option", options_of("classifier"))
def test_each_classifier_builds_and_takes_its_input(option: str) -> None:
    config = typed(compose("train_cls", ["data=synthetic", f"classifier={option}", *MANDATORY.get(("classifier", option), [])]))
    model, _ = build_untrained(config)
    size = config.classifier.input_size
    with torch.inference_mode():
        assert model.eval()(torch.zeros(1, 3, size, size)).shape == (1, 7)


@pytest.mark.parametrize("option", options_of("unfreeze"))
def test_each_unfreezing_begins_with_the_head_and_ends_with_all(option: str) -> None:
    overrides = ["data=synthetic", f"unfreeze={option}", "classifier.name=test_efficientnet"]
    model, plan = build_untrained(typed(compose("train_cls", overrides)))
    assert "head" not in plan.frozen_in(0)
    assert plan.frozen_in(1000) == []
    grouped = [weights for group in parameter_groups(model, plan) for weights in group["params"]]
    assert {id(weights) for weights in grouped} == {id(weights) for weights in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))


@pytest.mark.parametrize("option", options_of("logger"))
def test_each_logger_builds_beside_the_table(tmp_path: Path, option: str) -> None:
    table, *trackers = build_loggers(typed(compose("train_seg", ["data=synthetic", f"logger={option}"])), tmp_path)
    table.log_metrics({"epoch": 0, "val_dice": 0.5})
    assert (tmp_path / "metrics.csv").read_text() == "epoch,val_dice\n0,0.5\n"
    assert len(trackers) == (option != "csv")


@pytest.mark.parametrize("script", ["train_seg", "train_cls"])
@pytest.mark.parametrize(
    ("given", "trackers"),
    [
        ("csv", []),
        ("wandb", ["wandb"]),
        ("[]", []),
        ("[csv,tensorboard]", ["tensorboard"]),
        ("[mlflow,wandb]", ["mlflow", "wandb"]),
    ],
)
def test_loggers_are_one_word_or_a_list(script: str, given: str, trackers: list[str]) -> None:
    assert list(compose(script, [f"logger={given}"]).logger) == trackers


@pytest.mark.parametrize("option", options_of("trainer"))
def test_each_trainer_builds(option: str) -> None:
    from lightning import Trainer  # takes seconds, and only this test needs it

    config = compose("train_seg", [f"trainer={option}", "trainer.accelerator=cpu"])
    trainer = Trainer(**trainer_arguments(typed(config.trainer), cpu_bf16=False), logger=False, enable_checkpointing=False)
    assert trainer.max_epochs == config.trainer.max_epochs


@pytest.mark.parametrize("script", ["train_seg", "train_cls"])
def test_paths_of_the_data_stay_out_of_the_card(script: str) -> None:
    settings = portable_settings(typed(compose(script, ["data=synthetic", "data.root=/here", "data.cache=/here"])))
    assert settings["data"]["lesions"] == 84
    assert "/here" not in str(settings)


def test_trackers_stay_out_of_the_card() -> None:
    server = "logger.mlflow.tracking_uri=https://me:secret@server"
    config = typed(compose("train_seg", ["data=synthetic", "logger=[csv,mlflow]", server]))
    assert "secret" not in str(portable_settings(config))


@pytest.mark.parametrize("tta", options_of("tta"))
@pytest.mark.parametrize("explain", options_of("explain"))
def test_each_prediction_setting_builds(classifier: ClassifierBundle, tta: str, explain: str) -> None:
    config = compose("run_pipeline", [f"tta={tta}", f"explain={explain}"])
    check_values(config)
    explained = None if config.explain.method == "none" else config.explain.diagnosis or "predicted"
    assert (explained is None) == (explain == "none")
    views = VIEWS[config.tta.views]
    ClassifierEnsemble([TorchClassifier(classifier, "cpu")], views=views, explained=explained, batch_size=config.batch_size)


CHECKED = {"run_pipeline": [], "train_cls": ["data=synthetic", "loss=focal"], "train_seg": ["data=synthetic"]}


@pytest.mark.parametrize("script", CHECKED)
def test_word_outside_the_choices_is_refused(script: str) -> None:
    given = CHECKED[script]
    options = {key: option for key, _, option in list_settings(compose(script, given)) if option is not None and option.choices}
    words = {key: option.choices for key, option in options.items() if option.path is None and key != "allow_change"}
    assert {"run_pipeline": 7, "train_cls": 10, "train_seg": 3}[script] <= len(words)
    for key, choices in words.items():
        with pytest.raises(ConfigError, match=f"{key} must be one of {', '.join(choices)}, got 'maybe'"):
            check_values(compose(script, [*given, f"{key}=maybe"]))
        for word in choices:
            check_values(compose(script, [*given, f"{key}={word}"]))


def test_setting_that_may_not_change_on_resuming_is_refused() -> None:
    check_values(compose("train_cls", ["data=synthetic", "allow_change=[optimizer.lr,batch_size]"]))
    with pytest.raises(ConfigError, match=r"^allow_change must be one of optimizer\.lr, .*, got 'seed'"):
        check_values(compose("train_cls", ["data=synthetic", "allow_change=[optimizer.lr,seed]"]))


def test_fold_outside_its_range_is_refused() -> None:
    check_values(compose("train_cls", ["data=synthetic", "data.fold=4"]))
    for wrong in (["data.fold=5"], ["data.fold=0", "data.folds=1"]):
        with pytest.raises(ConfigError, match=r"^data.fold must be below data.folds, which must be 2 or more"):
            check_values(compose("train_cls", ["data=synthetic", *wrong]))


@pytest.mark.parametrize("sensitivity", [0.0, -0.5, 1.01])
def test_sensitivity_outside_its_range_is_refused(sensitivity: float) -> None:
    with pytest.raises(ConfigError, match=f"threshold.target_sensitivity must be above 0 and at most 1, got {sensitivity}"):
        check_values(compose("train_cls", ["data=synthetic", f"threshold.target_sensitivity={sensitivity}"]))


def test_coverage_of_prediction_sets_lies_between_0_and_1() -> None:
    assert compose("train_cls", ["data=synthetic"]).conformal.coverage == 0.9
    check_values(compose("train_cls", ["data=synthetic", "conformal.coverage=0.95"]))
    for wrong in (0, 1, 1.5):
        with pytest.raises(ConfigError, match=f"conformal.coverage must be above 0 and below 1, got {wrong}"):
            check_values(compose("train_cls", ["data=synthetic", f"conformal.coverage={wrong}"]))


@pytest.mark.parametrize(
    ("given", "targets"),
    [
        ([], {"mel": 0.95, "malignant": 0.95}),
        (["threshold.target_sensitivity=0.9"], {"mel": 0.9, "malignant": 0.9}),
        (["threshold.diagnosis=null"], {}),
        (["threshold.diagnosis=[]"], {}),
        (["threshold.diagnosis=bcc"], {"bcc": 0.95}),
        (["threshold.diagnosis=[mel,malignant]", "threshold.target_sensitivity=[0.95,1]"], {"mel": 0.95, "malignant": 1}),
        (["threshold.diagnosis=[3,nv]"], {"3": 0.95, "nv": 0.95}),
        (["threshold.diagnosis=[auto]"], {"auto": 0.95}),
    ],
)
def test_operating_points_are_a_word_a_list_or_null(given: list[str], targets: dict[str, float]) -> None:
    config = compose("train_cls", ["data=synthetic", *given])
    check_values(config)
    assert threshold_targets(typed(config)) == targets == threshold_targets(config)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (["threshold.diagnosis=[mel,mel]"], "diagnosis"),
        (["threshold.diagnosis=[1,'1']"], "diagnosis"),
        (["threshold.diagnosis=true"], "diagnosis"),
        (["threshold.diagnosis=[mel,null]"], "diagnosis"),
        (["threshold.diagnosis={a: 1}"], "diagnosis"),
        (["threshold.diagnosis=[[mel]]"], "diagnosis"),
        (["threshold.diagnosis=''"], "diagnosis"),
        (["threshold.diagnosis=[mel,nv]", "threshold.target_sensitivity=[0.9,0.8,0.7]"], "target_sensitivity"),
        (["threshold.diagnosis=mel", "threshold.target_sensitivity=[0.9,0.8]"], "target_sensitivity"),
        (["threshold.target_sensitivity=[0.9,0.8]"], "target_sensitivity"),
        (["threshold.target_sensitivity=[]"], "target_sensitivity"),
        (["threshold.target_sensitivity=null"], "target_sensitivity"),
        (["threshold.diagnosis=[mel,nv]", "threshold.target_sensitivity=[0.9,0]"], "target_sensitivity"),
        (["threshold.target_sensitivity=high"], "target_sensitivity"),
        (["threshold.target_sensitivity=true"], "target_sensitivity"),
        (["threshold.target_sensitivity=nan"], "target_sensitivity"),
    ],
)
def test_invalid_operating_points_are_refused(given: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^threshold\.{key} must be .*, got "):
        check_values(compose("train_cls", ["data=synthetic", *given]))


def test_choices_are_those_of_the_code() -> None:
    assert tuple(choices_of(TrainClsConfig, "calibration")) == METHODS
    assert tuple(choices_of(TrainClsConfig, "sampler")) == tuple(_SAMPLING_POWERS)
    assert tuple(choices_of(RunPipelineConfig, "localize")) == FINDERS
    assert set(choices_of(RunPipelineConfig, "precision")) == set(PRECISIONS)
    assert set(choices_of(TtaConfig, "views")) == set(VIEWS)
    assert tuple(choices_of(CropConfig, "border")) == BORDERS
    assert tuple(choices_of(ClassifierConfig, "padding")) == PADDINGS
    assert tuple(choices_of(FocalConfig, "weighting")) == WEIGHTINGS
    for kind in choices_of(ClassifierConfig, "attention"):
        build_attention(kind, 16)


def choices_of(schema: type, name: str) -> Collection[str]:
    return settings_of(schema)[name].choices


NUMBERS = {
    "run_pipeline": {"workers": [-1], "batch_size": [0], "max_pixels": [0]},
    "app": {"batch_size": [0], "max_files": [0], "max_pixels": [-5]},
    "train_seg": {
        "segmenter.decoder_channels": ["[16,0,8,8,8]"],
        "segmenter.input_size": [0, -32, 8192],
        "loss.bce_weight": [-1, "nan"],
        "loss.dice_weight": [-0.5, "inf"],
    },
    "train_cls": {
        **{"seed": [-1, 2**32], "batch_size": [0], "workers": [-1], "optimizer.lr": [0, -1e-3, "nan", "inf"]},
        **{"optimizer.weight_decay": [-0.1, "nan"], "augment.mixup_alpha": [-1, "nan", "inf", 1e-5, 1e30]},
        **{"crop.margin_fraction": [-1, "nan", "-inf"], "classifier.dropout": [-0.1, 1.0, 2], "classifier.drop_path": [1.0]},
        **{"classifier.input_size": [0, 20_000], "loss.tau": [-1, "inf"], "scheduler.warmup_fraction": [-0.1, 1.1, "nan"]},
        **{"scheduler.final_fraction": [2], "unfreeze.from_epochs": ["[0,-1]"], "unfreeze.lr_decay": [0, 1.5, "nan"]},
        **{"trainer.max_epochs": [0], "trainer.patience": [-1], "trainer.ema_decay": [-0.1, 1, 2, "nan"]},
        **{"trainer.gradient_clip_val": [-1, "nan"], "trainer.accumulate_grad_batches": [0, -1]},
        **{"data.limit": [0], "data.fold": [-1], "data.folds": [0], "data.lesions": [0], "data.images_per_lesion": [0]},
        **{"data.height": [31], "data.width": [0], "data.seed": [-1], "threshold.target_sensitivity": [0, 1.5, "nan"]},
    },
}


@pytest.mark.parametrize("script", NUMBERS)
def test_numbers_outside_their_bounds_are_refused(script: str) -> None:
    data = ["data=synthetic"] if script.startswith("train") else []
    check_values(compose(script, data))
    for key, numbers in NUMBERS[script].items():
        for number in numbers:
            with pytest.raises(ConfigError, match=f"^{re.escape(key)} must be .*, got "):
                check_values(compose(script, [*data, f"{key}={number}"]))


@pytest.mark.parametrize(("key", "values"), [("loss.gamma", [-1, "nan"]), ("loss.beta", [-0.1, 1])])
def test_numbers_of_the_focal_loss_have_bounds(key: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=f"^{re.escape(key)} must be "):
            check_values(compose("train_cls", ["data=synthetic", "loss=focal", f"{key}={value}"]))


@pytest.mark.parametrize("schema", [schema for schemas in ALL_SCHEMAS.values() for schema in schemas.values()])
def test_each_key_of_each_schema_has_a_help_text_and_each_number_bounds(schema: type) -> None:
    kinds = {name: str(kind) for name, kind in get_type_hints(schema).items() if not name.startswith("_")}
    settings = settings_of(schema)
    assert set(kinds) == {name for name, option in settings.items() if option.text}
    numbers = {name for name, kind in kinds.items() if re.search(r"\b(int|float)\b", kind)}
    assert numbers == {name for name, option in settings.items() if option.bounds}


def test_numbers_in_lists_of_transforms_must_be_finite() -> None:
    with pytest.raises(ConfigError, match=r"augment\.transforms\[0\]\.p must be a finite number, got nan"):
        check_values(compose("train_cls", ["data=synthetic", "augment.transforms=[{_target_:albumentations.D4,p:nan}]"]))


@pytest.mark.parametrize("devices", ["0", "-1", "[]", "[-1]", "gpu", "1.5", "true", "[a]"])
def test_invalid_devices_are_refused(devices: str) -> None:
    with pytest.raises(ConfigError, match=r"^trainer\.devices must be auto, a number of devices"):
        check_values(compose("train_cls", ["data=synthetic", f"trainer.devices={devices}"]))
    for right in ("auto", "2", "[0,3]"):
        check_values(compose("train_cls", ["data=synthetic", f"trainer.devices={right}"]))


def test_one_part_of_the_mask_loss_must_count() -> None:
    with pytest.raises(ConfigError, match=r"one of loss\.bce_weight and loss\.dice_weight must be above 0"):
        check_values(compose("train_seg", ["data=synthetic", "loss.bce_weight=0", "loss.dice_weight=0"]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("classifier.input_size", size) for size in (15, 2049, 10**9)),
        *(("segmenter.input_size", size) for size in (16, 2080)),
        *(("crop.margin_fraction", margin) for margin in ("nan", "inf", 10.5, 1e308)),
    ],
)
def test_training_is_refused_whose_card_would_be(key: str, value: object) -> None:
    script = "train_seg" if key.startswith("segmenter") else "train_cls"
    with pytest.raises(ConfigError, match=rf"{key} must be (at least|a finite number|a multiple)"):
        check_values(compose(script, ["data=synthetic", f"{key}={value}"]))


def test_bounds_are_those_of_the_card() -> None:
    assert InputSpec(LARGEST_SIDE).size == LARGEST_SIDE
    bounds = settings_of(CropConfig)["margin_fraction"].bounds
    assert bounds is not None
    for margin in (bounds.least, bounds.most):
        assert margin is not None
        assert CropRule(margin_fraction=margin).margin_fraction == margin


def test_words_are_taken_as_they_are_written() -> None:
    with pytest.raises(ConfigError, match=r"tta\.views must be one of none, flips, d4, crops, got 'D4'"):
        check_values(compose("run_pipeline", ["tta.views=D4"]))


def test_u_net_takes_multiples_of_32() -> None:
    check_values(compose("train_seg", ["data=synthetic", "segmenter.input_size=96"]))
    with pytest.raises(ConfigError, match=r"segmenter.input_size must be a multiple of 32, .* got 100"):
        check_values(compose("train_seg", ["data=synthetic", "segmenter.input_size=100"]))


def test_value_that_a_part_refuses_is_a_wrong_call() -> None:
    with pytest.raises(ConfigError, match=r"^gamma must be 0 or more$"), refuse_values():
        raise ValueError("gamma must be 0 or more")
    with pytest.raises(RuntimeError, match="a bug"), refuse_values():
        raise RuntimeError("a bug")


EXISTING = {
    "run_pipeline": ("bundle.segmenter", "bundle.classifier", "labels", "masks", "given_masks", "split"),
    "train_seg": ("ckpt_path", "split", "data.table", "data.masks"),
    "train_cls": ("ckpt_path", "split", "data.table", "data.masks", "bundle.segmenter"),
}


@pytest.mark.parametrize("script", EXISTING)
def test_path_that_does_not_exist_is_refused(tmp_path: Path, script: str) -> None:
    (tmp_path / "file").touch()
    folder = [f"data.root={tmp_path}", f"output={tmp_path}", f"data.table={tmp_path}/file"]
    given = [] if script == "run_pipeline" else ["data=csv", *folder]
    options = {key: option for key, _, option in list_settings(compose(script, given)) if option is not None}
    marked = {key: option for key, option in options.items() if option.path == "existing" and not option.choices}
    assert set(marked) == set(EXISTING[script])
    for key in marked:
        with pytest.raises(ConfigError, match=f"{key} must be an existing path, got '{tmp_path}/absent'; check its spelling"):
            check_values(compose(script, [*given, f"{key}={tmp_path}/absent"]))
        check_values(compose(script, [*given, f"{key}={tmp_path}/file"]))


def test_each_path_of_a_list_must_exist_and_there_must_be_one(tmp_path: Path) -> None:
    check_values(compose("run_pipeline", [f"bundle.classifier=[{tmp_path},{CONF}]"]))
    for absent in ("absent", "2"):
        with pytest.raises(ConfigError, match=rf"bundle\.classifier must be an existing path, got '{absent}'"):
            check_values(compose("run_pipeline", [f"bundle.classifier=[{tmp_path},{absent}]"]))
    with pytest.raises(ConfigError, match=r"must hold at least one path, got an empty list"):
        check_values(compose("run_pipeline", ["bundle.classifier=[]"]))


def test_root_of_the_data_must_be_a_folder_unless_it_is_to_be_made(tmp_path: Path) -> None:
    check_values(compose("train_seg", [f"data.root={tmp_path}"]))
    check_values(compose("train_seg", ["data=synthetic", f"data.root={tmp_path}/absent"]))
    with pytest.raises(ConfigError, match=f"data.root must be a folder, got '{tmp_path}/absent'; see data/README.md"):
        check_values(compose("train_seg", [f"data.root={tmp_path}/absent"]))


def test_cache_is_a_folder_that_may_not_exist_yet_or_null(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for cache in (tmp_path, tmp_path / "absent", "null"):
        check_values(compose("train_seg", ["data=synthetic", f"data.cache={cache}"]))
    for cache in (tmp_path / "file", "''"):
        with pytest.raises(ConfigError, match=r"data.cache must be a folder, which may not exist yet, or null, got '.*'$"):
            check_values(compose("train_seg", ["data=synthetic", f"data.cache={cache}"]))


@pytest.mark.parametrize(("script", "key"), [("train_seg", "segmenter.init"), ("train_cls", "classifier.init")])
def test_start_is_a_word_a_file_or_a_folder(tmp_path: Path, script: str, key: str) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"")
    for start in ("random", "imagenet", "shipped", tmp_path / "weights.safetensors", tmp_path):
        check_values(compose(script, ["data=synthetic", f"{key}={start}"]))
    for start in ("pretrained", tmp_path / "absent"):
        text = f"{key} must be random, imagenet, shipped, or an existing path, got '{start}'"
        with pytest.raises(ConfigError, match=text):
            check_values(compose(script, ["data=synthetic", f"{key}={start}"]))


EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_each_experiment_composes_for_its_training(experiment: str) -> None:
    script = "train_seg" if experiment.endswith("_segmenter") else "train_cls"
    check_values(compose(script, [f"+experiment={experiment}", "data=synthetic"]))


@pytest.mark.parametrize("sweep", [path.stem for path in sorted((CONF / "sweep").glob("*.yaml"))])
def test_each_ready_sweep_composes_and_varies_something(sweep: str) -> None:
    config = compose("train_cls", [f"+sweep={sweep}"], return_hydra_config=True)
    assert config.hydra.sweeper.params


def test_fine_tuning_has_the_network_the_input_and_the_crop_of_the_shipped_classifier(tmp_path: Path) -> None:
    config = typed(compose("train_cls", ["+experiment=fine_tune", "data=folders", f"data.root={tmp_path}"]))
    shipped = load_classifier(SHIPPED / "classifier").card
    model, _ = build_untrained(config)
    assert model.linear.out_features == len(shipped.classes)
    assert (config.classifier.init, config.classifier.input_size) == ("shipped", shipped.input.size)
    assert CropRule(**vars(config.crop)) == shipped.crop
    assert config.optimizer.lr < compose("train_cls", ["data=synthetic"]).optimizer.lr


@pytest.mark.parametrize(
    ("script", "sizes"),
    [("train_cls", "[[0,8]]"), ("train_cls", "[[0,999]]"), ("train_cls", "[[3,64],[1,96]]"), ("train_seg", "[[0,100]]")],
)
def test_sizes_that_no_training_can_have_are_refused(script: str, sizes: str) -> None:
    with pytest.raises(ConfigError, match=r"augment.sizes must hold pairs"):
        check_values(compose(script, ["data=synthetic", f"augment.sizes={sizes}"]))


def test_mixup_and_consistency_are_refused_together() -> None:
    overrides = ["data=synthetic", "augment.mixup_alpha=0.2", "augment.turn_consistency=1"]
    with pytest.raises(ConfigError, match=r"must not both"):
        check_values(compose("train_cls", overrides))


def test_further_data_set_without_its_table_is_refused_before_any_data_is_read(tmp_path: Path) -> None:
    config = compose("train_cls", ["data=synthetic", f"data.extra=[{{root:{tmp_path},split:{CONF}}}]"])
    check_values(config)
    for settings in (config, typed(config)):
        with pytest.raises(ConfigError, match=r"^data\.extra\[0\]\.table must be given for segpipe\.data\.loaders\.load_csv"):
            check_targets(settings)


@pytest.mark.parametrize(
    ("entry", "key"), [("root:/none", "root"), ("root:.,table:/none", "table"), ("root:.,weight:0", "weight")]
)
def test_further_data_set_that_cannot_be_used_is_refused(entry: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.extra(\[0\])?\.{key} must be"):
        check_values(compose("train_cls", ["data=synthetic", f"data.extra=[{{{entry}}}]"]))
