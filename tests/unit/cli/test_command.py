"""The command `segpipe`: subcommands, wrong calls, imports and shell completion."""

import ast
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import segpipe
from segpipe.cli.call import command_again, remember_call
from segpipe.cli.main import main, run_subcommand
from segpipe.cli.subcommands import SUBCOMMANDS
from segpipe.data.synthetic.dataset import write_samples

ROOT = Path(__file__).parents[3]
SCRIPTS = {"run_pipeline": "predict", "train_seg": "train-seg", "train_cls": "train-cls"}


def run_process(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"segpipe {segpipe.__version__}\n", "")


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("predcit", "did you mean predict?"),
        ("train_cls", "did you mean train-cls?"),
        ("ablation", "did you mean ablations?"),
        ("zebra", "segpipe --help"),
        ("image=a.jpg", "segpipe SUBCOMMAND image=a.jpg"),
        ("-m", "a subcommand must come first"),
        ("", "segpipe --help"),
    ],
)
def test_unknown_subcommand_is_one_line_with_the_nearest_one(word: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert advice in err and repr(word) in err


@pytest.mark.parametrize("name", SUBCOMMANDS)
@pytest.mark.parametrize("argument", ["+nokey=1", "photo.jpg"])
def test_wrong_arguments_of_a_subcommand_are_one_line_and_status_2(
    name: str, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*name.split(), argument]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and argument in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["ablations"], "runs"),
        (["ablations", "runs=[nowhere]"], "runs"),
        (["ablations", "runs=nowhere"], "runs"),
        (["compare", "bundles=[.,.]", "labels=."], "folder"),
        (["compare"], "bundles"),
        (["export", "data.root=."], "output"),
        (["export", "data.root=nowhere", "output=x"], "data.root"),
        (["export", "data.root=.", "output=x"], "split"),
        (["card", "bundle.classifier=nowhere"], "bundle.classifier"),
        (["synthetic", "seed=-1"], "seed"),
        (["synthetic", "seed=1.5"], "seed"),
        (["app", "port=0"], "port"),
        (["app", "port=x"], "port"),
        (["app", "max_files=0"], "max_files"),
        (["app", "bundles=nowhere"], "bundles"),
        (["predict"], "image=FILE"),
        (["train-cls", "data.root=nowhere"], "data.root"),
        (["check", "data=nothing"], "data"),
    ],
)
def test_wrong_values_name_their_key(
    arguments: list[str], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and key in err
    assert not list(tmp_path.iterdir())


def test_samples_are_drawn_where_the_call_says_and_a_path_is_taken_literally(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a=b, [c]"
    assert main(["synthetic", f"output={folder}", "seed=5"]) == 0
    assert str(folder) in capsys.readouterr().out
    write_samples(tmp_path / "again", seed=5)
    written = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(written) == 15
    for path in written:
        assert (folder / path).read_bytes() == (tmp_path / "again" / path).read_bytes()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_a_thin_call_of_its_subcommand(name: str) -> None:
    text = (ROOT / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 15
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and node.args]
    assert [call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)] == [SCRIPTS[name]]


def test_script_and_module_name_themselves_in_their_help(tmp_path: Path) -> None:
    script = run_process(sys.executable, str(ROOT / "train_seg.py"), "--help", folder=tmp_path)
    module = run_process(sys.executable, "-m", "segpipe", "train-seg", "--help", folder=tmp_path)
    assert (script.returncode, module.returncode, script.stderr, module.stderr) == (0, 0, "", "")
    assert "python -m segpipe train-seg data=synthetic" in module.stdout
    assert script.stdout.replace(str(ROOT / "train_seg.py"), "X") == module.stdout.replace("-m segpipe train-seg", "X")


def test_listing_imports_nothing_but_the_standard_library(tmp_path: Path) -> None:
    code = (
        "import sys; from segpipe.cli.main import main; main([]); "
        "print({'torch', 'hydra', 'omegaconf', 'numpy', 'pandas'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = run_process(sys.executable, "-c", code, folder=tmp_path)
    assert done.stderr == "set()\n"


def test_advice_repeats_the_call_as_it_was_made() -> None:
    remember_call(["segpipe", "predict"], ["folder=a b", "overwrite=true", "tta=none", "output=x"])
    assert command_again(output="c d", resume="true") == "segpipe predict 'folder=a b' tta=none 'output=c d' resume=true"
    remember_call(["python", "run_pipeline.py"], [])
    assert command_again(resume="true") == "python run_pipeline.py resume=true"


def test_console_script_is_declared() -> None:
    assert "segpipe = segpipe.cli.main:run_process" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("segpipe ", {name.split()[0] for name in SUBCOMMANDS}),
        ("segpipe tra", {name.split()[0] for name in SUBCOMMANDS}),
        ("segpipe audit gate ima", {"images="}),
        ("segpipe audit g", set()),
        ("/usr/bin/segpipe predict tta=", {"tta=crops", "tta=d4", "tta=flips", "tta=none"}),
        ("segpipe predict tta=none explain=", {"explain=gradcam", "explain=none"}),
        ("segpipe train-seg trainer.max_", {"trainer.max_epochs="}),
        ("segpipe card outp", {"output="}),
        ("segpipe nothing x", set()),
    ],
)
def test_completion_offers_subcommands_keys_and_options(
    line: str, choices: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setattr(sys, "argv", ["segpipe"])
    assert main(["-sc", "query=bash"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert {word for word in out.split() if not word.endswith("_schema")} == choices
    assert os.environ["COMP_LINE"] == line


@pytest.mark.parametrize("arguments", [["-sc", "install=bash"], ["predict", "-sc", "install=bash"]])
def test_completion_is_installed_for_the_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/segpipe"])
    assert main(arguments) == 0
    assert capsys.readouterr().out.rstrip().endswith("-F hydra_bash_completion segpipe")


@pytest.fixture
def streamlit_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Calls of Streamlit, which are recorded and not made."""
    cli = pytest.importorskip("streamlit.web.cli", reason="needs streamlit: pip install -e .[app]")
    calls: list[Any] = []
    monkeypatch.setattr(cli, "main", lambda arguments, **_: calls.append(arguments))
    yield calls


def test_page_is_served_on_the_port_with_the_arguments_of_the_call(streamlit_calls: list[Any], tmp_path: Path) -> None:
    folder = tmp_path / "a, b=c"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main(["app", f"port={port}", f"bundles={folder}", "tta=none"]) == 0
    (call,) = streamlit_calls
    assert call[0] == "run"
    assert Path(call[1]) == ROOT / "segpipe" / "app" / "main.py"
    assert call[2:] == [f"--server.port={port}", "--server.address=127.0.0.1", "--", f"bundles={folder}", "tta=none"]


def test_port_that_is_taken_is_refused_before_the_page_starts(
    streamlit_calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", f"port={port}"]) == 2
    assert str(port) in capsys.readouterr().err
    assert streamlit_calls == []


def test_page_without_streamlit_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)  # as the import system itself says that there is none
    assert main(["app"]) == 2
    assert 'pip install "segpipe[app]"' in capsys.readouterr().err


def test_an_interrupt_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segpipe.data.synthetic.dataset.write_samples", stop)
    assert run_subcommand("synthetic", [], ["segpipe", "synthetic"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
