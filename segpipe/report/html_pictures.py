"""The pictures of the HTML report, one JPEG each: thumbnail, photograph with outline and crop box, crop, heatmap."""

from segpipe.inference.finding import Finding
from segpipe.report.overlays import draw_heatmap, draw_outline, draw_place, encode_jpeg
from segpipe.report.preview import make_preview, reduce_preview

# Below the output folder of a run.
THUMBNAILS, PHOTOGRAPHS, CROPS, HEATMAPS = PICTURES = tuple(
    f"report/{name}" for name in ("thumbnails", "photographs", "crops", "heatmaps")
)
THUMBNAIL_SIDE, PHOTOGRAPH_SIDE = 160, 800


def report_pictures(finding: Finding) -> dict[str, bytes]:
    """Draw the report's pictures of one image; threads may draw at the same time.

    Args:
        finding: result of the image.

    Returns:
        JPEG files by their folder, one of `PICTURES`; without a heatmap where the finding has none. None is enlarged.
    """
    photograph = make_preview(finding, max_side=PHOTOGRAPH_SIDE)
    pictures = {
        THUMBNAILS: draw_outline(reduce_preview(photograph, max_side=THUMBNAIL_SIDE)),
        PHOTOGRAPHS: draw_place(photograph),
        CROPS: finding.crop,
    }
    if finding.class_map is not None:
        pictures[HEATMAPS] = draw_heatmap(photograph, finding.class_map)
    return {folder: encode_jpeg(picture) for folder, picture in pictures.items()}
