"""Plain calls: composed as Hydra composes them, and left to Hydra where it reads more."""

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import omegaconf
import pytest

from segpipe.config import CONF, plain
from segpipe.config.composing import compose_config, typed
from segpipe.config.fields import MISSING, list_keys, to_dict
from segpipe.config.plain import compose_plain
from segpipe.config.prediction import RunPipelineConfig
from segpipe.errors import ConfigError

NAME = "run_pipeline"
SETTINGS = list(list_keys(RunPipelineConfig))
KEYS = [key for key, _ in SETTINGS]
GROUPS = [field.name for field in fields(RunPipelineConfig) if (CONF / field.name).is_dir()]
OPTIONS = ("d4", "gradcam")
# Values of every kind: right and wrong ones, and such that Hydra's grammar reads otherwise than they look.
VALUES = [
    *("", "null", "Null", "none", "true", "false", "True", "TRUE", "yes", "on", "auto", "nan", "inf", "gradcam", "d4", "mel"),
    *("unet", "contour", "local", "html", "float32", "train", "a.jpg", "photos/a.jpg", "my photos/a, b.jpg", "/tmp", ".", "~/a"),
    *("0", "1", "-1", "+1", "007", "1_000", "10", "1.5", "1e3", "0x10", "200000000", "9" * 30, "0/8", "a/b", "a:b", "a.b", "_"),
    *("[a,b]", "[]", "[", "{a:1}", "a,b", "'a'", '"a"', "a b", " a", "a ", "a=b", "${a}", "$a", "\\a", "a\\", "???", "!a", "#a"),
    *("é", "日本.jpg", "a\tb", "a\nb", "\x7f", "\udc80", "choice(a,b)", "range(1,3)", "int(1)", "~a", "@a", "a@b", "%a", "*.jpg"),
]
OTHER_CALLS = [
    *([], ["image=a.jpg"], ["image=a.jpg", "resume=true"], ["folder=photos", "output=out", "report=html", "resume=true"]),
    *(["image=a.jpg", "image=b.jpg"], ["tta=none", "tta=d4"], ["tta=none", "tta.views=d4"], ["tta.views=d4", "tta=none"]),
    *(["explain=none", "explain.diagnosis=mel"], ["explain={method:none}"], ["resume=true", "overwrite=true"]),
    *(
        ["--help"],
        ["-m", "tta=none,d4"],
        ["image"],
        [""],
        ["=a"],
        ["+image=a"],
        ["++image=a"],
        ["~image"],
        ["imag=a"],
        ["tta=d5"],
    ),
    *(["hydra.run.dir=x"], ["hydra=x"], ["hydra/job_logging=default"], ["bundle=a"], ["bundle.x=a"], ["bundle.classifier.x=a"]),
    *(
        ["tta="],
        ["tta=../tta/d4"],
        ["tta=d4.yaml"],
        ["tta@other=d4"],
        ["+tta=d4"],
        ["tta.views=none"],
        ["tta._x=1"],
        ["defaults=a"],
    ),
    *(["bundle.segmenter=.", "bundle.classifier=."], ["bundle.classifier=[.,.]"], ["labels=.", "masks=.", "part=test"]),
]


def by_hydra(arguments: list[str]) -> RunPipelineConfig | None:
    """Compose a call with Hydra; None for a wrong one."""
    try:
        config: RunPipelineConfig = typed(compose_config(NAME, arguments))
    except ConfigError:
        return None
    return config


def as_text(config: Any) -> str:
    """Write a configuration with the types and the order of its values."""
    assert is_dataclass(config)
    return json.dumps(to_dict(config)) + repr(config)


def assert_same(arguments: list[str]) -> bool:
    """Compare a call with Hydra's reading; return True where it was composed without Hydra."""
    found = compose_plain(NAME, RunPipelineConfig, arguments)
    if found is not None:
        expected = by_hydra(arguments)
        assert expected is not None, arguments
        assert as_text(found) == as_text(expected), arguments
    return found is not None


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plain_keys(value: str) -> list[str]:
    """List the keys for which a value is read without Hydra."""
    return [key for key in [*KEYS, *GROUPS] if compose_plain(NAME, RunPipelineConfig, [f"{key}={value}"]) is not None]


@pytest.mark.parametrize("value", VALUES)
def test_each_value_is_read_as_hydra_reads_it(value: str, tmp_path: Path) -> None:
    with suppress(OSError, ValueError):  # some are no names of files
        (tmp_path / value).touch()  # so that a path to it exists
    keys = plain_keys(value)
    assert not (keys and set(value) & set("[]{}'\"$\\?*\n"))
    # In one call, because Hydra takes long; resume and overwrite exclude each other.
    assert_same([f"{key}={value}" for key in keys if key != "resume"])


def test_each_key_has_values_that_need_no_hydra() -> None:
    Path("a.jpg").touch()
    words = ["null", "true", "7", "auto", "a.jpg", *(word for _, setting in SETTINGS for word in setting.choices), *OPTIONS]
    assert {key for word in words for key in plain_keys(word)} == {*KEYS, *GROUPS}


@pytest.mark.parametrize("arguments", OTHER_CALLS, ids=" ".join)
def test_each_call_is_read_as_hydra_reads_it(arguments: list[str]) -> None:
    assert_same(arguments)


def test_every_option_is_composed_plainly() -> None:
    options = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in GROUPS}
    calls = [[f"{group}={option}" for group, option in zip(options, chosen, strict=True)] for chosen in chosen_of(options)]
    assert GROUPS == ["tta", "explain"] and len(calls) == 8
    assert all(assert_same(call) for call in calls)


def chosen_of(options: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    return itertools.product(*options.values())


@pytest.mark.parametrize(
    "arguments",
    [["image=a.jpg"], ["image=my photos/a, b.jpg", "figures=false"], ["folder=/data/ham", "output=out", "tta=none", "workers=4"]],
    ids=" ".join,
)
def test_usual_calls_need_no_hydra(arguments: list[str]) -> None:
    assert assert_same(arguments)


@pytest.mark.parametrize(
    "text",
    [
        "defaults: [other_schema, _self_]",
        "defaults: [run_pipeline_schema, tta: d4, explain: gradcam, _self_]",
        "defaults: [run_pipeline_schema, tta: null, explain: gradcam]\nhydra: {run: {dir: .}, output_subdir: null}",
        "defaults: [run_pipeline_schema]\nhydra: {run: {dir: .}, output_subdir: null, searchpath: [x]}",
        "defaults: [run_pipeline_schema]\nhydra: {run: {dir: .}, output_subdir: null}\nworkers: 1",
        "[a, b",
        "text",
    ],
)
def test_changed_primary_configuration_is_left_to_hydra(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.yaml").write_text(text)
    monkeypatch.setattr(plain, "CONF", tmp_path)
    assert compose_plain(NAME, RunPipelineConfig, ["image=a.jpg"]) is None


@pytest.mark.parametrize("text", ["views: d4", "defaults: [tta_schema]", "defaults: [tta_schema]\nviews: [d4]", "defaults: [x]"])
def test_changed_option_is_left_to_hydra(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (f"{NAME}.yaml", "explain/gradcam.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((CONF / name).read_bytes())
    (tmp_path / "tta").mkdir()
    (tmp_path / "tta" / "d4.yaml").write_text(text)
    monkeypatch.setattr(plain, "CONF", tmp_path)
    assert compose_plain(NAME, RunPipelineConfig, ["image=a.jpg"]) is None


def test_missing_value_is_that_of_omegaconf() -> None:
    assert MISSING == omegaconf.MISSING
