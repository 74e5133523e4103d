"""Untrusted configurations: they build only objects of their groups, run no code and read no secret."""

import ast
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import segpipe
from segpipe.cli.main import run_subcommand
from segpipe.config.building import BUILDABLE, build, check_names, check_targets
from segpipe.config.composing import compose_config
from segpipe.config.loading import REFUSED_RESOLVERS
from segpipe.errors import ConfigError

ROOT = Path(__file__).parents[3]
CANARY = "canary"  # the file that an attack would write
TOUCH = f"touch {CANARY}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, in which no attack has left its file at the end."""
    GlobalHydra.instance().clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "hush")
    yield tmp_path
    assert not Path(CANARY).exists()


def compose(*arguments: str, script: str = "train_cls") -> DictConfig:
    return compose_config(script, ["data=synthetic", *arguments])


def train_cls(arguments: list[str]) -> int:
    return run_subcommand("train-cls", arguments, ["segpipe", "train-cls"])


def compose_untrusted(content: dict[str, Any] | str) -> DictConfig:
    """Compose a call whose experiment is an untrusted file."""
    file = Path("untrusted", "experiment", "evil.yaml")
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\n" + (content if isinstance(content, str) else yaml.safe_dump(content)))
    return compose(f"hydra.searchpath=[file://{Path('untrusted').absolute()}]", "+experiment=evil")


def test_untrusted_file_may_choose_values() -> None:
    assert compose_untrusted({"seed": 7, "optimizer": {"lr": 0.5}}).optimizer.lr == 0.5
    transforms = [{"_target_": "albumentations.OneOf", "transforms": [{"_target_": "albumentations.D4"}]}]
    config = compose(f"augment.transforms={OmegaConf.create(transforms)}".replace("'", ""))
    assert [type(each).__name__ for each in build(config.augment.transforms, "augment")] == ["OneOf"]
    check_targets(config)


@pytest.mark.parametrize(
    "argument",
    [
        *(
            f"loss._target_={target}"
            for target in ("os.system", "subprocess.run", "builtins.exec", "torch.load", "torch.hub.load")
        ),
        "loss._target_=segpipe.io.files.write_file",
        "loss._target_=torch.utils.cpp_extension.load",
        "loss._target_=lightning.Trainer",
        "loss._target_=nn.Module",
        "loss._target_=",
        "optimizer._target_=builtins.eval",
        "optimizer._target_=torch.hub.load",
        "optimizer._target_=torch.optimizer.X",
        "scheduler._target_=shutil.rmtree",
        "scheduler._target_=segpipe.io.output.prepare_output",
        "data._target_=os.system",
        "data._target_=segpipe.training.fit.read_checkpoint",
        "logger=tensorboard logger.tensorboard._target_=os.system",
        "logger=wandb logger.wandb._target_=lightning.pytorch.loggers.CometLogger",
        f"augment.transforms=[{{_target_:builtins.open,file:{CANARY},mode:w}}]",
        f"augment.transforms=[{{_target_:albumentations.OneOf,transforms:[{{_target_:builtins.open,file:{CANARY},mode:w}}]}}]",
        "augment.transforms=[{_target_:albumentations.Lambda,image:{_target_:hydra.utils.get_method,path:os.system}}]",
        f"++loss.gamma={{_target_:builtins.open,file:{CANARY},mode:w}}",
        "++trainer._target_=os.system",
        "++trainer.callbacks=[{_target_:os.system,command:ls}]",
        "++crop.x._target_=os.system",
        "loss._partial_=true",
        "'loss._target_=${optimizer._target_}'",
        "'loss._target_=${nowhere}'",
    ],
)
def test_target_outside_its_group_is_refused_by_its_name(argument: str) -> None:
    argument = argument.strip("'").replace("loss._partial_", "++loss._partial_")
    with pytest.raises(ConfigError, match=r"_target_|_partial_|nowhere"):
        check_names(compose(*argument.split(" ")))


@pytest.mark.parametrize(
    ("argument", "script"),
    [
        *((f"loss._target_=torch.nn.{name}", "train_cls") for name in ("Linear", "init.ones_", "modules.module.os.system")),
        ("loss._target_=segpipe.losses.classification.torch.hub.load", "train_cls"),
        ("loss._target_=segpipe.losses.classification.class_weights", "train_cls"),
        ("loss._target_=segpipe.losses.nothing", "train_seg"),
        ("loss._target_=segmentation_models_pytorch.losses.constants.BINARY_MODE", "train_seg"),
        ("optimizer._target_=torch.optim.Adamw", "train_seg"),
        ("optimizer._target_=torch.optim.lr_scheduler.StepLR", "train_cls"),
        ("optimizer._target_=torch.optim.Optimizer.load_state_dict", "train_cls"),
        ("scheduler._target_=segpipe.training.schedule.math.cos", "train_seg"),
        ("data._target_=segpipe.data.synthetic.dataset.write_dataset", "train_seg"),
        ("data._target_=segpipe.data.cache.shutil.rmtree", "train_seg"),
        ("augment.transforms=[{_target_:albumentations.load,filepath_or_buffer:x}]", "train_seg"),
        ("augment.transforms=[{_target_:albumentations.core.serialization.from_dict,transform_dict:{}}]", "train_cls"),
        ("logger.tensorboard._target_=segpipe.training.tracking.build_loggers", "train_cls"),
        ("logger.tensorboard._target_=segpipe.training.tracking.logging.FileHandler", "train_cls"),
    ],
)
def test_a_target_of_another_kind_is_refused_before_anything_is_built(argument: str, script: str) -> None:
    with pytest.raises(ConfigError, match="_target_ must"):
        check_targets(compose("logger=tensorboard", argument, script=script))


def test_building_checks_what_it_builds_again() -> None:
    evil = OmegaConf.create({"_target_": "builtins.open", "file": CANARY, "mode": "w"})
    for group in BUILDABLE:
        for settings in (evil, OmegaConf.create([{"deep": [evil]}])):
            with pytest.raises(ConfigError, match="_target_ must name an object of"):
                build(settings, group)


EVIL_CALLBACK = {"evil": {"_target_": "os.system", "command": TOUCH}}
HANDLERS = {
    "factory": {"()": "os.system", "command": TOUCH},
    "class": {"class": "logging.handlers.HTTPHandler", "host": "127.0.0.1:9", "url": "/"},
    "file": {"class": "logging.FileHandler", "filename": f"{CANARY}"},
    "import": {"class": "logging.StreamHandler", "stream": "ext://antigravity"},
    "reference": {"class": "logging.StreamHandler", "stream": "cfg://handlers"},
    "interpolation": {"class": "${optimizer._target_}"},
    "attribute": {"class": "logging.StreamHandler", ".": {"stream": 1}},
}


@pytest.mark.parametrize(
    "hydra",
    [
        {"callbacks": EVIL_CALLBACK},
        {"callbacks": {"evil": {"_target_": "hydra.experimental.callbacks.PickleJobInfoCallback"}}},
        {"callbacks": {"evil": {"_target_": "segpipe.cli.running.JobErrors", "x": EVIL_CALLBACK["evil"]}}},
        {"callbacks": {"evil": {"_target_": "segpipe.cli.running.report"}}},
        {"callbacks": {"evil": {"_target_": "segpipe.cli.main.main"}}},
        {"callbacks": "${hydra:evil}"},
        {"launcher": {"_target_": "os.system"}},
        {"sweeper": {"params": {"seed": {"_target_": "os.system", "command": TOUCH}}}},
        {"sweeper": {"_target_": "subprocess.run"}},
        {"job": {"env_set": {"PYTHONPATH": "/tmp/evil"}}},
        {"job": {"env_copy": ["SECRET"]}},
        {"job_logging": {"formatters": {"evil": {"()": "os.system"}}}},
        {"hydra_logging": {"filters": {"evil": {"()": "os.system", "command": TOUCH}}}},
        *({log: {"handlers": {"evil": handler}}} for handler in HANDLERS.values() for log in ("job_logging", "hydra_logging")),
    ],
    ids=str,
)
def test_hydra_itself_runs_no_code_of_a_file(hydra: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"hydra\."):
        compose_untrusted({"hydra": hydra})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"setup": [TOUCH]}, "setup must be an argument of the call"),
        ({"additional_parameters": {"wrap": TOUCH}}, "additional_parameters must be an argument of the call"),
        ({"partition": f"x\n{TOUCH}"}, "partition must be one line"),
        ({"comment": "${oc.env:SECRET}"}, "comment: .*oc.env"),
    ],
)
def test_no_file_gives_slurm_a_command(values: dict[str, Any], message: str) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs submitit: pip install -e .[sweeps]")
    chosen = [{"override /hydra/launcher": "submitit_slurm"}]
    with pytest.raises(ConfigError, match=rf"hydra\.launcher\.{message}"):
        compose_untrusted({"defaults": chosen, "hydra": {"launcher": values}})


def test_a_call_may_give_slurm_its_commands_and_a_log_file_its_name() -> None:
    compose("hydra/launcher=submitit_slurm", "hydra.launcher.setup=[module load cuda]", "hydra/job_logging=default")


@pytest.mark.parametrize("resolver", [name for name in REFUSED_RESOLVERS if name != "env"])
@pytest.mark.parametrize("key", ["output", "optimizer.lr", "experiment"])
def test_no_interpolation_reads_the_environment_or_decodes_text(resolver: str, key: str) -> None:
    values = {"output": f"x/${{{resolver}:SECRET}}", "optimizer": {"lr": f"${{{resolver}:SECRET}}"}, "experiment": "none"}
    content = {key.partition(".")[0]: values[key.partition(".")[0]]} if key != "experiment" else None
    text = f"defaults:\n  - override /loss: ${{{resolver}:SECRET}}\n"
    with pytest.raises(ConfigError, match=resolver):
        compose_untrusted(content or text)


@pytest.mark.parametrize(
    "text", ["${first:${oc.env:SECRET},1}", "${${first:null,oc.env}:SECRET}", "${oc.decode:'${oc.env:SECRET}'}"]
)
def test_no_nesting_of_interpolations_reads_the_environment(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_untrusted({"output": text})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        f"seed: !!python/object/apply:os.system ['{TOUCH}']",
        "seed: !!python/name:os.system",
        "seed: !!python/module:antigravity",
    ],
)
def test_yaml_makes_no_objects(text: str) -> None:
    with pytest.raises(ConfigError, match="constructor"):
        compose_untrusted(text)


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and stderr.count("\n") == 1
    return stderr


class Payload:
    """Object that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (TOUCH,)


def test_a_pickled_job_is_not_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.pickle").write_bytes(pickle.dumps(Payload()))
    assert train_cls(["--experimental-rerun", "job.pickle"]) == 2
    assert "pickle" in only_line(capsys)


@pytest.mark.parametrize("flags", [["--config-dir=pkg://this"], ["--config-path=pkg://this"], ["hydra.searchpath=[pkg://this]"]])
def test_no_package_is_imported_for_its_configurations(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train_cls(["data=synthetic", *flags]) == 2
    assert "pkg://this" in only_line(capsys)


@pytest.mark.parametrize("flag", ["--config-dir", "--config-path"])
def test_the_configuration_of_a_foreign_training_is_no_primary_one(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(OmegaConf.to_yaml(compose()))
    assert train_cls([flag, str(Path.cwd()), "--config-name=config"]) == 2
    assert "schema" in only_line(capsys)


def test_jobs_of_a_sweep_are_checked_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-m", "data=synthetic", "output=swept", "loss._target_=os.system,subprocess.run", "hydra/launcher=joblib"]
    assert train_cls(arguments) == 2
    assert "loss._target_" in capsys.readouterr().err


def test_settings_of_a_card_are_words(bundles: Path) -> None:
    import json

    from segpipe.bundle.folder import load_classifier

    card = json.loads((bundles / "classifier" / "card.json").read_text())
    card["training"]["settings"] = {"loss": {"_target_": "builtins.open", "file": CANARY, "mode": "w"}, "x": "${oc.env:SECRET}"}
    Path("c").mkdir()
    Path("c", "card.json").write_text(json.dumps(card))
    Path("c", "model.safetensors").write_bytes((bundles / "classifier" / "model.safetensors").read_bytes())
    assert load_classifier(Path("c")).card.training.settings["x"] == "${oc.env:SECRET}"


@pytest.mark.parametrize("name", ["hf-hub:evil/network", "local-dir:/tmp", "hf_hub:evil/network", "../x"])
@pytest.mark.parametrize("kind", ["classifier", "segmenter"])
def test_a_network_is_one_that_the_libraries_hold(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from segpipe.models.classifier import build_classifier
    from segpipe.models.unet import build_unet

    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ValueError, match="knows"):
        if kind == "classifier":
            build_classifier(name=name, classes=2, attention="none", dropout=0.0)
        else:
            build_unet(encoder=f"tu-{name}", decoder_channels=[16, 16, 8, 8, 8])


def test_nothing_but_the_checked_function_instantiates() -> None:
    package = Path(segpipe.__file__).parent
    found = set()
    for path in [*package.rglob("*.py"), *(ROOT / "hydra_plugins").glob("*.py"), *ROOT.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and any(alias.name in ("instantiate", "call") for alias in node.names):
                found.add(path.name)
    assert found == {"building.py"}
