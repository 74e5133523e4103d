"""Options of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segpipe.inference.finding import Finding
from segpipe.io.image_decoding import DEFAULT_MAX_PIXELS
from segpipe.io.run_files import PICTURE_FOLDERS


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
    """

    output: Path
    pictures: PictureOptions = field(default_factory=PictureOptions)
    max_pixels: int = DEFAULT_MAX_PIXELS
    settings: Any = None


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
