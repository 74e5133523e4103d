"""Progress: lines in a log file, a bar in a terminal."""

import sys
from io import StringIO
from types import SimpleNamespace

import pytest

from segpipe.io import passes
from segpipe.io.passes import Progress


def test_log_file_gets_occasional_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log, clock = StringIO(), [100.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(passes, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with Progress(2000) as shown:
        for number in range(4):
            clock[0] += 20
            shown.update(240, failed=number)
    assert log.getvalue().splitlines() == [
        "480 of 2000 images, 12.0 images/s, 1 failed, 02:06 left",
        "960 of 2000 images, 12.0 images/s, 3 failed, 01:26 left",
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
