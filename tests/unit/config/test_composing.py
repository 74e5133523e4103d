"""Workflows called from Python: wrong calls in one line, and no trace of Hydra left behind."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from segpipe.config.composing import compose_config
from segpipe.config.schemas import TrainClsConfig, TrainSegConfig
from segpipe.errors import ConfigError
from segpipe.workflows.calls import FolderResult, TrainingResult, own_folder, training_config
from segpipe.workflows.prediction import predict_folder
from segpipe.workflows.training import train_classifier, train_segmenter


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no Hydra that another test left."""
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRONG_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"folder": None}, "folder must be a path, got None"),
    ({"folder": ""}, "folder must be a path, got ''"),
    ({"folder": "nowhere"}, "folder must be an existing folder, got nowhere"),
    ({"output": 3}, "output must be a path, got 3"),
    ({"classifier": []}, "bundle.classifier.* must hold at least one path"),
    ({"classifier": "nowhere"}, "bundle.classifier must be an existing path, got 'nowhere'"),
    ({"classifier": {"a": 1}}, "classifier must be a path, got {'a': 1}"),
    ({"segmenter": b"x"}, "segmenter must be a path, got b'x'"),
    ({"labels": pd.DataFrame({"image": ["a"]})}, "labels must be a path, got "),
    ({"masks": "nowhere"}, "masks must be an existing path, got 'nowhere'"),
    ({"part": "tests"}, "part must be one of train, val, test, got 'tests'"),
    ({"part": "test"}, "part=test needs split=CSV"),
    ({"tta": "d5"}, "tta must be one of crops, d4, flips, none, got d5"),
    ({"tta": None}, "tta must be one of crops, d4, flips, none, got None"),
    ({"explain": True}, "explain must be one of gradcam, none, got True"),
    ({"localize": "net"}, "localize must be one of unet, contour, whole_image, got 'net'"),
    ({"precision": "half"}, "precision must be one of .*got 'half'"),
    ({"figures": 3}, "figures must be one of auto, true, false, got '3'"),
    ({"crops": "maybe"}, 'crops must be true or false, got "maybe"'),
    ({"report": "docx"}, "report must be one of none, html, pdf, contact_sheet, got 'docx'"),
    ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
    ({"batch_size": "many"}, 'batch_size must be an integer, got "many"'),
    ({"workers": -1}, "workers must be 0 or more, got -1"),
    ({"max_pixels": 0}, "max_pixels must be 1 or more, got 0"),
    ({"resume": True, "overwrite": True}, "one of resume=true.* and overwrite=true"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG_ARGUMENTS)
def test_wrong_argument_of_predict_folder_is_one_line(changed: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        predict_folder(**{"folder": folder} | changed)
    assert isinstance(refused.value, ValueError)
    assert "\n" not in str(refused.value) and "--help" not in str(refused.value)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("train", [train_classifier, train_segmenter])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data=synthetic", "must be given a list of overrides"),
        (None, "must be given a list of overrides"),
        ([1], "must be given a list of overrides"),
        (["data=synthetic", "foo=1"], "unknown key foo=1"),
        (["data=synthetic", "trainer.max_epoch=1"], r"unknown key trainer\.max_epoch=1; did you mean trainer\.max_epochs"),
        (["data=nothing"], "data must be one of"),
        (["data=synthetic", "batch_size=x"], "batch_size must be an integer"),
        (["--help"], "an argument must be key=value, got --help"),
        (["data=synthetic", "optimizer.lr=1,2"], "optimizer.lr must be a single value"),
        (["data=synthetic", "hydra.job.env_copy=[SECRET]"], "env_copy must be empty"),
    ],
)
def test_wrong_overrides_of_a_training_are_one_line(
    train: Any, given: Any, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hush")
    with pytest.raises(ConfigError, match=message) as refused:
        train(given, output=folder / "out")
    assert "\n" not in str(refused.value)
    assert not list(folder.iterdir())


def test_typed_configuration_is_that_of_the_overrides(folder: Path) -> None:
    overrides = ["data=synthetic", "trainer.max_epochs=1"]
    composed = training_config(overrides, "train_cls", TrainClsConfig, folder / "a, b")
    typed = OmegaConf.to_object(compose_config("train_cls", overrides))
    assert isinstance(typed, TrainClsConfig)
    assert training_config(typed, "train_cls", TrainClsConfig, folder / "a, b") == composed
    assert own_folder(composed.output) == folder / "a, b"


def test_typed_configuration_is_checked() -> None:
    typed = OmegaConf.to_object(compose_config("train_seg", ["data=synthetic"]))
    typed.batch_size = 0
    with pytest.raises(ConfigError, match="batch_size must be 1 or more, got 0"):
        train_segmenter(typed)
    with pytest.raises(ConfigError, match="an instance of TrainClsConfig"):
        train_classifier(typed)
    with pytest.raises(ConfigError, match="must be given"):
        train_segmenter(TrainSegConfig())


def test_hydra_of_a_caller_is_left_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own").mkdir()
    (folder / "own" / "main.yaml").write_text("user: ${oc.env:NAME}\nmine: ${mine:3}\n")
    monkeypatch.setenv("NAME", "ann")
    OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)  # a command called before in this process refuses it
    OmegaConf.register_new_resolver("mine", lambda value: value + 1, replace=True)
    for _ in range(2):
        compose_config("card")
        assert not GlobalHydra.instance().is_initialized()
    with initialize_config_dir(str(folder / "own"), version_base="1.2"):
        outer = GlobalHydra.instance().hydra
        compose_config("card")
        with pytest.raises(ConfigError):
            compose_config("card", ["nokey=1"])
        assert GlobalHydra.instance().hydra is outer
        config = compose("main")
    assert (config.user, config.mine) == ("ann", 4)
    assert not HydraConfig.initialized()
    OmegaConf.clear_resolver("mine")


@pytest.mark.parametrize("path", ["a, b=c", "[x]", "null", "${oc.env:HOME}", "it's", '"q"', "é\\"])
def test_paths_are_taken_literally(path: str, folder: Path) -> None:
    (folder / path).mkdir()
    values = {"folder": path, "bundle.classifier": [path, path], "labels": path, "output": path}
    config = compose_config("run_pipeline", values=values)
    assert (config.folder, config.labels, config.output, list(config.bundle.classifier)) == (path, path, path, [path, path])


def test_table_of_results_has_numbers_and_texts(folder: Path) -> None:
    header = "path,diagnosis,confidence,p_1,flagged,mask_reasons,box_top,tta_spread,warnings,crop_border"
    rows = "NA,1,0.5,0.5,true,,3,,,squeeze\nnull.jpg,nv,0.25,0.1,false,x;y,4,,w,reflect\n"
    (folder / "results.csv").write_text(f"{header}\n{rows}")
    result = FolderResult.read(folder, [], {})
    table = result.table
    assert table["path"].to_list() == ["NA", "null.jpg"]
    assert table["diagnosis"].to_list() == ["1", "nv"]
    assert table["mask_reasons"].to_list() == ["", "x;y"]
    assert table["flagged"].to_list() == [True, False] and table["flagged"].dtype == "boolean"
    assert table["crop_border"].to_list() == ["squeeze", "reflect"]
    assert table["box_top"].dtype == int
    assert table["confidence"].dtype == table["tta_spread"].dtype == float
    assert table["tta_spread"].isna().all()
    assert [list(row) for row in result.rows] == [header.split(",")] * 2
    assert list(result.rows[0].values()) == ["NA", "1", 0.5, 0.5, True, "", 3, None, "", "squeeze"]
    assert list(result.rows[1].values()) == ["null.jpg", "nv", 0.25, 0.1, False, "x;y", 4, None, "w", "reflect"]


def test_results_unpack_and_show_themselves_on_a_line(folder: Path) -> None:
    (folder / "results.csv").write_text("path,confidence,flagged\na.jpg,0.5,\n")
    result = FolderResult.read(folder, [("b.jpg", "no image")], {"images": 1})
    table, failures = result
    assert len(table) == 1
    assert table["flagged"].isna().all()
    assert result.rows == [{"path": "a.jpg", "confidence": 0.5, "flagged": None}]
    assert [(failure.path, failure.reason) for failure in failures] == [("b.jpg", "no image")]
    assert (result.output, result.metrics) == (folder, {"images": 1})
    trained = TrainingResult(Path("a/bundle"), {"images": 1, "classification": {"many": "numbers"}})
    assert repr(trained) == "TrainingResult(bundle='a/bundle', metrics={'images', 'classification'})"
