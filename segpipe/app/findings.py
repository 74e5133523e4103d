"""Finding of one image, and two findings side by side."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from segpipe.app.analysis import Analysis, encode_json, encode_picture, encode_report, safe_stem
from segpipe.app.parts import in_current_language, literal, picture_uri, render, webp_uri
from segpipe.app.visits import changes
from segpipe.language import current_language, translate
from segpipe.report.evidence import NUMBERS_TITLE, SIMILAR_TITLE, has_numbers, set_coverage, similar_cases
from segpipe.report.html_finding import picture_texts, render_part
from segpipe.report.overlays import Preview, draw_axes, draw_lesion, draw_localization, encode_heatmap, make_preview
from segpipe.report.similar_pictures import TrainingPhotographs
from segpipe.report.wording import PROBABILITIES_TITLE, name_with_code

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

PICTURE_SIDE = 900  # pixels, longer side of displayed images
HEATMAP_OPACITY = 45  # percent, at first


@dataclass(frozen=True)
class Panel:
    """Finding to show.

    Attributes:
        analysis: Result of the image.
        pipeline: Pipeline that gave it.
        key: Text that no other panel has.
        model: Name of the model; None where there is only one.
    """

    analysis: Analysis
    pipeline: "Pipeline"
    key: str
    model: str | None


def show_findings(groups: Sequence[Sequence[Panel]], *, training_images: str | None) -> None:
    """Show the findings of one image, or those of two side by side.

    Args:
        groups: Panels of each image, one for each model.
        training_images: Folder of the training images, for pictures of similar cases; None for their names alone.
    """
    rows = groups if len(groups) == 1 else list(zip(*groups, strict=False))
    for row in rows:
        if len(groups) > 1:
            _show_changes(*row)
        wide = len(row) == 1
        for column, panel in zip(st.columns(len(row), gap="large"), row, strict=True):
            with column:
                if panel.model is not None:
                    st.header(literal(panel.model), divider=True)
                _show_finding(panel, wide=wide)
                _show_evidence(panel, wide=wide, training_images=training_images)


def _show_changes(first: Panel, second: Panel) -> None:
    """Show what differs between two visits."""
    names = [first.analysis.name, second.analysis.name]
    st.html(render("change", names=names, rows=changes(first.analysis.row, second.analysis.row)))
    st.caption(translate("Pixels compare only where both photographs were taken with the same device at the same distance."))


def _show_finding(panel: Panel, *, wide: bool) -> None:
    """Show a result, `wide` or in a single column."""
    head, downloads = _columns([3, 2], wide=wide)
    with head:
        st.html(f'<p class="filename">{escape(panel.analysis.name)}</p>')
        _show_part("prediction", panel)
    with downloads:
        _show_downloads(panel)
    preview = make_preview(panel.analysis.finding, max_side=PICTURE_SIDE)
    explained = panel.analysis.finding.class_map is not None
    columns = _columns([5, 5, 4] if explained else [5, 4], wide=wide)
    with columns[0]:
        _show_outline(panel, preview)
    if explained:
        with columns[1]:
            _show_heatmap(panel, preview)
    with columns[-1]:
        st.markdown(f"### {translate(PROBABILITIES_TITLE)}")
        _show_part("probabilities", panel)


def _columns(widths: Sequence[int], *, wide: bool) -> Sequence[AbstractContextManager[Any]]:
    return st.columns(widths, gap="medium") if wide else [st.container() for _ in widths]


def _texts(panel: Panel) -> dict[str, tuple[str, str]]:
    class_map = panel.analysis.finding.class_map
    return picture_texts(panel.analysis.row, explained=None if class_map is None else name_with_code(class_map.diagnosis))


def _show_outline(panel: Panel, preview: Preview) -> None:
    """Show the outline, with a slider that uncovers the photograph."""
    title, caption = _texts(panel)["image"]
    pictures = {"below": picture_uri(preview.image), "above": picture_uri(draw_localization(preview))}
    ends = {"left": translate("Photograph"), "right": translate("Outline"), "label": translate("Outline over the photograph")}
    st.html(render("viewer", kind="wipe", title=title, caption=caption, value=100, **pictures, **ends))


def _show_heatmap(panel: Panel, preview: Preview) -> None:
    """Show the heatmap, with a slider for its opacity."""
    class_map = panel.analysis.finding.class_map
    if class_map is None:
        return
    title, caption = _texts(panel)["heatmap"]
    pictures = {"below": picture_uri(draw_lesion(preview)), "above": webp_uri(encode_heatmap(preview, class_map))}
    ends = {"left": translate("Outline"), "right": translate("Heatmap"), "label": translate("Heatmap opacity")}
    st.html(render("viewer", kind="fade", title=title, caption=caption, value=HEATMAP_OPACITY, **pictures, **ends))


def _show_evidence(panel: Panel, *, wide: bool, training_images: str | None) -> None:
    """Show crop, shape, similar cases, numbers and details."""
    row = panel.analysis.row
    left, right = _columns([1, 1], wide=wide)
    with left:
        _show_cuts(panel)
        if has_numbers(row):
            st.markdown(f"### {translate(NUMBERS_TITLE)}")
            _show_part("numbers", panel)
    with right:
        if similar_cases(row):
            st.markdown(f"### {translate(SIMILAR_TITLE)}")
            urls = {} if training_images is None else _training_photographs(training_images).urls(row)
            _show_part("similar", panel, case_urls=urls)
        st.markdown(f"### {translate('Details')}")
        _show_part("details", panel)


def _show_cuts(panel: Panel) -> None:
    """Show the crop and the shape of the lesion."""
    finding, texts = panel.analysis.finding, _texts(panel)
    pictures = {"crop": finding.crop}
    if has_numbers(panel.analysis.row):
        pictures["shape"] = draw_axes(make_preview(finding, max_side=PICTURE_SIDE // 2), finding)
    with st.container(horizontal=True):
        for key, picture in pictures.items():
            title, caption = texts[key]
            st.html(render("picture", title=title, caption=caption, picture=picture_uri(picture)), width=280)


@st.cache_resource(show_spinner=False)
def _training_photographs(root: str) -> TrainingPhotographs:
    return TrainingPhotographs(Path(root))


def _show_part(part: str, panel: Panel, *, case_urls: Mapping[str, str] | None = None) -> None:
    ensemble = panel.pipeline.ensemble
    coverage = set_coverage(panel.analysis.finding)
    options: dict[str, Any] = {"points": ensemble.operating_points, "coverage": coverage, "case_urls": case_urls or {}}
    html = render_part(part, panel.analysis.row, ensemble.malignant, level=2, **options)
    st.html(f'<div class="finding" lang="{current_language()}">{html}</div>')


def _show_downloads(panel: Panel) -> None:
    analysis, pipeline = panel.analysis, panel.pipeline
    stem = safe_stem(analysis.name)
    downloads: dict[str, tuple[str, str, Callable[[], bytes]]] = {
        "Report (PDF)": (f"{stem}.pdf", "application/pdf", partial(encode_report, analysis, pipeline)),
        "Figure (PNG)": (f"{stem}.png", "image/png", partial(encode_picture, analysis)),
        "Data (JSON)": (f"{stem}.json", "application/json", partial(encode_json, analysis, pipeline)),
    }
    with st.container(horizontal=True, horizontal_alignment="right", key=f"downloads {panel.key}"):
        for label, (name, kind, encode) in downloads.items():
            st.download_button(
                translate(label),
                in_current_language(encode),
                file_name=f"segpipe_{name}",
                mime=kind,
                on_click="ignore",
                key=f"{label} {panel.key}",
                icon=":material/download:",
            )
