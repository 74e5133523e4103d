"""The help texts of the three scripts keep up with the keys and the config groups."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segpipe.config import RunPipelineConfig, TrainClsConfig, TrainSegConfig

CONF = Path(__file__).parents[2] / "conf"
SCRIPTS = {"run_pipeline": RunPipelineConfig, "train_seg": TrainSegConfig, "train_cls": TrainClsConfig}


def words(script: str) -> set[str]:
    template = OmegaConf.to_container(OmegaConf.load(CONF / "hydra" / "help" / f"{script}.yaml"))["template"]
    return set(re.findall(r"\w+", template))


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_key_is_explained(script: str) -> None:
    assert {field.name for field in fields(SCRIPTS[script])} - words(script) == set()


def test_each_option_of_a_config_group_is_named() -> None:
    options = {path.stem for path in CONF.glob("*/*.yaml") if path.parent.name != "experiment"}
    assert len(options) > 10
    assert options - set.union(*map(words, SCRIPTS)) == set()
