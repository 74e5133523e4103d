"""Arguments written in messages, which a shell and Hydra must read back."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from segpipe.config.arguments import as_argument
from segpipe.config.composing import quote_paths

TEXTS = [
    "nv",
    "mole (dark)",
    "a,b",
    "it's",
    'say "no"',
    "x=y",
    "[a]",
    "{a: b}",
    "null",
    "True",
    "1e3",
    "12",
    "",
    " ",
    "naïve",
    "a\\",
]
TEXTS += [
    'back\\"slash',
    "${seed}",
    "a:b",
    "$HOME",
    "`x`",
    "a#b",
    "*",
    "a b",
    "NaN",
    "-1",
    "a\\\\",
    '\\"',
    "é",
    "&",
    "a+b",
    "50 %",
    "~",
]


def read_back(argument: str) -> Any:
    """Return the value that a script reads from an argument in a shell."""
    (word,) = shlex.split(argument)
    (override,) = OverridesParser.create().parse_overrides(quote_paths([word]))
    config = OmegaConf.create({"seed": 3})
    OmegaConf.update(config, "found", override.value(), force_add=True)
    found = config.found
    return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read_back_alone_and_in_lists(text: str) -> None:
    assert read_back(as_argument("data.classes", text)) == text
    assert read_back(as_argument("data.classes", [text, "b", text])) == [text, "b", text]


@pytest.mark.parametrize("value", [None, True, False, 3, 0.25, 1e-5, [1, 2], [], {"a": 1, "b": ["c d"]}])
def test_other_values_are_read_back(value: Any) -> None:
    assert read_back(as_argument("key", value)) == value


@pytest.mark.parametrize("path", ["a b/c.ckpt", "a=b,c[1]", "it's/x", "$HOME/${a}", "plain/last.ckpt"])
def test_paths_are_taken_literally(path: str) -> None:
    assert read_back(as_argument("ckpt_path", Path(path))) == path
