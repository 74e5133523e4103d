"""Throughput and memory of runs over a folder, in each runtime.

    python benchmarks/folder.py
    python benchmarks/folder.py --data data/ham10000 --output docs/results/folder_benchmark.json

The photographs have 600 x 450 pixels: generated ones by default, or those of `--data`. All runs use the shipped bundles, float32
and the same setting of the allocator (`keep_freed_memory`). Each measurement is a separate process, and they take turns within
each round, so that a busy machine slows all of them; a ratio is the median over the rounds. Loading and the first images are not
timed.

segpipe is a run over a folder that writes masks and tables without figures: "plain" without views and heatmaps, "full" with eight
views and Grad-CAM. It runs in ONNX Runtime, as by default on a CPU, and "full" also in PyTorch and in OpenVINO with bfloat16.
`benchmarks/start.py` measures the start of a call.

"bare" is the throughput of the forward passes of both networks alone in PyTorch, folded and channels_last, on one batch in
memory, at the fastest batch size. segpipe also reads the photographs, cuts the crops, writes masks, judges the photograph, and
measures the lesion. "naive" is `benchmarks/naive.py`.

Exit status: 1 if segpipe has less than 0.85 of the throughput of the forward passes alone, less than twice that of the naive
script, other probabilities (by more than 1e-4), or more memory; if its memory grows by more than 5 % from the 200th to the last
image; or if ONNX Runtime is slower than PyTorch or needs more memory, or OpenVINO is less than 1.5 times as fast as PyTorch;
else 0.
"""

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 600, 450
WARM_UP = 16  # images
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
# Options of the pipeline in each runtime.
RUNTIMES = {
    "torch": {"runtime": "torch"},
    "onnx": {"runtime": "onnx"},
    "openvino": {"runtime": "openvino", "precision": "bfloat16"},
}


def make_images(folder: Path, count: int, data: Path | None) -> list[Path]:
    """Write photographs, generated or resized from a data set."""
    folder.mkdir()
    if data is None:
        from segpipe.data.synthetic.photo import make_image
        from segpipe.diagnosis import CODES

        rng = np.random.default_rng(0)
        pictures = (Image.fromarray(make_image(CODES[n % 7], rng, (HEIGHT, WIDTH))[0]) for n in range(count))
    else:
        from segpipe.io.folders import find_images

        found = find_images(data).images[:count]
        if len(found) < count:
            raise SystemExit(f"--data must hold {count} images, got {len(found)} in {data}; lower --memory-images and --images")
        pictures = (Image.open(path).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC) for path in found)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path, quality=92)
    return paths


# Each of these runs in a separate process and prints one line of JSON.


def bare(paths: Sequence[Path], _: Path, *, full: bool) -> dict[str, Any]:
    """Measure the forward passes of both networks at each batch size."""
    import torch

    from segpipe.bundle.card_file import SHIPPED
    from segpipe.bundle.folder import load_classifier, load_segmenter
    from segpipe.inference.folding import fold_batch_norm

    del full, paths
    bundles = load_segmenter(SHIPPED / "segmenter"), load_classifier(SHIPPED / "classifier")
    models = [(fold_batch_norm(bundle.model), bundle.card.input.size) for bundle in bundles]
    rates = {}
    for size in BATCH_SIZES:
        batches = [(model, torch.randn(size, 3, side, side).to(memory_format=torch.channels_last)) for model, side in models]
        with torch.inference_mode():
            for model, batch in batches:
                model(batch)
            start, images = time.perf_counter(), 0
            while time.perf_counter() - start < 2.0:
                for model, batch in batches:
                    model(batch)
                images += size
        rates[size] = images / (time.perf_counter() - start)
    best = max(rates, key=rates.__getitem__)
    return {"images_per_second": rates[best], "batch_size": best, "rates": rates}


def segpipe(paths: Sequence[Path], output: Path, *, full: bool, runtime: str) -> dict[str, Any]:
    """Measure a run over the images, and the memory after each batch."""
    from segpipe.inference.loading import load_pipeline
    from segpipe.inference.settings import PipelineSettings
    from segpipe.runs.folder import run_images
    from segpipe.runs.local_engine import LocalEngine
    from segpipe.runs.options import RunOptions
    from segpipe.runs.source import images_of_files

    options = RUNTIMES[runtime] | ({} if full else {"tta": "none", "explain": "none"})
    settings = PipelineSettings(**options)
    pipeline = load_pipeline(**vars(settings))
    engine = RecordingEngine(LocalEngine(pipeline, None))
    for name, chosen in (("warm-up", paths[:WARM_UP]), ("run", paths)):
        (output / name).mkdir()
        engine.memory.clear()
        result = run_images(pipeline, images_of_files(chosen), RunOptions(output / name), engine)
    return {"images_per_second": result.summary["images_per_second"], "memory": sorted(engine.memory.items())}


class RecordingEngine:
    """Engine that records memory, MiB, by the number of finished images."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.memory: dict[int, float] = {}

    def run(self, plan: Any, batches: Any) -> Any:
        """See `segpipe.runs.folder.Engine`."""
        finished = 0
        for outcomes in self.engine.run(plan, batches):
            finished += len(outcomes)
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.memory[finished] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            yield outcomes


def naive(paths: Sequence[Path], output: Path, *, full: bool) -> dict[str, Any]:
    """Measure the naive script, which always has views and heatmaps."""
    from benchmarks.naive import predictions

    del full
    probs: dict[str, list[float]] = {}
    start = 0.0
    for number, (path, found) in enumerate(predictions([*paths[:WARM_UP], *paths], output)):
        if number == WARM_UP - 1:
            start = time.perf_counter()
        probs[path.name] = found.tolist()
    return {"images_per_second": len(paths) / (time.perf_counter() - start), "probs": probs}


SUBJECTS: dict[str, Callable[..., dict[str, Any]]] = {
    "bare": bare,
    "naive": naive,
    **{runtime: partial(segpipe, runtime=runtime) for runtime in RUNTIMES},
}


def child(name: str, folder: Path, count: int, output: Path, *, full: bool) -> None:
    """Run one measurement in this process."""
    from segpipe.inference.resources import keep_freed_memory

    keep_freed_memory()
    values = SUBJECTS[name](sorted(folder.iterdir())[:count], output, full=full)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(values | {"peak_memory": peak}))


def measure(name: str, folder: Path, count: int, output: Path, *, full: bool) -> dict[str, Any]:
    """Run one measurement in a separate process."""
    output.mkdir(parents=True)
    command = [sys.executable, __file__, "--child", name, "--folder", folder, "--images", str(count), "--output", output]
    command += ["--full"] if full else []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    values: dict[str, Any] = json.loads(printed.stdout.splitlines()[-1])
    return values


def largest_difference(results: Path, probs: dict[str, list[float]]) -> float:
    """Return the largest difference between probabilities of results.csv and the naive script."""
    with results.open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    codes = [name for name in next(iter(rows.values())) if name.startswith("p_") and name != "p_malignant"]
    ours = np.array([[float(rows[path][code]) for code in codes] for path in probs])
    return float(np.abs(ours - np.array(list(probs.values()))).max())


def one_round(folder: Path, scratch: Path, images: int) -> dict[str, Any]:
    """Measure all subjects once; the slower ones get fewer images."""
    bare = measure("bare", folder, 0, scratch / "bare", full=False)
    plain = measure("onnx", folder, images, scratch / "plain", full=False)
    full = {name: measure(name, folder, images // 2, scratch / name, full=True) for name in RUNTIMES}
    naive = measure("naive", folder, images // 4, scratch / "naive", full=True)
    rates = {"bare": bare, "plain": plain, "naive": naive, **full}
    peaks = {"plain": plain, "naive": naive, **full}
    return {
        **{f"{name}_images_per_second": values["images_per_second"] for name, values in rates.items()},
        **{f"{name}_peak_mib": values["peak_memory"] for name, values in peaks.items()},
        "bare_batch_size": bare["batch_size"],
        "x_bare": plain["images_per_second"] / bare["images_per_second"],
        "x_naive": full["onnx"]["images_per_second"] / naive["images_per_second"],
        "x_naive_memory": full["onnx"]["peak_memory"] / naive["peak_memory"],
        "x_torch_onnx": full["onnx"]["images_per_second"] / full["torch"]["images_per_second"],
        "x_torch_openvino": full["openvino"]["images_per_second"] / full["torch"]["images_per_second"],
        "x_torch_memory": full["onnx"]["peak_memory"] / full["torch"]["peak_memory"],
        "largest_difference": largest_difference(scratch / "onnx" / "run" / "results.csv", naive["probs"]),
    }


def memory_growth(folder: Path, scratch: Path, images: int) -> dict[str, Any]:
    """Measure the memory after 200 images and after all images."""
    memory = measure("onnx", folder, images, scratch, full=True)["memory"]
    early, late = (next(mib for count, mib in memory if count >= number) for number in (min(200, images // 2), images))
    return {"images": images, "early_mib": early, "late_mib": late, "memory_growth": late / early}


def parse() -> argparse.Namespace:
    """Read the arguments of the call."""
    parser = argparse.ArgumentParser(description="Compare segpipe with forward passes alone and with a naive script.")
    parser.add_argument("--data", type=Path, help="folder of photographs to use instead of generated ones")
    parser.add_argument(
        "--images", type=int, default=800, help="number of images of the fastest subject in each round; 800 by default"
    )
    parser.add_argument("--memory-images", type=int, default=2000, help="number of images of the memory measurement; 0 skips it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="also write the values to this JSON file")
    for name in ("--child", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Run and print all measurements."""
    import torch

    results: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": []}
    results["photographs"] = "drawn" if options.data is None else options.data.name
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "photographs")
        make_images(folder, max(options.images, options.memory_images), options.data)
        for number in range(options.rounds):
            results["rounds"].append(one_round(folder, Path(scratch, f"round{number}"), options.images))
            print({name: float(f"{value:.4g}") for name, value in results["rounds"][-1].items()}, flush=True)
        if options.memory_images:
            results["memory"] = memory_growth(folder, Path(scratch, "memory"), options.memory_images)
            print(results["memory"], flush=True)
    return results


def judge(results: dict[str, Any]) -> dict[str, tuple[float, str, float, bool]]:
    """Return value, sign, limit and success of each goal."""

    def median(name: str) -> float:
        return statistics.median(one[name] for one in results["rounds"])

    values = {
        "rate plain / bare": (median("x_bare"), ">=", 0.85),
        "rate full / naive": (median("x_naive"), ">=", 2.0),
        "peak memory full / naive": (median("x_naive_memory"), "<=", 1.0),
        "largest difference of a probability": (max(one["largest_difference"] for one in results["rounds"]), "<=", 1e-4),
        "rate onnx / torch, full": (median("x_torch_onnx"), ">=", 1.0),
        "peak memory onnx / torch, full": (median("x_torch_memory"), "<=", 1.0),
        "rate openvino bfloat16 / torch, full": (median("x_torch_openvino"), ">=", 1.5),
    }
    if "memory" in results:
        values["memory at the end / after 200 images"] = (results["memory"]["memory_growth"], "<=", 1.05)
    return {
        name: (value, sign, limit, value >= limit if sign == ">=" else value <= limit)
        for name, (value, sign, limit) in values.items()
    }


def main() -> int:
    """Run the comparison and return the exit status."""
    options = parse()
    if options.child:
        child(options.child, Path(options.folder), options.images, options.output, full=options.full)
        return 0
    results = report(options)
    goals = judge(results)
    results["goals"] = {name: {"value": value, "limit": f"{sign} {limit}"} for name, (value, sign, limit, _) in goals.items()}
    for name, (value, sign, limit, reached) in goals.items():
        print(f"{name:40}{value:12.4g}   {sign} {limit}   {'reached' if reached else 'MISSED'}")
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(reached for *_, reached in goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
