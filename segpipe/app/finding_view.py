"""One finding as a visitor sees it: the answer, the pictures, the probabilities, how it was found, and what to take home."""

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from segpipe.app import downloads
from segpipe.app.examination import Examination
from segpipe.app.layout import literal
from segpipe.report.html_image import place_context
from segpipe.report.html_parts import render_part
from segpipe.report.overlays import draw_heatmap, draw_place, encode_jpeg
from segpipe.report.preview import HEATMAP_OPACITY, Preview, make_preview
from segpipe.report.wording import HEATMAP_CAPTION, name_with_code, percent, photograph_caption
from segpipe.types import RgbImage

if TYPE_CHECKING:
    from segpipe.inference.heatmap import ClassMap
    from segpipe.inference.pipeline import Pipeline

PICTURE_SIDE = 900  # pixels, the longer side of what is shown


def show_finding(examination: Examination, pipeline: "Pipeline", *, key: str, wide: bool) -> None:
    """Show a finding.

    Args:
        examination: what was found.
        pipeline: that found it.
        key: of this view on the page.
        wide: it has the page for itself.
    """
    _show_part("answer", examination, pipeline)
    _show_pictures(examination, key=key, wide=wide)
    places = st.columns(2, gap="large") if wide else (st.container(), st.container())
    with places[0]:
        st.markdown("### Probabilities")
        _show_part("probabilities", examination, pipeline)
    with places[1]:
        st.markdown("### How it was found")
        _show_part("found", examination, pipeline)
    _show_downloads(examination, pipeline, key=key)


def _show_part(part: str, examination: Examination, pipeline: "Pipeline") -> None:
    ensemble = pipeline.ensemble
    html = render_part(part, examination.row, ensemble.malignant, points=ensemble.operating_points, level=2)
    st.html(f'<div class="finding">{html}</div>')


def _show_pictures(examination: Examination, *, key: str, wide: bool) -> None:
    finding = examination.finding
    preview = make_preview(finding, max_side=PICTURE_SIDE)
    shares = [4, 3] if finding.class_map is None else [4, 3, 4]
    places = st.columns(shares) if wide else [st.container() for _ in shares]
    with places[0]:
        _show_picture(draw_place(preview), "Photograph", photograph_caption(finding.localization.source))
    with places[1]:
        _show_picture(finding.crop, "Crop", place_context(examination.row)["crop_caption"])
    if finding.class_map is not None:
        with places[2]:
            _show_heatmap(preview, finding.class_map, examination.row["heatmap_in_lesion"], key=key)


@st.fragment
def _show_heatmap(preview: Preview, class_map: "ClassMap", in_lesion: float | None, *, key: str) -> None:
    """Run alone when the slider moves."""
    place = st.empty()
    opacity = st.slider(
        "Opacity of the heatmap", 0, 100, round(100 * HEATMAP_OPACITY), step=5, format="%d %%", key=f"opacity {key}"
    )
    st.html('<p class="scale">counted less <span></span> more</p>')
    share = "" if in_lesion is None else f"; {percent(in_lesion)} of it lies on the lesion"
    with place.container():
        caption = f"{name_with_code(class_map.diagnosis)}. {HEATMAP_CAPTION}{share}"
        _show_picture(draw_heatmap(preview, class_map, opacity=opacity / 100), "Heatmap", caption)


def _show_picture(picture: RgbImage, title: str, caption: str) -> None:
    st.markdown(f"### {title}")
    st.image(encode_jpeg(picture), width="stretch", alt=f"{title}: {caption}")
    st.caption(literal(caption))


def _show_downloads(examination: Examination, pipeline: "Pipeline", *, key: str) -> None:
    stem = downloads.safe_stem(examination.name)
    offers = {
        "Report (PDF)": (f"{stem}.pdf", "application/pdf", partial(downloads.encode_report, examination, pipeline)),
        "Figure (PNG)": (f"{stem}.png", "image/png", partial(downloads.encode_picture, examination)),
        "Data (JSON)": (f"{stem}.json", "application/json", partial(downloads.encode_json, examination, pipeline)),
    }
    with st.container(horizontal=True):
        for label, (name, kind, make) in offers.items():
            st.download_button(label, make, file_name=f"segpipe_{name}", mime=kind, on_click="ignore", key=f"{label} {key}")
