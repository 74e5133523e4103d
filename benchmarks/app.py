"""Time and memory of uploads to the web page.

    python benchmarks/app.py
    python benchmarks/app.py --data data/ham10000 --output docs/results/app_benchmark.json

The photographs have 600 x 450 pixels: generated ones by default, or those of `--data`. A new server runs the page with its
defaults (eight views, Grad-CAM), and headless Chromium uploads one photograph at a time. "upload" is the time from the choice of
the file until the finding is on the page, "examined" the part of it for reading and networks, as the page reports it, and "page"
the rest: upload, server, browser. "command" is a call of `run_pipeline.py image=...` in a separate process; its "examined"
is from results.csv. Page and command take turns on each photograph. The first upload, at which the browser loads its resources,
is reported separately.

Exit status: 1 if the page adds more than 0.5 s (median), or if the memory of the server after any upload is more than 5 % above
that after the 20th; else 0.
"""

import argparse
import csv
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from folder import make_images
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
SETTLED = 20  # uploads, before memory is judged
PATIENCE = 60  # seconds


@contextmanager
def server(log: Path) -> Iterator[tuple[int, str]]:
    """Start a server of the page; yield its process id and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = [sys.executable, "-m", "streamlit", "run", str(ROOT / "segpipe/app/main.py")]
    page += [f"--server.port={port}", "--server.headless=true"]
    with log.open("w", encoding="utf-8") as file, subprocess.Popen(page, stdout=file, stderr=file) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health")
            yield process.pid, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(address: str) -> None:
    """Wait until the server responds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            urlopen(address, timeout=PATIENCE).close()
            return
        except URLError:
            if time.monotonic() > end:
                raise SystemExit(f"{address} does not answer after {PATIENCE} s") from None
            time.sleep(0.1)


@contextmanager
def visitor(address: str) -> Iterator[Page]:
    """Open the page in a browser and wait for the models."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is needed, got none on the PATH; install it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(address)
        page.locator("input[type=file]").wait_for(state="attached")
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        yield page
        browser.close()


def upload(page: Page, photograph: Path) -> dict[str, float]:
    """Measure an upload in seconds; the finding is removed afterwards."""
    start = time.perf_counter()
    page.set_input_files("input[type=file]", photograph)
    page.locator(".prediction").wait_for()
    seconds = time.perf_counter() - start
    text = page.locator("dt", has_text="Time").locator("xpath=following-sibling::dd[1]").inner_text()
    examined = float(text.removesuffix(" ms").replace(",", "")) / 1000
    page.get_by_role("button", name="Remove").first.click()
    page.locator(".prediction").wait_for(state="detached")
    return {"upload": seconds, "examined": examined, "page": seconds - examined}


def command(photograph: Path, output: Path) -> dict[str, float]:
    """Measure a call of the command line in seconds."""
    start = time.perf_counter()
    call = [sys.executable, "run_pipeline.py", f"image={photograph}", f"output={output}"]
    subprocess.run(call, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    with (output / "results.csv").open(encoding="utf-8") as table:
        return {"command": seconds, "command_examined": float(next(csv.DictReader(table))["latency_ms"]) / 1000}


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(photographs: Sequence[Path], scratch: Path, *, rounds: int, uploads: int) -> dict[str, Any]:
    """Run and print all measurements."""
    results: dict[str, Any] = {"rounds": []}
    memory = []
    with server(scratch / "server.log") as (pid, address), visitor(address) as page:
        results["first"] = upload(page, photographs[0])
        for number, photograph in enumerate(photographs[1 : rounds + 1]):
            results["rounds"].append(upload(page, photograph) | command(photograph, scratch / f"round{number}"))
            print({name: round(value, 3) for name, value in results["rounds"][-1].items()}, flush=True)
        for number in range(uploads):
            upload(page, photographs[number % len(photographs)])
            memory.append(memory_mib(pid))
    if len(memory) > SETTLED:
        results["memory_mib"] = {"settled": memory[SETTLED - 1], "highest_later": max(memory[SETTLED:]), "uploads": uploads}
    return results


def judge(results: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return value and upper limit of each goal."""
    goals = {"seconds that the page adds": (statistics.median(one["page"] for one in results["rounds"]), 0.5)}
    if "memory_mib" in results:
        memory = results["memory_mib"]
        goals[f"memory after uploads / after the {SETTLED}th"] = (memory["highest_later"] / memory["settled"], 1.05)
    return goals


def main() -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(description="Compare the web page with the command line.")
    parser.add_argument("--data", type=Path, help="folder of photographs to use instead of generated ones")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--uploads", type=int, default=200, help="number of uploads of the memory measurement; 0 skips it")
    parser.add_argument("--output", type=Path, help="also write the values to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        photographs = make_images(scratch / "photographs", max(options.rounds + 1, 7), options.data)
        results = measure(photographs, scratch, rounds=options.rounds, uploads=options.uploads)
    for name in ("upload", "examined", "page", "command", "command_examined"):
        results[name] = statistics.median(one[name] for one in results["rounds"])
        first = f"   (first {results['first'][name]:.2f} s)" if name in results["first"] else ""
        print(f"{name:20}{results[name]:8.2f} s{first}")
    goals = judge(results)
    results["goals"] = {name: {"value": value, "limit": f"<= {limit}"} for name, (value, limit) in goals.items()}
    for name, (value, limit) in goals.items():
        print(f"{name:40}{value:10.4g}   <= {limit}   {'reached' if value <= limit else 'MISSED'}")
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(value <= limit for value, limit in goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
