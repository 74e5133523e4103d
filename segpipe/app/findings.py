"""Finding of one image, and two findings side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from segpipe.app.analysis import NETWORK_THREAD, correct_outline, encode_json, encode_picture, encode_report
from segpipe.app.outline import show_outline
from segpipe.app.parts import in_current_language, literal, picture_uri, render, webp_uri
from segpipe.app.uploads import Analysis, safe_stem
from segpipe.app.visits import changes
from segpipe.language import current_language, translate
from segpipe.report.evidence import NUMBERS_TITLE, SIMILAR_TITLE, has_numbers, set_coverage, similar_cases
from segpipe.report.html_finding import picture_texts, render_part
from segpipe.report.overlays import Preview, draw_axes, draw_lesion, draw_localization, encode_heatmap, make_preview
from segpipe.report.similar_pictures import TrainingPhotographs
from segpipe.report.wording import PROBABILITIES_TITLE, name_with_code

if TYPE_CHECKING:
    from concurrent.futures import Future

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
        keep: Function that stores another analysis in place of this one.
    """

    analysis: Analysis
    pipeline: "Pipeline"
    key: str
    model: str | None
    keep: Callable[[Analysis], None]


def show_findings(groups: Sequence[Sequence[Panel]], *, training_images: str | None) -> None:
    """Show the findings of one image, or of two images.

    Args:
        groups: Panels of each image, one for each model.
        training_images: Folder of the training images, for pictures of similar cases; None for their names alone.
    """
    visits = len(groups) > 1
    for row in _by_model(groups) if visits else groups:
        if len(row) == 1:
            _show_alone(row[0], training_images)
        else:
            _show_side_by_side(row, training_images, visits=visits)


def _by_model(groups: Sequence[Sequence[Panel]]) -> list[list[Panel]]:
    """Group the panels of several images by model."""
    # A model may have rejected one of the images.
    panels = [panel for group in groups for panel in group]
    return [[panel for panel in panels if panel.model == model] for model in dict.fromkeys(panel.model for panel in panels)]


def _show_alone(panel: Panel, training_images: str | None) -> None:
    head, downloads = st.columns([5, 3], gap="medium")
    with head:
        _show_head(panel)
    with downloads:
        _show_downloads(panel)
    preview = make_preview(panel.analysis.finding, max_side=PICTURE_SIDE)
    parts = [_show_outline, _show_heatmap] if panel.analysis.finding.class_map is not None else [_show_outline]
    columns = st.columns(len(parts) + 1, gap="medium")
    for column, show in zip(columns, parts, strict=False):
        with column:
            show(panel, preview)
    with columns[-1]:
        _show_probabilities(panel)
    _show_correction(panel)
    left, right = st.columns(2, gap="large")
    with left:
        _show_measures(panel)
    with right:
        _show_evidence(panel, training_images)


def _show_side_by_side(panels: Sequence[Panel], training_images: str | None, *, visits: bool) -> None:
    """Show two findings in columns, their parts at the same height.

    Args:
        panels: Findings.
        training_images: Folder of the training images, or None.
        visits: True for two photographs, False for two models.
    """
    previews = {panel.key: make_preview(panel.analysis.finding, max_side=PICTURE_SIDE) for panel in panels}

    def show_each(*parts: Callable[[Panel], object]) -> None:
        for column, panel in zip(st.columns(len(panels), gap="large"), panels, strict=True):
            with column:
                for part in parts:
                    part(panel)

    show_each(_show_head, _show_downloads)
    show_each(lambda panel: _show_outline(panel, previews[panel.key]))
    show_each(_show_correction)
    if visits:
        names, rows = [panel.analysis.name for panel in panels], changes(*(panel.analysis.row for panel in panels))
        st.html(render("change", names=names, rows=rows))
        st.caption(translate("Pixels compare only where both photographs were taken with the same device at the same distance."))
    show_each(lambda panel: _show_heatmap(panel, previews[panel.key]))
    show_each(_show_probabilities)
    show_each(_show_measures)
    show_each(lambda panel: _show_evidence(panel, training_images))


def _show_head(panel: Panel) -> None:
    """Show model, file name and headline of a finding."""
    if panel.model is not None:
        st.header(literal(panel.model), divider=True)
    st.html(f'<p class="filename">{escape(panel.analysis.name)}</p>')
    _show_part("prediction", panel)


def _show_probabilities(panel: Panel) -> None:
    _show_title(PROBABILITIES_TITLE)
    _show_part("probabilities", panel)


def _show_title(title: str) -> None:
    st.subheader(translate(title), anchor=False)


def _texts(panel: Panel) -> dict[str, tuple[str, str]]:
    class_map = panel.analysis.finding.class_map
    return picture_texts(panel.analysis.row, explained=None if class_map is None else name_with_code(class_map.diagnosis))


def _show_outline(panel: Panel, preview: Preview) -> None:
    """Show the outline, with a slider that uncovers the photograph."""
    title, caption = _texts(panel)["image"]
    pictures = {"below": picture_uri(preview.image), "above": picture_uri(draw_localization(preview))}
    ends = {"left": translate("Photograph"), "right": translate("Outline"), "label": translate("Outline over the photograph")}
    st.html(render("viewer", kind="wipe", title=title, caption=caption, value=100, **pictures, **ends))


def _show_correction(panel: Panel) -> None:
    """Show the buttons that correct the outline, and its editor."""

    def correct(corners: object) -> "Future[Analysis]":
        return NETWORK_THREAD.submit(correct_outline, panel.pipeline, panel.analysis, corners)

    show_outline(panel.analysis, key=panel.key, keep=panel.keep, correct=correct)


def _show_heatmap(panel: Panel, preview: Preview) -> None:
    """Show the heatmap, with a slider for its opacity."""
    class_map = panel.analysis.finding.class_map
    if class_map is None:
        return
    title, caption = _texts(panel)["heatmap"]
    pictures = {"below": picture_uri(draw_lesion(preview)), "above": webp_uri(encode_heatmap(preview, class_map))}
    ends = {"left": translate("Outline"), "right": translate("Heatmap"), "label": translate("Heatmap opacity")}
    st.html(render("viewer", kind="fade", title=title, caption=caption, value=HEATMAP_OPACITY, **pictures, **ends))


def _show_measures(panel: Panel) -> None:
    """Show crop, shape and numbers of the lesion."""
    finding, texts = panel.analysis.finding, _texts(panel)
    pictures = {"crop": finding.crop}
    if has_numbers(panel.analysis.row):
        pictures["shape"] = draw_axes(make_preview(finding, max_side=PICTURE_SIDE // 2), finding)
    for column, (key, picture) in zip(st.columns(2), pictures.items(), strict=False):
        with column:
            title, caption = texts[key]
            st.html(render("picture", title=title, caption=caption, picture=picture_uri(picture)))
    if has_numbers(panel.analysis.row):
        _show_title(NUMBERS_TITLE)
        _show_part("numbers", panel)


def _show_evidence(panel: Panel, training_images: str | None) -> None:
    """Show similar cases and details."""
    row = panel.analysis.row
    if similar_cases(row):
        _show_title(SIMILAR_TITLE)
        urls = {} if training_images is None else _training_photographs(training_images).urls(row)
        _show_part("similar", panel, case_urls=urls)
    _show_title("Details")
    _show_part("details", panel)


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
