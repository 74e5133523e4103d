"""`segpipe app` in its own process: served on its port, stopped by an interrupt."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def is_up(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as response:
        return bool(response.status == 200)
    return False


@pytest.mark.slow
def test_page_is_served_until_an_interrupt() -> None:
    pytest.importorskip("streamlit", reason="needs streamlit: pip install -e .[app]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "segpipe", "app", f"port={port}", "device=cpu"]
    served = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true"}
    process = subprocess.Popen(command, cwd=ROOT, env=served, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        end = time.monotonic() + 60
        while not is_up(port):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in err
