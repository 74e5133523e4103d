"""Time of a call for one photograph, from start to exit.

    python benchmarks/start.py
    python benchmarks/start.py --python fresh/bin/python --output docs/results/start_benchmark.json

The photograph has 600 x 450 pixels: a generated one by default, or `--image`. Each call is a separate process with the shipped
bundles, on two cores. The calls take turns within each round, so that a busy machine slows all of them; a ratio is the median
over the rounds. One round before them is not counted: it fills the file cache, and Python compiles the modules. "CPU" is the time
of all threads, which other processes disturb less. The imports are those that no answer can do without. `--python` names the
interpreter of another environment, such as one with the base install alone. A call that fails is listed with its error.

Exit status: 1 if the answer of ONNX Runtime without figure takes more than 1.0 s or more than 2.5 times the imports, or with
figure more than 2.5 s; else 0.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folder import make_images

CORES = 2
IMPORTS = "import numpy, cv2, onnxruntime"
FIRST = f'python -c "{IMPORTS}"'
RUNTIMES = ("onnx", "torch")


@dataclass
class Row:
    """Call that is measured.

    Attributes:
        command: Program and arguments.
        limit: Largest allowed median, seconds; None for no goal.
        largest_ratio: Largest allowed ratio to the imports; None for no goal.
        seconds: Time from start to exit in each round.
        cpu_seconds: Processor time in each round.
        error: Last line of stderr of a call that failed; empty for none.
    """

    command: Sequence[str | Path]
    limit: float | None = None
    largest_ratio: float | None = None
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    error: str = ""

    def run(self, environment: dict[str, str]) -> tuple[float, float]:
        """Run the call once and return its duration and processor time."""
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        call = subprocess.run(self.command, capture_output=True, text=True, env=environment, check=False)
        duration, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if call.returncode:
            self.error = (call.stderr.strip().splitlines() or [f"exit status {call.returncode}"])[-1]
        return duration, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def judge(self, base: "Row") -> dict[str, Any]:
        """Summarize the rounds, and compare them with the limits."""
        if self.error:
            return {"error": self.error, "goal": "none" if self.limit is None else "missed"}
        ratios = [seconds / least for seconds, least in zip(self.seconds, base.seconds, strict=True)]
        cpu_ratios = [seconds / least for seconds, least in zip(self.cpu_seconds, base.cpu_seconds, strict=True)]
        values = {
            "seconds": statistics.median(self.seconds),
            "x_imports": statistics.median(ratios),
            "cpu_seconds": statistics.median(self.cpu_seconds),
            "x_imports_cpu": statistics.median(cpu_ratios),
        }
        in_time = self.limit is None or values["seconds"] <= self.limit
        in_ratio = self.largest_ratio is None or values["x_imports"] <= self.largest_ratio
        goal = "none" if self.limit is None else "reached" if in_time and in_ratio else "missed"
        return values | {"goal": goal}


def make_rows(python: Path, image: Path, output: Path) -> dict[str, Row]:
    """List the calls by name."""
    rows = {FIRST: Row([python, "-c", IMPORTS])}
    for runtime in RUNTIMES:
        for figures, limit, ratio in (("false", 1.0, 2.5), ("true", 2.5, None)):
            arguments = [f"figures={figures}", f"runtime={runtime}"]
            call = [python.with_name("segpipe"), "predict", f"image={image}", f"output={output}", "overwrite=true", *arguments]
            row = Row(call, limit, ratio) if runtime == "onnx" else Row(call)
            rows[" ".join(["segpipe predict image=photo.jpg", *arguments])] = row
    return rows


def measure(rows: dict[str, Row], rounds: int) -> None:
    """Run all calls in turn; a call that fails is not repeated."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for number in range(rounds + 1):
        for row in (row for row in rows.values() if not row.error):
            seconds, cpu_seconds = row.run(environment)
            if number and not row.error:
                row.seconds.append(seconds)
                row.cpu_seconds.append(cpu_seconds)


def write_table(judged: dict[str, dict[str, Any]]) -> str:
    """Write the results as a Markdown table."""
    lines = ["| call | s | x imports | CPU, s | x imports, CPU | goal |", "| --- | --- | --- | --- | --- | --- |"]
    for name, values in judged.items():
        if "error" in values:
            lines.append(f"| `{name}` | failed: {values['error'].replace('|', '/')} | | | | {values['goal']} |")
        else:
            numbers = (values["seconds"], values["x_imports"], values["cpu_seconds"], values["x_imports_cpu"])
            lines.append(f"| `{name}` | {' | '.join(f'{number:.2f}' for number in numbers)} | {values['goal']} |")
    return "\n".join(lines)


def main() -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(description="Time calls for one photograph from start to exit.")
    parser.add_argument("--image", type=Path, help="photograph to use instead of a generated one")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter of the environment to measure")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, help="also write the values to this JSON file")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    with tempfile.TemporaryDirectory() as scratch:
        image = options.image or make_images(Path(scratch, "photographs"), 1, None)[0]
        rows = make_rows(options.python.absolute(), image, Path(scratch, "output"))
        measure(rows, options.rounds)
    judged = {name: row.judge(rows[FIRST]) for name, row in rows.items()}
    print(f"{len(cores)} cores, {options.rounds} rounds\n\n{write_table(judged)}")
    if options.output is not None:
        results = {"cores": len(cores), "rounds": options.rounds, "calls": judged}
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(values["goal"] != "missed" for values in judged.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
