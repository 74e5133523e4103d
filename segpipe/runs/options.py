"""Options of a run, and the summary that records them."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segpipe import __version__
from segpipe.bundle.records import library_versions
from segpipe.errors import OutputError
from segpipe.inference.finding import Finding
from segpipe.io.files import display_path, encode_json, write_file
from segpipe.io.image_decoding import DEFAULT_MAX_PIXELS
from segpipe.io.run_files import PICTURE_FOLDERS, SUMMARY
from segpipe.runs.journal import Journal, run_key


@dataclass(frozen=True)
class PictureOptions:
    """Pictures of each image, beside its mask.

    Attributes:
        figure: Function from a finding and a title to the PNG of its figure; None for no figures.
        crops: True to write crops as the network sees them.
        heatmaps: True to write heatmaps in the size of the image.
        report: Function from a finding to the JPEGs of the HTML report by folder; None for no report.
        report_folders: All folders that `report` may name.
    """

    figure: Callable[[Finding, str], bytes] | None = None
    crops: bool = False
    heatmaps: bool = False
    report: Callable[[Finding], dict[str, bytes]] | None = None
    report_folders: Sequence[str] = ()

    @property
    def endings(self) -> dict[str, str]:
        """Ending of the files in each folder of pictures."""
        return {**dict.fromkeys(PICTURE_FOLDERS, ".png"), **dict.fromkeys(self.report_folders, ".jpg")}


@dataclass(frozen=True)
class RunOptions:
    """Options of a run.

    Attributes:
        output: Existing output folder; images that its journal holds already are not processed again.
        pictures: Pictures of each image.
        max_pixels: Largest accepted number of pixels of an image.
        settings: Configuration of the call as plain values, for `summary.json`; None for a call from Python.
        title: Name of the run, shown with its progress.
    """

    output: Path
    pictures: PictureOptions = field(default_factory=PictureOptions)
    max_pixels: int = DEFAULT_MAX_PIXELS
    settings: Any = None
    title: str = ""


@dataclass(frozen=True)
class RunPlan:
    """Options that the workers of a run need.

    Attributes:
        pictures: Pictures of each image.
        max_pixels: Largest accepted number of pixels of an image.
        finished: SHA-256 of the files that have results already, by path.
    """

    pictures: PictureOptions
    max_pixels: int
    finished: Mapping[str, str]


def run_identity(
    pipeline: Mapping[str, Any], pictures: PictureOptions, *, max_pixels: int, given_masks: str | None
) -> dict[str, Any]:
    """Collect everything that results depend on beside the images.

    Args:
        pipeline: Identity of the pipeline, see `Pipeline.identity`.
        pictures: Pictures of each image.
        max_pixels: Largest accepted number of pixels of an image.
        given_masks: Hash of the given masks, see `segpipe.runs.source.Source.hash_masks`; None without any.

    Returns:
        Plain values by key of the command.
    """
    return {
        "segpipe": __version__,
        **pipeline,
        "max_pixels": max_pixels,
        "given_masks": given_masks,
        "figures": pictures.figure is not None,
        "crops": pictures.crops,
        "heatmaps": pictures.heatmaps,
        "report": pictures.report is not None,
    }


def refuse_other_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a folder with the results of another run.

    Raises:
        OutputError: They come from other settings or bundles; the message names those that differ.
    """
    changed = changed_settings(folder, identity)
    if changed:
        raise OutputError(
            f"resume=true needs the settings and bundles that the results in {display_path(folder)} come from, but "
            f"{', '.join(changed)} changed; restore them, name another output, or start again with overwrite=true"
        )


def changed_settings(folder: Path, identity: Mapping[str, Any]) -> list[str]:
    """List the keys that differ from the results in a folder."""
    if all(row["run"] == run_key(identity) for row in Journal(folder, "").read().values()):
        return []
    before = read_identity(folder)
    return [name for name in identity if before and before.get(name) != identity[name]] or ["some of them"]


def read_identity(folder: Path) -> Mapping[str, Any]:
    """Read the `run_identity` of a folder; empty where it is unknown."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def write_summary(
    folder: Path, counts: Mapping[str, Any], *, settings: Any, identity: Mapping[str, Any], models: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `summary.json` and return its content.

    Args:
        folder: Output folder of the run.
        counts: Progress and speed of the run.
        settings: Configuration of the call as plain values; None for a call from Python.
        identity: Identity of the run, see `run_identity`.
        models: Fields on the models, see `Pipeline.describe_models`.

    Raises:
        OutputError: The file cannot be written.
    """
    summary = {
        **counts,
        "settings": settings,
        "run": identity,
        **models,
        "versions": library_versions(),
        # Not platform.platform(), which starts a process to ask for the processor.
        "platform": "-".join((platform.system(), platform.release(), platform.machine())),
        "notice": "Not a medical device.",
    }
    write_file(folder / SUMMARY, encode_json(summary))
    return summary
