"""Messages for wrong calls, with the configurations of the three scripts."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segpipe.config.arguments import explain, explain_unknown_key, unwrap
from segpipe.config.composing import quote_paths
from segpipe.errors import ConfigError, DatasetError

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def refusal(script: str, *overrides: str) -> str:
    """Return the message for a call, or `accepted`."""
    try:
        compose(script, list(overrides))
    except Exception as error:
        return explain(error, overrides)
    return "accepted"


WRONG_PIPELINE_CALLS = {
    "imge=a.jpg": r"unknown key imge=a\.jpg; did you mean image\? --help lists the keys",
    "qqq=1": r"unknown key qqq=1; --help lists the keys",
    "explain.diagnosi=mel": r"unknown key explain\.diagnosi=mel; did you mean explain\.diagnosis\? --help lists the keys",
    "hydra.run.dirr=x": r"unknown key hydra\.run\.dirr=x; did you mean hydra\.run\.dir.*",
    "loss=focal": r"unknown key loss, a config group that this script does not use; --help lists the keys",
    "batch_size=abc": r'batch_size must be an integer, got "abc"',
    "max_pixels=null": r"max_pixels must be an integer, got null",
    "crops=maybe": r'crops must be true or false, got "maybe"',
    "localize=[unet]": r'localize must be a text, got \["unet"\]',
    "bundle=x": r'bundle must be set key by key \(bundle\.segmenter, bundle\.classifier\), got "x"',
    "tta=d5": r"tta must be one of crops, d4, flips, none, got d5",
    "tta=null": r"a config group must be given one of its options by name, got tta=null; --help lists them",
    "tta=d4,none": r"tta must be a single value, got d4,none; --multirun tries each of them, \[a,b\] is a list",
    "batch_size=range(1,3)": r"batch_size must be a single value, got range\(1,3\); --multirun tries each of them.*",
    "localize=a=b": r"""localize must be a value that Hydra can read, got a=b; quote it twice: 'localize="a=b"'""",
    "photo.jpg": r"an argument must be key=value, got photo\.jpg; write image=photo\.jpg or folder=photo\.jpg, for example.*",
    "": r"an argument must be key=value, got an empty one; write image=FILE or folder=DIR, for example.*",
    "+device=cpu": r"Could not append to config\. An item is already at 'device'.*",
}


@pytest.mark.parametrize("override", WRONG_PIPELINE_CALLS)
def test_a_wrong_call_is_explained_in_one_line(override: str) -> None:
    assert re.fullmatch(WRONG_PIPELINE_CALLS[override], refusal("run_pipeline", override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.patiense=3",
            "unknown key trainer.patiense=3; did you mean trainer.patience? --help lists the keys",
        ),
        ("loss.tau=a", 'loss.tau must be a number, got "a"'),
        ("unfreeze.from_epochs=3", "unfreeze.from_epochs must be a list such as [a,b], got 3"),
        ("crop=tigth", "crop must be one of margin, masked, tight, whole_image, got tigth"),
        ("logger=wanb", "logger must be one of csv, mlflow, tensorboard, wandb, got wanb"),
        ("logger=[csv,wanb]", "logger has no option wanb; --help lists them"),
        ("logger.wandb.project=mine", "unknown key logger.wandb; --help lists the keys"),
    ],
)
def test_a_wrong_key_of_a_training_is_explained(override: str, message: str) -> None:
    assert refusal("train_cls", override) == message


def test_wrong_element_is_named_by_its_index() -> None:
    assert refusal("train_cls", "unfreeze.from_epochs=[0,a]").startswith("unfreeze.from_epochs[1]: Value 'a'")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "patiense: 3",
            "unknown key trainer.patiense; did you mean trainer.patience? --help lists the keys",
        ),
        ("max_epochs: many", 'trainer.max_epochs must be an integer, got "many"'),
    ],
)
def test_the_file_of_a_mistake_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\ntrainer:\n  {line}\n")
    text = refusal("train_seg", f"hydra.searchpath=[file://{tmp_path}]", "+experiment=mine")
    assert text == f"{message} (in experiment/mine.yaml)"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": "???"}, "seed must be given, got nothing; write seed=..."),
        ({"seed": "${nowhere}"}, "seed must refer to a value that exists: Interpolation key 'nowhere' not found"),
    ],
)
def test_what_shows_only_when_a_value_is_read_is_explained(values: dict[str, str], message: str) -> None:
    with pytest.raises(Exception, match="seed") as caught:
        OmegaConf.create(values).seed  # noqa: B018 - reading it fails
    assert explain(caught.value, []) == message


def test_an_unknown_key_is_shown_as_it_was_written() -> None:
    arguments = ["image=a", "++seedd=1"]
    assert explain_unknown_key("seedd", ["seed"], arguments) == "unknown key ++seedd=1; did you mean seed? --help lists the keys"


def refuse(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (DatasetError("no metadata"), DatasetError, "no metadata"),
        (ValueError("gamma must be 0 or more, got -1"), ConfigError, "loss: gamma must be 0 or more, got -1"),
        (KeyError("a bug"), InstantiationException, "Error in call to target .*a bug"),
    ],
)
def test_error_of_a_target_is_unwrapped(raised: Exception, kind: type[Exception], message: str) -> None:
    config = OmegaConf.create({"loss": {"_target_": f"{__name__}.refuse"}})
    with pytest.raises(InstantiationException, match="refuse") as caught:
        instantiate(config.loss, error=raised)
    error = unwrap(caught.value)
    assert type(error) is kind and re.match(message, str(error), re.DOTALL)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("[mole (dark)]", ["mole (dark)"]),
        ("[mole (dark), nevus (blue)]", ["mole (dark)", "nevus (blue)"]),
        ("['a, b', it (c)]", ["a, b", "it (c)"]),
        ("[naevus (é),50 % (x)]", ["naevus (é)", "50 % (x)"]),
        ('[say "no" (x)]', ['say "no" (x)']),
    ],
)
def test_advice_for_a_list_is_a_call_that_works(value: str, meant: list[str]) -> None:
    assert advised("train_cls", f"data.malignant={value}", "data=folders", "data.root=x").data.malignant == meant


@pytest.mark.parametrize("value", ["a=b", "mel (1)", "'", "a{b", "it's", "[a", "a]b"])
def test_advice_for_a_text_is_a_call_that_works(value: str) -> None:
    assert advised("run_pipeline", f"explain.diagnosis={value}").explain.diagnosis == value


@pytest.mark.parametrize("name", ["photo.jpg", "my photo.jpg", "it's (1).jpg", "a[1].png", "café.jpg"])
def test_advice_for_a_bare_name_is_a_call_that_works(name: str) -> None:
    said = refusal("run_pipeline", name)
    words = {
        key: next(word for word in shlex.split(said.partition("; write ")[2]) if word.startswith(key))
        for key in ("image=", "folder=")
    }
    assert compose("run_pipeline", quote_paths([words["image="]])).image == name
    assert compose("run_pipeline", quote_paths([words["folder="].removesuffix(",")])).folder == name


def advised(script: str, override: str, *others: str) -> Any:
    """Compose the call that the message for another call advises."""
    said = refusal(script, *others, override)
    (word,) = shlex.split(said.partition("quote it twice: ")[2])
    return compose(script, [*others, word])
