"""The help texts of the subcommands keep up with the keys and the config groups."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segpipe.cli.main import SUBCOMMANDS, list_subcommands, main
from segpipe.config.commands import (
    AblationsConfig,
    AppServerConfig,
    CardConfig,
    CompareConfig,
    ExportConfig,
    HeatmapsConfig,
    SyntheticSamplesConfig,
)
from segpipe.config.composing import CONF
from segpipe.config.schemas import RunPipelineConfig, TrainClsConfig, TrainSegConfig

SCHEMAS = {
    "run_pipeline": RunPipelineConfig,
    "train_seg": TrainSegConfig,
    "train_cls": TrainClsConfig,
    "compare": CompareConfig,
    "ablations": AblationsConfig,
    "heatmaps": HeatmapsConfig,
    "export": ExportConfig,
    "card": CardConfig,
    "synthetic": SyntheticSamplesConfig,
    "app": AppServerConfig,
}
WITH_GROUPS = ("run_pipeline", "train_seg", "train_cls")


def words(page: str) -> set[str]:
    template = OmegaConf.to_container(OmegaConf.load(Path(CONF, "hydra", "help", f"{page}.yaml")))["template"]
    return set(re.findall(r"\w+", template))


@pytest.mark.parametrize("page", SCHEMAS)
def test_each_key_is_explained(page: str) -> None:
    assert {field.name for field in fields(SCHEMAS[page])} - words(page) == set()


def test_each_option_of_a_config_group_is_named() -> None:
    options = {path.stem for path in Path(CONF).glob("*/*.yaml") if path.parent.name != "experiment"}
    assert len(options) > 10
    assert options - set.union(*map(words, WITH_GROUPS)) == set()


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_a_subcommand_names_the_call(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"segpipe {name}: ")
    assert f"  segpipe {name}" in out
    assert "Not a medical device." in out


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"], ["-h"]])
def test_the_command_lists_its_subcommands_with_a_line_each(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr() == (list_subcommands(), "")
    for name, subcommand in SUBCOMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(subcommand.summary)}$", list_subcommands(), re.MULTILINE)
    assert max(map(len, list_subcommands().splitlines())) <= 100


def test_help_takes_the_name_of_a_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "card"]) == 0
    assert capsys.readouterr().out.startswith("segpipe card: ")
