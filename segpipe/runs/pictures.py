"""The pictures of one image, as the bytes of the files that they become."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.inference.finding import Finding
from segpipe.io.images import encode_png

MASKS = "masks"
FOLDERS = (MASKS, "figures", "crops", "heatmaps")


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures are made of each image, beside its mask.

    Attributes:
        figure: draws the panel, as the bytes of a PNG, under a title; None for none.
        crops: the crop as the network saw it.
        heatmaps: the heatmap in the size of the image.
        report: draws the pictures of the HTML report: JPEGs by the folder that they go to; None for none.
        report_folders: all that `report` may name.
    """

    figure: Callable[[Finding, str], bytes] | None = None
    crops: bool = False
    heatmaps: bool = False
    report: Callable[[Finding], dict[str, bytes]] | None = None
    report_folders: Sequence[str] = ()

    @property
    def endings(self) -> dict[str, str]:
        """Each folder of pictures below the output folder, with the ending of its files."""
        return {**dict.fromkeys(FOLDERS, ".png"), **dict.fromkeys(self.report_folders, ".jpg")}


def encode_pictures(wanted: PictureOptions, finding: Finding, name: Path) -> dict[Path, bytes]:
    """Draw and encode what is wanted of one image.

    Args:
        wanted: which pictures.
        finding: of the image.
        name: of the image's files, relative and with the ending .png.

    Returns:
        What to write, by the file's path below the output folder.
    """
    pictures = {Path(MASKS, name): encode_png(finding.mask)}
    if wanted.crops:
        pictures[Path("crops", name)] = encode_png(finding.crop)
    if wanted.heatmaps and (heatmap := finding.heatmap) is not None:
        pictures[Path("heatmaps", name)] = encode_png(np.rint(heatmap * 255).astype(np.uint8))
    if wanted.figure is not None:
        pictures[Path("figures", name)] = wanted.figure(finding, name.stem)
    if wanted.report is not None:
        drawn = wanted.report(finding)
        pictures |= {Path(folder, name.with_suffix(".jpg")): content for folder, content in drawn.items()}
    return pictures
