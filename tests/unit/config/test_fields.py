"""Metadata of schema fields, from which checks, help pages and the quoting of paths are derived."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from segpipe.cli.main import main
from segpipe.cli.running import help_page
from segpipe.cli.subcommands import SUBCOMMANDS
from segpipe.config import schemas
from segpipe.config.commands import CardConfig
from segpipe.config.composing import compose_config, path_keys, quote_paths
from segpipe.config.fields import Bounds, setting, settings_of
from segpipe.errors import ConfigError


@dataclass
class WiderCardConfig(CardConfig):
    """Model card with further keys."""

    template: str | None = setting(None, "Template of the card", path="existing")
    style: str = setting("plain", "Style of the card", choices={"plain": "text alone", "rich": ""})
    columns: int = setting(80, "Width of the card", least=20, most=200)


@pytest.fixture
def wider_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A schema with added fields, which Hydra knows only during a test."""
    with monkeypatch.context() as changed:
        changed.setitem(schemas.SCHEMAS[None], "card", WiderCardConfig)
        schemas.register_schemas()
        yield
    schemas.register_schemas()


@pytest.mark.usefixtures("wider_card")
def test_added_key_has_its_checks() -> None:
    assert compose_config("card", ["style=rich", "columns=100"]).columns == 100
    for argument, rule in {
        "style=loud": "style must be one of plain, rich, got 'loud'",
        "columns=10": "columns must be at least 20 and at most 200, got 10",
        "columns=wide": 'columns must be an integer, got "wide"',
        "template=absent": "template must be an existing path, got 'absent'",
    }.items():
        with pytest.raises(ConfigError, match=rule):
            compose_config("card", [argument])


@pytest.mark.usefixtures("wider_card")
def test_added_key_has_its_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "--help"]) == 0
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if "  " in line.strip()}
    assert lines["template"] == "Template of the card"
    assert lines["style"] == "Style of the card: plain (text alone), rich"
    assert lines["columns"] == "Width of the card (at least 20 and at most 200)"


@pytest.mark.usefixtures("wider_card")
def test_added_path_is_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b, [c]").touch()
    assert quote_paths(["template=a=b, [c]", "style=a=b"]) == ["template='a=b, [c]'", "style=a=b"]
    assert compose_config("card", ["template=a=b, [c]"]).template == "a=b, [c]"


def test_key_that_is_not_in_a_schema_is_no_path() -> None:
    assert "template" not in path_keys()
    assert {"image", "data.root", "bundle.classifier", "segmenter.init", "distill.teacher"} <= path_keys()


def test_page_of_a_part_of_the_keys_lists_only_these() -> None:
    page = help_page(replace(SUBCOMMANDS["check"], keys=("seed",)))
    assert "  seed  " in page and "  data.root  " not in page and "  batch_size  " not in page


@pytest.mark.parametrize(
    ("bounds", "text", "inside", "outside"),
    [
        ({"least": 1}, "1 or more", [1, 5], [0]),
        ({"above": 0}, "above 0", [0.1], [0, -1]),
        ({"least": 0, "below": 1}, "at least 0 and below 1", [0, 0.9], [1, -0.1]),
        ({"least": 0.01, "most": 100, "or_zero": True}, "0, or at least 0.01 and at most 100", [0, 0.01], [0.001, 101]),
    ],
)
def test_bounds_describe_and_check_a_number(
    bounds: dict[str, float], text: str, inside: list[float], outside: list[float]
) -> None:
    found = Bounds(**bounds)
    assert str(found) == text
    assert all(number in found for number in inside)
    assert not any(number in found for number in outside)


def test_metadata_of_what_is_no_dataclass_is_empty() -> None:
    assert settings_of(dict) == {}
