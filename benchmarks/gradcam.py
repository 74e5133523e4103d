"""Comparison of Grad-CAM with pytorch-grad-cam: equality of the heatmaps, and time.

    python benchmarks/gradcam.py

The classifier has random weights (seeded) and the images are random (224 x 224 pixels), so no data are needed. The routes take
turns within each repetition, so that a busy machine slows all of them; a ratio is the median over the repetitions.

pytorch-grad-cam is timed twice: as in its guide, with a backward pass through the whole network, and with all layers before the
last feature map frozen, which is its fastest use. "ours, d4" is what the pipeline does: eight views, one heatmap for each image.

Exit status: 1 if a heatmap differs by more than 1e-4 of its peak, or takes more than 1.15 times a plain forward pass; else 0.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import Tensor

from segpipe.inference.heatmap import HeatmapArray, scale_to_unit
from segpipe.inference.resources import keep_freed_memory
from segpipe.inference.torch_runtime import HeadPass
from segpipe.inference.tta import VIEWS, mean_maps, mean_probs, softmax, stack_views, unstack
from segpipe.models.classifier import LesionClassifier, build_classifier

SIZE = 224
CLASSES = 7
BATCH_SIZES = (1, 8)
SEEDS = (0, 1, 2)
LARGEST_DIFFERENCE = 1e-4
LARGEST_RATIO = 1.15
ROUTES = ("forward", "ours", "grad-cam", "grad-cam frozen", "forward, d4", "ours, d4")


def build_model() -> LesionClassifier:
    """Build the default classifier, with BatchNorm statistics that fit its random weights."""
    torch.manual_seed(0)
    model = build_classifier(name="efficientnet_b0", classes=CLASSES, attention="cbam")
    with torch.no_grad():
        for seed in range(100, 120):
            model.train()(random_images(8, seed))
    return model.eval()


def random_images(count: int, seed: int) -> Tensor:
    """Smooth random images, float (count, 3, SIZE, SIZE), roughly normalized."""
    coarse = torch.randn(count, 3, 14, 14, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def forward(model: LesionClassifier, batch: Tensor) -> Tensor:
    """Run a plain forward pass."""
    logits: Tensor = model(batch)
    return logits


@torch.inference_mode()
def explained_forward(model: LesionClassifier, batch: Tensor) -> Tensor:
    """Compute the heatmaps of the most probable classes as the pipeline does."""
    head_pass = HeadPass(model.head, model.features(batch))
    return head_pass.maps(head_pass.logits.argmax(1))


def eight_views(batch: Tensor) -> Tensor:
    """Stack the eight views of images (N, 3, SIZE, SIZE)."""
    interleaved = batch.permute(0, 2, 3, 1).numpy()
    return torch.from_numpy(stack_views({1.0: interleaved}, VIEWS["d4"])).permute(0, 3, 1, 2)


@torch.inference_mode()
def explained_views(model: LesionClassifier, batch: Tensor) -> HeatmapArray:
    """Compute one heatmap for each image over the eight views."""
    views = VIEWS["d4"]
    head_pass = HeadPass(model.head, model.features(eight_views(batch)))
    most_probable = mean_probs(unstack(softmax(head_pass.logits.double().numpy()), views)).argmax(1)
    maps = head_pass.maps(torch.from_numpy(most_probable).repeat(len(views)))
    return mean_maps(maps.numpy(), views)[0]


@contextmanager
def frozen_before_last_map(model: LesionClassifier) -> Iterator[None]:
    """Freeze all parameters before the last feature map."""
    frozen = [weight for name, weight in model.backbone.named_parameters() if not name.startswith("bn2.")]
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(True)


def map_difference(model: LesionClassifier, theirs: GradCAM, batch: Tensor) -> tuple[float, int]:
    """Compare the heatmaps before and after pytorch-grad-cam enlarges them.

    Returns:
        Largest absolute difference as a fraction of the peak, and number of heatmaps that are not zero everywhere.
    """
    enlarged = theirs(batch, None)
    kept = theirs.activations_and_grads
    raw = theirs.get_cam_image(batch, theirs.target_layers[0], None, kept.activations[0].numpy(), kept.gradients[0].numpy())
    ours = explained_forward(model, batch).numpy()
    small = abs(scale_to_unit(ours) - scale_to_unit(np.maximum(raw, 0))).max()
    # pytorch-grad-cam scales each heatmap before and after it enlarges it.
    large = abs(scale_cam_image(scale_cam_image(ours, (SIZE, SIZE))) - enlarged).max()
    return max(float(small), float(large)), int((ours.max((1, 2)) > 0).sum())


def milliseconds(work: Callable[[], object]) -> float:
    """Measure one call, in milliseconds."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def time_once(model: LesionClassifier, theirs: GradCAM, batch: Tensor) -> dict[str, float]:
    """Time each route once, in milliseconds for the whole batch."""
    times = {
        "forward": milliseconds(lambda: forward(model, batch)),
        "ours": milliseconds(lambda: explained_forward(model, batch)),
        "grad-cam": milliseconds(lambda: theirs(batch, None)),
    }
    with frozen_before_last_map(model):
        times["grad-cam frozen"] = milliseconds(lambda: theirs(batch, None))
    times["forward, d4"] = milliseconds(lambda: forward(model, eight_views(batch)))
    times["ours, d4"] = milliseconds(lambda: explained_views(model, batch))
    return times


def compare(model: LesionClassifier, *, batch_size: int, repetitions: int) -> bool:
    """Print one block of the table; return True on success."""
    with GradCAM(model, [model.backbone.bn2]) as theirs:
        batches = [random_images(batch_size, seed) for seed in SEEDS]
        differences = [map_difference(model, theirs, batch) for batch in batches]
        time_once(model, theirs, batches[0])
        rounds = [time_once(model, theirs, batch) for _ in range(repetitions) for batch in batches]
    difference = max(largest for largest, _ in differences)
    print(f"\nbatch {batch_size}: largest difference {difference:.1e}; {sum(alive for _, alive in differences)} maps", end=" ")
    print(f"of {batch_size * len(SEEDS)} not empty; {len(rounds)} rounds\n{'':18}{'ms / image':>12}{'x forward':>12}")
    ratios = {}
    for route in ROUTES:
        base = "forward, d4" if route.endswith("d4") else "forward"
        ratios[route] = statistics.median(times[route] / times[base] for times in rounds)
        print(f"{route:18}{statistics.median(times[route] for times in rounds) / batch_size:12.1f}{ratios[route]:12.2f}")
    return difference <= LARGEST_DIFFERENCE and max(ratios["ours"], ratios["ours, d4"]) <= LARGEST_RATIO


def main() -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(description="Compare Grad-CAM with a plain forward pass and pytorch-grad-cam.")
    parser.add_argument("--repetitions", type=int, default=5, help="rounds for each of the three batches of images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(f"torch {torch.__version__}, {options.threads} threads")
    model = build_model()
    passed = [compare(model, batch_size=size, repetitions=options.repetitions) for size in BATCH_SIZES]
    print("\npassed" if all(passed) else f"\nFAILED: at most {LARGEST_DIFFERENCE} and {LARGEST_RATIO} x are allowed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
