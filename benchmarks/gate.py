"""Cost of the input gate as a fraction of a finding's time.

    python benchmarks/gate.py --data data/ham10000
    python benchmarks/gate.py --data data/ham10000 --output docs/results/gate_cost.json

The shipped models give findings of test images, with eight views and Grad-CAM. The gate costs the judgement and the features that
the segmenter's graph returns for it: the time of the graph with them less that without. Both are timed by themselves, because the
noise of a whole finding is larger. Times are medians.

Exit status: 1 if the gate takes more than 3 % of a finding's time; else 0.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession

from segpipe.bundle.card_file import SHIPPED
from segpipe.data.assembly import find_photographs
from segpipe.data.splits import read_split
from segpipe.inference.gate import Gate
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.io.files import encode_json, write_file
from segpipe.io.images import read_image
from segpipe.io.passes import follow
from segpipe.io.run_files import MODEL_GRAPH, SPLIT
from segpipe.types import RgbImage

LARGEST_FRACTION = 0.03
WARM_UP = 3  # repetitions that do not count
REPETITIONS = 500  # of the graph


def milliseconds(call: Callable[[], object]) -> float:
    """Measure the time of a call."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def measure_finding(pipeline: Pipeline, gate: Gate, image: RgbImage) -> dict[str, float]:
    """Time a finding and its judgement, milliseconds."""
    localizations, features = pipeline.localizer.with_features([image])
    return {
        "finding": milliseconds(lambda: pipeline.predict(image)),
        "judgement": milliseconds(lambda: gate.judge(image, localizations[0], features[0])),
    }


def measure_features(repetitions: int) -> list[dict[str, float]]:
    """Time the segmenter's graph with features and without, milliseconds."""
    session = InferenceSession(SHIPPED / "segmenter" / MODEL_GRAPH)
    graph_input = session.get_inputs()[0]
    feeds = {graph_input.name: np.random.default_rng(0).random((1, *graph_input.shape[1:]), np.float32)}
    outputs = {"graph": [session.get_outputs()[0].name], "graph_with_features": None}
    turns = [list(outputs)[:: 1 if turn % 2 else -1] for turn in range(repetitions)]
    return [{name: milliseconds(partial(session.run, outputs[name], feeds)) for name in turn} for turn in turns]


def medians(times: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each part, without the first times."""
    return {part: statistics.median(each[part] for each in times[WARM_UP:]) for part in sorted(times[0])}


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of HAM10000")
    parser.add_argument("--images", type=int, default=200, help="number of photographs")
    parser.add_argument("--output", type=Path, help="file for the results")
    arguments = parser.parse_args()
    split = read_split(SHIPPED / SPLIT)
    files = find_photographs(str(arguments.data), copies=False).images
    test = [files[image_id] for image_id in split.loc[split["part"] == "test", "image_id"] if image_id in files]
    pipeline = load_pipeline(device="cpu")
    gate = pipeline.gate
    if gate is None:
        parser.error("the shipped pipeline must have a gate")
    chosen = test[: arguments.images + WARM_UP]
    times = [measure_finding(pipeline, gate, read_image(file)) for file in follow(chosen, len(chosen), "findings")]
    median = medians(times) | medians(measure_features(REPETITIONS))
    cost = median["judgement"] + median["graph_with_features"] - median["graph"]
    results = {"images": len(chosen) - WARM_UP, "milliseconds": median, "gate_ms": cost, "fraction": cost / median["finding"]}
    print(encode_json(results).decode())
    if arguments.output:
        write_file(arguments.output, encode_json(results))
    return int(results["fraction"] > LARGEST_FRACTION)


if __name__ == "__main__":
    sys.exit(main())
