"""Strict JSON is written without NaN and read without leniency."""

import json
from pathlib import Path
from typing import Any

import pytest

from segpipe.io.files import MAX_BYTES, MAX_LEVELS, encode_json, parse_json, read_json


def refuse_constant(word: str) -> None:
    raise AssertionError(word)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("indent", [None, 2])
def test_non_finite_values_are_written_as_null(value: float, indent: int | None) -> None:
    content: dict[str, Any] = {"a": value, "b": [value, 1.5, (value, {"c": value})], "d": {"e": 0}}
    text = encode_json(content, indent=indent)
    assert json.loads(text, parse_constant=refuse_constant) == {"a": None, "b": [None, 1.5, [None, {"c": None}]], "d": {"e": 0}}
    assert text.count(b"\n") == (1 if indent is None else len(text.splitlines()))


def test_paths_and_undecodable_bytes_are_written() -> None:
    assert json.loads(encode_json({"path": Path("a/b"), "name": "\udcff", "ä": "é"})) == {
        "path": "a/b",
        "name": "\udcff",
        "ä": "é",
    }
    with pytest.raises(TypeError):
        encode_json({"object": object()})


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "[-1e400]", '{"a": 1, "a": 2}', "[1,]", "", "\x00"]
)
def test_other_than_strict_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.json").write_text(text)
    for read in (lambda: parse_json(text.encode()), lambda: read_json(tmp_path / "file.json")):
        with pytest.raises(ValueError, match=r"."):
            read()


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 2000, 200_000])
def test_depth_is_limited(levels: int) -> None:
    for begin, end in (("[", "]"), ('{"a":', "}")):
        with pytest.raises(ValueError, match=f"at most {MAX_LEVELS} levels"):
            parse_json((begin * levels + "1" + end * levels).encode())
    deep = "[" * (MAX_LEVELS - 1) + "1" + "]" * (MAX_LEVELS - 1)
    assert encode_json(parse_json(deep.encode()), indent=None).decode().strip() == deep


def test_size_is_limited_before_a_file_is_read_completely(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**34)  # sparse
    with pytest.raises(ValueError, match=f"at most {MAX_BYTES:,} bytes"):
        read_json(tmp_path / "huge.json")
