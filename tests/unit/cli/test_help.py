"""Help pages of the subcommands, which list the keys of their schemas and the options of their config groups."""

import re
import shlex
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from segpipe.cli.main import list_subcommands, main
from segpipe.cli.running import DISCLAIMER, help_page, list_options
from segpipe.cli.subcommands import SUBCOMMANDS
from segpipe.config import CONF
from segpipe.config.composing import quote_paths
from segpipe.config.fields import list_keys
from segpipe.config.schemas import SCHEMAS

ADDED = ("experiment", "sweep")  # groups that no schema has


def lines_of(name: str) -> set[str]:
    """Keys and options at the beginning of the lines of a page."""
    return set(re.findall(r"^  ([\w.+=\[\]]+)  ", help_page(SUBCOMMANDS[name]), re.MULTILINE))


def keys_of(name: str) -> Iterator[str]:
    subcommand = SUBCOMMANDS[name]
    for key, _ in list_keys(SCHEMAS[None][subcommand.config]):
        if not subcommand.keys or key.partition(".")[0] in subcommand.keys:
            yield "logger=csv" if key == "logger" else key


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_key_of_a_schema_has_a_line(name: str) -> None:
    assert set(keys_of(name)) - lines_of(name) == set()


def test_each_option_of_each_config_group_has_a_line() -> None:
    options = {f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml")}
    prefixed = {f"+{option}" if option.partition("=")[0] in ADDED else option for option in options}
    assert len(prefixed) > 40
    assert prefixed - lines_of("train-cls") - lines_of("train-seg") - lines_of("predict") == set()


@pytest.mark.parametrize("group", [*filter(None, SCHEMAS), *ADDED])
def test_each_option_of_a_config_group_begins_with_a_sentence_about_it(group: str) -> None:
    options = list_options(group)
    assert options
    for option in options:
        assert re.match(r"[A-Z].*\w", option.summary), option
        assert len(option.summary) < 200
        assert (option.schema is not None) == ((group not in ADDED and option.name != "csv") or group == "data"), option


def test_key_of_one_option_names_it() -> None:
    page = " ".join(help_page(SUBCOMMANDS["train-cls"]).split())
    assert re.search(r"data\.table Table [^;]*; only with csv ", page)
    assert re.search(r"loss\.tau [^.]*; only with logit_adjusted ", page)
    assert "logger.wandb.project Project of the run logger.wandb.name" in page


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_a_subcommand_shows_the_call(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"segpipe {name}: ")
    assert f"  segpipe {name}" in out
    assert DISCLAIMER in out
    assert max(map(len, out.partition("All keys with their values")[0].splitlines())) < 250


@pytest.mark.parametrize(
    ("config", "example"), [(entry.config, example) for entry in SUBCOMMANDS.values() for example in entry.examples]
)
def test_example_of_a_page_composes(config: str, example: str) -> None:
    arguments = [word if "[" in word else word.partition(",")[0] for word in shlex.split(example) if not word.startswith("--")]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(config, quote_paths(arguments))


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"], ["-h"]])
def test_list_of_the_subcommands_has_a_line_for_each(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr() == (list_subcommands(), "")
    for name, subcommand in SUBCOMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(subcommand.summary)}$", list_subcommands(), re.MULTILINE)
    assert max(map(len, list_subcommands().splitlines())) <= 100


@pytest.mark.parametrize("name", ["card", "audit gate"])
def test_help_takes_the_name_of_a_subcommand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", *name.split()]) == 0
    assert capsys.readouterr().out.startswith(f"segpipe {name}: ")
