"""What a run was: `summary.json`, and the key by which a later call knows that it would go on with the same run."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segpipe import __version__
from segpipe.bundle.card import library_versions
from segpipe.bundle.folder import ClassifierBundle, SegmenterBundle
from segpipe.errors import OutputError
from segpipe.inference.pipeline import Pipeline
from segpipe.io.images import display_path, write_file
from segpipe.io.strict_json import encode_json
from segpipe.runs.journal import Journal, run_key
from segpipe.runs.pictures import PictureOptions

SUMMARY = "summary.json"


def run_identity(pipeline: Pipeline, wanted: PictureOptions, *, max_pixels: int) -> dict[str, Any]:
    """All that the results of a run depend on, beside the images: plain values by names that a user knows."""
    locator, ensemble = pipeline.locator, pipeline.ensemble
    return {
        "segpipe": __version__,
        "bundle.segmenter": _fingerprint(locator.bundle),
        "bundle.classifier": _one_or_all([_fingerprint(bundle) for bundle in ensemble.bundles]),
        "localize": str(locator.start),
        "tta": [asdict(view) for view in ensemble.views],
        "explain": ensemble.explained,
        "precision": str(ensemble.precision),
        "max_pixels": max_pixels,
        "figures": wanted.figure is not None,
        "crops": wanted.crops,
        "heatmaps": wanted.heatmaps,
        "report": wanted.report is not None,
    }


def model_hashes(pipeline: Pipeline) -> dict[str, Any]:
    """SHA-256 of the weights by role; None where there is no segmenter, a list of several classifiers."""
    segmenter = pipeline.locator.bundle
    return {
        "segmenter": None if segmenter is None else segmenter.sha256,
        "classifier": _one_or_all([bundle.sha256 for bundle in pipeline.ensemble.bundles]),
    }


def _fingerprint(bundle: SegmenterBundle | ClassifierBundle | None) -> str | None:
    """Of the weights and of the card, which holds the calibration and the crop rule."""
    if bundle is None:
        return None
    card = json.dumps(asdict(bundle.card), sort_keys=True, default=str)
    return hashlib.sha256((bundle.sha256 + card).encode()).hexdigest()


def _one_or_all(values: Sequence[Any]) -> Any:
    """What a single classifier has, or the list of several, whose order counts: the heatmap is in the frame of the first."""
    return values[0] if len(values) == 1 else list(values)


def refuse_other_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """See that the results in a folder come from a run like this one.

    Raises:
        OutputError: they come from other settings or bundles; the message names those that differ.
    """
    changed = changed_settings(folder, identity)
    if changed:
        raise OutputError(
            f"resume=true goes on with the settings and bundles that the results in {display_path(folder)} come from, but "
            f"{', '.join(changed)} changed; give them as they were, name another output, or begin anew with overwrite=true"
        )


def changed_settings(folder: Path, identity: Mapping[str, Any]) -> list[str]:
    """In what a run differs from that of the results in a folder, by names that a user knows; in nothing if there are none."""
    if all(row["run"] == run_key(identity) for row in Journal(folder, "").read().values()):
        return []
    before = read_identity(folder)
    return [name for name in identity if before and before.get(name) != identity[name]] or ["some of them"]


def read_identity(folder: Path) -> Mapping[str, Any]:
    """The `run_identity` of the results in a folder, empty where it is not known."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def write_summary(
    folder: Path, pipeline: Pipeline, identity: Mapping[str, Any], counts: Mapping[str, Any], *, settings: Any
) -> dict[str, Any]:
    """Write `summary.json`, and return what it holds: counts, settings, model hashes, versions.

    Args:
        folder: of the run.
        pipeline: that it runs with.
        identity: see `run_identity`.
        counts: how far it is, how long it took.
        settings: the configuration of the call, as plain values; None where a program called.

    Raises:
        OutputError: the file cannot be written.
    """
    summary = {
        **counts,
        "settings": settings,
        "run": identity,
        "models": model_hashes(pipeline),
        "malignant": list(pipeline.ensemble.malignant),
        "operating_points": [
            {"target": point.target, "threshold": point.threshold} for point in pipeline.ensemble.operating_points
        ],
        "versions": library_versions(),
        "platform": platform.platform(),
        "notice": "Not a medical device.",
    }
    write_file(folder / SUMMARY, encode_json(summary))
    return summary
