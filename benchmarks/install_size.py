"""Disk space of segpipe with its requirements, for each extra.

    python benchmarks/install_size.py
    python benchmarks/install_size.py base app metrics torch openvino --output docs/results/install_size.json

Each variant is installed with `constraints.txt` into a fresh virtual environment, which is removed afterwards. The size is the
sum over all files in site-packages, in MB (10^6 bytes), without pip and setuptools, which every environment has. pip compiles
modules as it installs them; `pip install --no-compile` leaves that to the first import, column "not compiled". A variant that
is measured replaces its entry in the output; the others are kept.

Exit status: 1 if the base takes more than 400 MB; else 0.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BASE, MOST_MB = "base", 400
LISTED = 6  # largest packages that are named


def measure(extra: str) -> dict[str, Any]:
    """Install a variant and measure it.

    Args:
        extra: Extra of setup.cfg, or `base`.

    Returns:
        Sizes in MB, seconds of the installation, number of distributions and the largest of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python")
        before = sizes(python)
        start = time.perf_counter()
        target = f"{ROOT}[{extra}]" if extra != BASE else str(ROOT)
        command = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", target]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        added = {name: found for name, found in sizes(python).items() if name not in before}
    total, compiled = (sum(found[kind] for found in added.values()) for kind in ("bytes", "compiled"))
    largest = sorted(added, key=lambda name: added[name]["bytes"], reverse=True)[:LISTED]
    return {
        "mb": round(total / 1e6),
        "mb_not_compiled": round((total - compiled) / 1e6),
        "seconds": round(seconds),
        "distributions": len(added),
        "largest_mb": {name: round(added[name]["bytes"] / 1e6) for name in largest},
    }


def sizes(python: Path) -> dict[str, dict[str, int]]:
    """Return the bytes of each distribution, and of its compiled modules."""
    script = """
import json
from importlib.metadata import distributions
found = {}
for distribution in distributions():
    files = [file.locate() for file in distribution.files or ()]
    sizes = [(file.suffix, file.stat().st_size) for file in files if file.is_file()]
    compiled = sum(size for suffix, size in sizes if suffix == ".pyc")
    found[distribution.name] = {"bytes": sum(size for _, size in sizes), "compiled": compiled}
print(json.dumps(found))
"""
    found: dict[str, dict[str, int]] = json.loads(subprocess.check_output([python, "-I", "-c", script]))
    return found


def main() -> int:
    """Measure the variants and return the exit status."""
    parser = argparse.ArgumentParser(description="Disk space of segpipe with its requirements.")
    parser.add_argument("variants", nargs="*", default=[BASE, "app", "torch"], help="base, or extras of setup.cfg")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    known = json.loads(options.output.read_text(encoding="utf-8")) if options.output and options.output.is_file() else {}
    results: dict[str, Any] = {"python": platform.python_version(), "platform": f"{sys.platform} {platform.machine()}"}
    results["variants"] = known.get("variants", {})
    print(f"{'install':12}{'MB':>8}{'not compiled':>14}{'packages':>10}{'s':>6}  largest, MB")
    for name in options.variants:
        row = results["variants"][name] = measure(name)
        largest = ", ".join(f"{package} {size}" for package, size in row["largest_mb"].items())
        counts = f"{row['mb']:8}{row['mb_not_compiled']:14}{row['distributions']:10}{row['seconds']:6}"
        print(f"{name:12}{counts}  {largest}", flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(results["variants"].get(BASE, {"mb": 0})["mb"] > MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
