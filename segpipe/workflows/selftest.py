"""Self-test: golden outputs of bundles against each runtime and device."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from segpipe.errors import BundleError, ConfigError, SelfTestError
from segpipe.inference import golden
from segpipe.inference.runtimes import Runtime
from segpipe.io.run_files import GOLDEN, MODEL_GRAPH

BATCH_SIZES = (1, 8)
# Largest differences that rounding in float32 explains, with a wide margin; a changed weight makes larger ones.
TOLERANCES = {"mask": 1e-3, "probability": 1e-3, "heatmap": 1e-2}
_DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Check:
    """Result of one comparison.

    Attributes:
        model: `segmenter` or `classifier`.
        runtime: Name of the runtime.
        device: Name of the device.
        batch_size: Number of images x views in one pass.
        views: Key of `segpipe.inference.tta.VIEWS`.
        differences: Largest absolute difference by output.
    """

    model: str
    runtime: str
    device: str
    batch_size: int
    views: str
    differences: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """True where no difference exceeds its tolerance; a NaN does."""
        return all(value <= TOLERANCES[name] for name, value in self.differences.items())


def run_selftest(segmenter: Path, classifier: Path) -> list[Check]:
    """Compare two bundles with their golden outputs, in all runtimes.

    Args:
        segmenter: Bundle of the segmenter.
        classifier: Bundle of the classifier.

    Raises:
        BundleError: A bundle cannot be used, or has no golden outputs.
    """
    return [*_check_segmenter(segmenter), *_check_classifier(classifier)]


def selftest_table(checks: Sequence[Check]) -> str:
    """Write checks as a table of text, with the largest differences."""
    header = f"{'model':<11}{'runtime':<10}{'device':<8}{'batch':>5}  {'views':<6}largest differences"
    rows = [
        f"{check.model:<11}{check.runtime:<10}{check.device:<8}{check.batch_size:>5}  {check.views:<6}"
        + ", ".join(f"{name} {value:.1e}" for name, value in check.differences.items())
        + ("" if check.passed else "  FAILED")
        for check in checks
    ]
    return "\n".join([header, *rows])


def require_passed(checks: Sequence[Check]) -> None:
    """Refuse checks with too large a difference.

    Raises:
        SelfTestError: A check failed.
    """
    failed = [check for check in checks if not check.passed]
    if failed:
        first = failed[0]
        raise SelfTestError(
            f"{len(failed)} of {len(checks)} comparisons failed, the first is the {first.model} with runtime={first.runtime} "
            f"device={first.device}; install the versions of constraints.txt, or copy or export the bundle again"
        )


def _check_segmenter(folder: Path) -> Iterator[Check]:
    expected = _read_golden(folder)
    for runtime in _runtimes(folder):
        network = runtime.load_segmenter(folder)
        for batch_size, (views, outputs) in product(BATCH_SIZES, expected.outputs.items()):
            found = golden.segmenter_outputs(network, expected.images, batch_size=batch_size)
            differences = golden.largest_differences(found, outputs)
            yield Check("segmenter", runtime.name, runtime.device, batch_size, views, differences)


def _check_classifier(folder: Path) -> Iterator[Check]:
    expected = _read_golden(folder)
    for runtime in _runtimes(folder):
        (network,) = runtime.load_classifiers([folder])
        for batch_size, (views, outputs) in product(BATCH_SIZES, expected.outputs.items()):
            found = golden.classifier_outputs(network, expected.images, views=views, batch_size=batch_size)
            differences = golden.largest_differences(found, outputs)
            yield Check("classifier", runtime.name, runtime.device, batch_size, views, differences)


def _read_golden(folder: Path) -> golden.Golden:
    found = golden.read_golden(folder)
    if found is None:
        raise BundleError(f"{folder}: a bundle must have {GOLDEN} for a self-test, got none; segpipe export writes it")
    return found


def _runtimes(folder: Path) -> Iterator[Runtime]:
    """Yield the installed runtimes of a bundle, on each device."""
    names = ["torch"] if find_spec("torch") is not None else []
    if (folder / MODEL_GRAPH).is_file():
        names += ["onnx", *(["openvino"] if find_spec("openvino") is not None else [])]
    for name in names:
        for device in _DEVICES:
            with suppress(ConfigError):  # a device that is not there, or that the runtime cannot use
                yield Runtime.of(name, device=device)
