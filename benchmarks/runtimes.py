"""Agreement of the runtimes over the test split, with the shipped bundles.

    python benchmarks/runtimes.py --data data/ham10000
    python benchmarks/runtimes.py --data data/ham10000 --runs outputs/runtimes --output docs/results/runtimes.json

Each runtime predicts all images of the test split with eight views and Grad-CAM, and is scored against labels and masks. A
stopped comparison goes on with the same `--runs`. The runs are compared with that of PyTorch in float32: the
probabilities in `results.csv`, the diagnoses, the pixels of the masks, and the heatmaps, whose pictures have steps of 1/255.

Exit status: 1 if ONNX Runtime differs by more than 1e-3 in a probability, in more than 0.1 % of the pixels of the masks, by more
than 1e-2 in a heatmap, in a diagnosis other than a tie, or in the third digit of a metric; else 0. bfloat16 has no limits: its
differences are reported.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import segpipe
from segpipe.bundle.card_file import SHIPPED
from segpipe.io.images import read_mask
from segpipe.io.run_files import HEATMAPS, MASKS, SPLIT

REFERENCE = "torch"
RUNTIMES: Mapping[str, Mapping[str, str]] = {
    "torch": {},
    "onnx": {},
    "openvino": {"precision": "bfloat16"},
}
TIE = 1e-3  # difference of two probabilities
LIMITS = {"probability": 1e-3, "mask_pixels": 1e-3, "heatmap": 1e-2, "diagnoses": 0, "metric": 5e-4}


def predict(data: Path, folder: Path, runtime: str) -> Any:
    """Run or resume a runtime over the test split."""
    return segpipe.predict_folder(
        data,
        folder,
        runtime=runtime,
        labels=data / "HAM10000_metadata.csv",
        masks=data / "HAM10000_segmentations_lesion_tschandl",
        split=SHIPPED / SPLIT,
        part="test",
        heatmaps=True,
        figures=False,
        resume=True,
        device="cpu",
        heatmap_sample=0,
        **RUNTIMES[runtime],
    )


def compare(one: Any, other: Any) -> dict[str, Any]:
    """Compare two runs over the same images.

    Returns:
        Number of images; largest and mean differences of probabilities and heatmaps; fraction of differing pixels in all masks;
        number of differing diagnoses that are no ties; largest difference of a metric, and its name.
    """
    pairs = list(zip(one.rows, other.rows, strict=True))
    probabilities = [[abs(a[name] - b[name]) for name in a if name.startswith("p_")] for a, b in pairs]
    heatmaps = [float(np.abs(a - b).max()) for a, b in _pictures(one, other, HEATMAPS)]
    masks = [(np.count_nonzero(a != b), a.size) for a, b in _pictures(one, other, MASKS)]
    expected = dict(_metrics(other.metrics))
    metrics = {name: abs(value - expected[name]) for name, value in _metrics(one.metrics)}
    worst = max(metrics, key=metrics.__getitem__)
    return {
        "images": len(pairs),
        "probability": float(np.max(probabilities)),
        "probability_mean": float(np.mean(probabilities)),
        "heatmap": max(heatmaps),
        "heatmap_mean": float(np.mean(heatmaps)),
        "mask_pixels": sum(differing for differing, _ in masks) / sum(size for _, size in masks),
        "diagnoses": sum(a["diagnosis"] != b["diagnosis"] and not _is_tie(a) for a, b in pairs),
        "metric": metrics[worst],
        "metric_name": worst,
    }


def _pictures(one: Any, other: Any, kind: str) -> Iterator[tuple[Any, Any]]:
    """Yield the masks or heatmaps of both runs, image by image."""
    for row in one.rows:
        name = Path(kind, row["path"]).with_suffix(".png")
        if (one.output / name).is_file():
            read = read_mask if kind == MASKS else _read_heatmap
            yield read(one.output / name), read(other.output / name)


def _read_heatmap(path: Path) -> Any:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float64) / 255


def _metrics(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for part in ("classification", "segmentation"):
        for name, metric in content[part]["metrics"].items():
            if metric["value"] is not None:
                yield f"{part}: {name}", metric["value"]


def _is_tie(row: Mapping[str, Any]) -> bool:
    least, largest = sorted(value for name, value in row.items() if name.startswith("p_"))[-2:]
    return largest - least <= TIE


def main() -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(description="Compare the runtimes over the test split.")
    parser.add_argument("--data", type=Path, required=True, help="folder of HAM10000, prepared as data/README.md says")
    parser.add_argument("--runs", type=Path, help="folder of the runs, which are kept; default: a temporary one")
    parser.add_argument("--output", type=Path, help="also write the values to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = {runtime: predict(options.data, (options.runs or Path(scratch)) / runtime, runtime) for runtime in RUNTIMES}
        compared = {runtime: compare(run, runs[REFERENCE]) for runtime, run in runs.items() if runtime != REFERENCE}
    print(json.dumps(compared, indent=1))
    if options.output is not None:
        options.output.write_text(json.dumps(compared, indent=1) + "\n", encoding="utf-8")
    exceeded = [name for name, limit in LIMITS.items() if compared["onnx"][name] > limit]
    for name in exceeded:
        print(f"onnx: {name} is {compared['onnx'][name]:g}, at most {LIMITS[name]:g}")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
