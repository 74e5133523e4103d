"""Progress: lines in a log file, a bar in a terminal."""

import sys
import time
from io import StringIO
from types import SimpleNamespace

import pytest

from segpipe.io import passes
from segpipe.io.passes import Progress, working


def test_log_file_gets_occasional_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log, clock = StringIO(), [100.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(passes, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with Progress(2000) as shown:
        for number in range(4):
            clock[0] += 20
            shown.update(240, failed=number)
    assert log.getvalue().splitlines() == [
        "240 of 2000 images, 12.0 images/s, 02:26 left",
        "720 of 2000 images, 12.0 images/s, 2 failed, 01:46 left",
    ]


def test_single_image_shows_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    log = StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(passes, "SECONDS_BETWEEN_LINES", -1.0)
    with Progress(1) as shown:
        shown.update(1, failed=1)
    assert log.getvalue() == ""


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_gets_a_bar_with_rate_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(10) as shown:
        shown.update(5, failed=2)
        shown._bar.refresh()
        seen = terminal.getvalue()
    assert " 5/10 " in seen
    assert "2 failed" in seen
    assert "images/s" in seen


def test_note_stands_behind_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    log, terminal = StringIO(), Terminal()
    monkeypatch.setattr(passes, "_SILENT_SECONDS", -1.0)
    for stream in (log, terminal):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(10, "epoch 3/9") as shown:
            shown.update(4, note="val_dice 0.9000")
            shown._bar.refresh()
    (line,) = log.getvalue().splitlines()
    assert line.startswith("epoch 3/9: 4 of 10 images, ")
    assert ", val_dice 0.9000, " in line
    assert "epoch 3/9:  40%" in terminal.getvalue()
    assert "val_dice 0.9000" in terminal.getvalue()


@pytest.mark.parametrize("silent", [0.0, 60.0])
def test_work_of_unknown_length_shows_its_name_once_it_takes_long(monkeypatch: pytest.MonkeyPatch, silent: float) -> None:
    monkeypatch.setattr(passes, "_SILENT_SECONDS", silent)
    log, terminal = StringIO(), Terminal()
    for stream in (log, terminal):
        monkeypatch.setattr(sys, "stderr", stream)
        with working("calibration"):
            deadline = time.monotonic() + 10
            while not silent and not stream.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
    if silent:
        assert log.getvalue() + terminal.getvalue() == ""
    else:
        assert log.getvalue() == "calibration ...\n"
        assert "calibration: 00:0" in terminal.getvalue()
        assert terminal.getvalue().endswith("\r")  # the line is cleared


def test_error_within_the_work_ends_its_display(monkeypatch: pytest.MonkeyPatch) -> None:
    log = StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with pytest.raises(ValueError, match="broken"), working("calibration"):
        raise ValueError("broken")
    assert log.getvalue() == ""
