"""Trainings in a terminal and in a log file: lines, bars, pictures, last line."""

import contextlib
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from conftest import CLASSIFIER, SEGMENTER, SUBCOMMANDS, Trained, call

from segpipe.cli.main import run_subcommand
from segpipe.io.images import read_image
from segpipe.training.resuming import read_checkpoint

pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
termios = pytest.importorskip("termios")

EPOCHS = 2
KINDS = ["seg", "cls"]
LINE = re.compile(
    r"epoch (\d)/1  train_loss \d\.\d{4}  val_loss \d\.\d{4}  val_(dice|auroc) \d\.\d{4}(?: best|     )  "
    r"learning_rate \d\.\d{2}e-\d{2}  (?:trained: (head|all stages) *  )?\d\d:\d\d left"
)
PICTURES = ("training", "train_batch", "val_predictions")


def arguments(trained: Trained, kind: str, output: Path) -> list[str]:
    own = SEGMENTER if kind == "seg" else (*CLASSIFIER, trained.bundles[0], "unfreeze.from_epochs=[0,1]")
    return [*trained.data, *own, f"trainer.max_epochs={EPOCHS}", f"output={output}"]


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, list[bytes]]]:
    """A pseudo-terminal, and all bytes that were written to it."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 140))
    received: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while content := os.read(master, 4096):
                received.append(content)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield slave, received
    finally:
        os.close(slave)
        reader.join(10)
        os.close(master)


@contextlib.contextmanager
def written_to(stream: TextIO) -> Iterator[None]:
    """Send both outputs to a file."""
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield


def on_screen(text: str) -> list[str]:
    """Return the lines that a terminal shows at the end."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        cells = ""
        for part in line.split("\r"):
            cells = part + cells[len(part) :]
        lines.append(cells.rstrip())
    return lines


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def in_terminal(trained: Trained, kind: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Output folder of a training, and its capture from a pseudo-terminal."""
    output = tmp_path_factory.mktemp("terminal") / kind
    with terminal() as (slave, received), open(slave, "w", encoding="utf-8", closefd=False) as stream, written_to(stream):
        assert sys.stderr.isatty()
        assert run_subcommand(SUBCOMMANDS[f"train_{kind}"], arguments(trained, kind, output), ["segpipe"]) == 0
    return output, b"".join(received).decode()


@pytest.fixture(scope="module")
def in_log(trained: Trained, kind: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Output folder of a training, and its log file."""
    folder = tmp_path_factory.mktemp("log")
    with (folder / "log.txt").open("w", encoding="utf-8") as stream, written_to(stream):
        assert run_subcommand(SUBCOMMANDS[f"train_{kind}"], arguments(trained, kind, folder / kind), ["segpipe"]) == 0
    return folder / kind, (folder / "log.txt").read_text()


def epoch_lines(lines: list[str]) -> list[re.Match[str]]:
    return [match for line in lines if (match := LINE.fullmatch(line))]


def test_terminal_keeps_one_line_for_each_epoch(in_terminal: tuple[Path, str], kind: str) -> None:
    lines = on_screen(in_terminal[1])
    found = epoch_lines(lines)
    assert [match[1] for match in found] == ["0", "1"]
    assert {match[2] for match in found} == {"dice" if kind == "seg" else "auroc"}
    assert [match[3] for match in found] == ([None, None] if kind == "seg" else ["head", "all stages"])
    assert not [line for line in lines if "%|" in line], "a bar is left"
    assert "Traceback" not in in_terminal[1]


def test_terminal_has_a_bar_with_the_monitored_metric(in_terminal: tuple[Path, str], kind: str) -> None:
    bars = [part for part in re.split(r"[\r\n]", in_terminal[1]) if part.startswith("epoch 1/1: ") and "%|" in part]
    name = "val_dice" if kind == "seg" else "val_auroc"
    assert any(re.search(rf"{name} \d\.\d{{4}}, best \d\.\d{{4}}", bar) for bar in bars), bars


def test_log_file_holds_whole_lines_alone(in_log: tuple[Path, str]) -> None:
    log = in_log[1]
    assert not {"\r", "\x1b", "\x08"} & set(log)
    assert "%|" not in log
    assert [match[1] for match in epoch_lines(log.splitlines())] == ["0", "1"]
    lines = log.splitlines()
    assert len(lines) == len(set(lines)), "a line is repeated"


def test_log_file_and_terminal_say_the_same(in_log: tuple[Path, str], in_terminal: tuple[Path, str]) -> None:
    """Apart from times, folders and the progress of long work."""
    progress = re.compile(r".* \.\.\.|.* images/s, .*|.*: \d\d:\d\d|")

    def plain(folder: Path, lines: list[str]) -> list[str]:
        said = [line.replace(str(folder), "OUTPUT") for line in lines if not progress.fullmatch(line)]
        return [re.sub(r"\d\d:\d\d left$", "", line) for line in said]

    assert plain(in_log[0], in_log[1].splitlines()) == plain(in_terminal[0], on_screen(in_terminal[1]))


def test_last_line_is_a_command_that_uses_the_bundle(in_log: tuple[Path, str], kind: str, trained: Trained) -> None:
    output, log = in_log
    last = log.splitlines()[-1]
    assert last.startswith("use it: ")
    program, subcommand, *given = shlex.split(last.removeprefix("use it: "))
    assert (program, subcommand, given[0]) == ("segpipe", "predict", "folder=IMAGES")
    bundles = [f"bundle.segmenter={output / 'bundle'}"]
    if kind == "cls":
        bundles = [f"bundle.classifier={output / 'bundle'}", trained.bundles[0]]
    assert given[1:] == bundles
    images = next((trained.folder / "data").rglob("*.jpg"))
    used = call("predict", *given[1:], f"image={images}", output=output.parent / "used", device="cpu", figures=False)
    assert used.status == 0, used.err


def test_pictures_are_those_of_the_last_epoch(in_log: tuple[Path, str], kind: str) -> None:
    folder = in_log[0] / "plots"
    assert {path.stem for path in folder.iterdir()} == set(PICTURES)
    for name in PICTURES:
        picture = read_image(folder / f"{name}.png")
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 5
    callbacks = read_checkpoint(in_log[0] / "checkpoints" / "last.ckpt")["callbacks"]
    (state,) = (state for name, state in callbacks.items() if name.startswith("Pictures"))
    assert list(state["predictions"]) == [0, 1]
    assert len(state["chosen"]) == len(state["predictions"][1])


def test_pictures_are_updated_after_each_epoch(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segpipe.training import pictures

    written: list[tuple[str, bytes]] = []
    write = pictures.write_png

    def remember(path: Path, picture: object) -> None:
        write(path, picture)
        written.append((path.stem, path.read_bytes()))

    monkeypatch.setattr(pictures, "write_png", remember)
    ended = call("train_seg", *trained.data, *SEGMENTER, "trainer.max_epochs=2", output=tmp_path / "out")
    assert ended.status == 0, ended.err
    assert [name for name, _ in written] == [*PICTURES, *PICTURES]
    assert len({content for _, content in written}) == 6
