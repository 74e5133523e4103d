"""Objects built from settings: typed or composed settings alike, missing arguments and refused values in one line."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segpipe.config.building import build
from segpipe.config.composing import compose_config, typed
from segpipe.config.fields import to_dict
from segpipe.config.schemas import TrainClsConfig
from segpipe.config.training_groups import TrainerConfig, WandbConfig
from segpipe.errors import ConfigError, DatasetError


def test_typed_settings_build_what_composed_settings_build() -> None:
    composed = compose_config("train_cls", ["data=synthetic", "loss=focal", "loss.gamma=3"])
    objects = [build(settings.loss, "loss", counts=[1, 2]) for settings in (composed, typed(composed))]
    assert [loss.gamma for loss in objects] == [3, 3]
    transforms = [build(settings.augment.transforms, "augment") for settings in (composed, typed(composed))]
    assert list(map(repr, transforms[0])) == list(map(repr, transforms[1]))


def test_typed_configuration_has_the_types_and_values_of_the_composed_one() -> None:
    composed = compose_config("train_cls", ["data=synthetic", "logger=[csv,wandb]", "augment=classification_strong"])
    config = typed(composed)
    assert isinstance(config, TrainClsConfig)
    assert isinstance(config.logger["wandb"], WandbConfig)
    assert to_dict(config) == OmegaConf.to_container(composed, resolve=True)


def test_added_argument_of_the_trainer_is_kept() -> None:
    config = typed(compose_config("train_cls", ["data=synthetic", "+trainer.enable_progress_bar=false"]))
    assert isinstance(config.trainer, TrainerConfig)
    assert to_dict(config.trainer)["enable_progress_bar"] is False


@pytest.mark.parametrize(
    ("settings", "group", "key", "missing"),
    [
        ({"_target_": "segpipe.data.loaders.load_csv", "root": "."}, "data", "data.extra[0]", r"data\.extra\[0\]\.table"),
        ({"_target_": "segpipe.losses.classification.build_logit_adjusted_loss", "tau": 1}, "loss", None, r"loss\.counts"),
        ([{"_target_": "segpipe.data.loaders.load_folders"}], "data", None, r"data\[0\]\.root"),
    ],
)
def test_missing_argument_is_named_by_its_key(settings: object, group: str, key: str | None, missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{missing} must be given for segpipe\.") as refused:
        build(settings, group, key)
    assert "\n" not in str(refused.value)


def test_missing_argument_of_a_part_that_is_completed_later_is_no_error() -> None:
    assert build({"_target_": "torch.optim.AdamW", "lr": 0.1}, "optimizer", _partial_=True) is not None


def test_refused_value_is_named_by_the_key_of_its_target(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^loss: .*weighting must be one of"):
        settings = {"_target_": "segpipe.losses.classification.build_focal_loss", "gamma": 2, "beta": 0.9, "weighting": "maybe"}
        build(settings, "loss", counts=[1, 2])
    with pytest.raises(DatasetError, match=str(tmp_path)):
        build({"_target_": "segpipe.data.loaders.load_ham10000", "root": str(tmp_path)}, "data")
