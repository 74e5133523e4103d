"""Results on the page: table of all images, details of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from segpipe.app.analysis import Analysis, Upload, analyze, encode_json, encode_picture, encode_report, encode_table, safe_stem
from segpipe.app.frame import NETWORK_THREAD, Model, get_pipeline, literal, show_error
from segpipe.app.outline import show_outline
from segpipe.errors import ImageError
from segpipe.report.evidence import NUMBERS_TITLE, SIMILAR_TITLE, has_numbers, set_coverage, similar_cases, trust_text
from segpipe.report.html_finding import picture_texts, render_part
from segpipe.report.overlays import (
    HEATMAP_OPACITY,
    Preview,
    draw_axes,
    draw_heatmap,
    draw_localization,
    encode_jpeg,
    make_preview,
)
from segpipe.report.similar_pictures import TrainingPhotographs
from segpipe.report.wording import PROBABILITIES_TITLE, mark_unsure, name_with_code, printable, source_name, suspicion_phrases
from segpipe.types import RgbImage

if TYPE_CHECKING:
    from segpipe.inference.heatmap import ClassMap
    from segpipe.inference.pipeline import Pipeline

PICTURE_SIDE = 900  # pixels, longer side of displayed images


@dataclass(frozen=True)
class _Rejection:
    """Reason why an upload cannot be used."""

    reason: str


@dataclass(frozen=True)
class _ModelResults:
    """Results of one model.

    Attributes:
        model: Chosen model.
        pipeline: Pipeline of the model.
        analyses: Analyses by the key of the upload.
        rejections: Rejections by the key of the upload; no key is in both.
    """

    model: Model
    pipeline: "Pipeline"
    analyses: dict[str, Analysis]
    rejections: dict[str, _Rejection]


def show_results(
    models: Sequence[Model], uploads: Sequence[Upload], *, max_pixels: int, training_images: str | None = None
) -> None:
    """Analyze the uploads and show the results.

    Args:
        models: One model, or two to show side by side.
        uploads: Images to analyze.
        max_pixels: Largest allowed number of pixels of an image.
        training_images: Folder of the training images, for pictures of similar cases; None for their names alone.
    """
    results = [_analyze_all(model, uploads, max_pixels=max_pixels) for model in models]
    _release_others(uploads, [each.pipeline for each in results])
    for upload in uploads:
        reasons = [each.rejections[upload.key].reason for each in results if upload.key in each.rejections]
        for reason in dict.fromkeys(reasons):
            show_error(f"{printable(upload.name)}: {reason}")
    names = {upload.key: printable(upload.name) for upload in uploads if any(upload.key in each.analyses for each in results)}
    if not names:
        return
    if len(names) > 1:
        _show_table(results, names)
    key = st.selectbox("Image", names, format_func=names.__getitem__) if len(names) > 1 else next(iter(names))
    for column, each in zip(st.columns(len(results), gap="large"), results, strict=True):
        with column:
            if len(results) > 1:
                st.header(literal(each.model.label), divider=True)
            if key in each.analyses:
                analysis, own, wide = each.analyses[key], f"{key} {each.model.label}", len(results) == 1
                _show_analysis(analysis, each.pipeline, key=own, wide=wide)
                keep = partial(_session_results().__setitem__, (key, each.pipeline))
                show_outline(analysis, each.pipeline, key=own, keep=keep, submit=NETWORK_THREAD.submit)
                _show_evidence(analysis, each.pipeline, wide=wide, training_images=training_images)


def _analyze_all(model: Model, uploads: Sequence[Upload], *, max_pixels: int) -> _ModelResults:
    """Analyze all uploads, each once in a session."""
    pipeline, known = get_pipeline(model.settings), _session_results()
    new = [upload for upload in uploads if (upload.key, pipeline) not in known]
    progress = st.progress(0.0) if len(new) > 1 else None
    for number, upload in enumerate(new):
        if progress is not None:
            progress.progress(number / len(new), f"{number} of {len(new)} images")
        # Stored one by one, because a click may end this run of the script at any time.
        known[upload.key, pipeline] = _analyze(pipeline, upload, max_pixels=max_pixels)
    if progress is not None:
        progress.empty()
    outcomes = {upload.key: known[upload.key, pipeline] for upload in uploads}
    analyses = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Analysis)}
    rejections = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, _Rejection)}
    return _ModelResults(model, pipeline, analyses, rejections)


def _analyze(pipeline: "Pipeline", upload: Upload, *, max_pixels: int) -> Analysis | _Rejection:
    try:
        return NETWORK_THREAD.submit(analyze, pipeline, upload, max_pixels=max_pixels).result()
    except ImageError as error:
        return _Rejection(str(error))


def _session_results() -> dict[tuple[str, "Pipeline"], Analysis | _Rejection]:
    """Results of this session by upload key and pipeline."""
    return st.session_state.setdefault("results", {})  # type: ignore[no-any-return]


def _release_others(uploads: Sequence[Upload], pipelines: Sequence["Pipeline"]) -> None:
    """Release the results that are no longer shown."""
    known, keys = _session_results(), {upload.key for upload in uploads}
    for key, pipeline in [entry for entry in known if entry[0] not in keys or entry[1] not in pipelines]:
        del known[key, pipeline]


def _show_table(results: Sequence[_ModelResults], names: dict[str, str]) -> None:
    tables = []
    for each in results:
        title = f", {each.model.label}" if len(results) > 1 else ""
        rows = {key: _table_row(analysis) for key, analysis in each.analyses.items()}
        tables.append(pd.DataFrame.from_dict(rows, orient="index").add_suffix(title))
    table = pd.concat(tables, axis="columns").reindex(list(names)).rename(index=names).rename_axis("image")
    fractions = [name for name in table.columns if name.startswith(("confidence", "P(malignant)", "spread"))]
    st.dataframe(
        table,
        column_config={name: st.column_config.NumberColumn(format="percent") for name in fractions},
        alt="Results of all images",
    )
    with st.container(horizontal=True):
        for each in (each for each in results if each.analyses):
            title = f" of {literal(each.model.label)}" if len(results) > 1 else ""
            st.download_button(
                f"Table{title} (CSV)",
                partial(encode_table, list(each.analyses.values())),
                file_name="segpipe_results.csv",
                mime="text/csv",
                on_click="ignore",
                key=f"table {each.model.label}",
            )


def _table_row(analysis: Analysis) -> dict[str, Any]:
    finding = analysis.finding
    targets = [point.target for point in finding.operating_points]
    suspicion = suspicion_phrases(finding.flagged_for, targets, malignant=finding.diagnosis in finding.malignant)
    trust = trust_text(analysis.row)
    return {
        "diagnosis": mark_unsure(name_with_code(finding.diagnosis), finding.localization.warnings),
        "confidence": finding.confidence,
        "P(malignant)": finding.p_malignant,
        "trust": None if trust is None else f"{trust.mark} {trust.color}",
        "suspicion": "; ".join(suspicion),
        "mask source": source_name(finding.localization.source),
        "spread over the views": finding.tta_spread,
    }


def _show_analysis(analysis: Analysis, pipeline: "Pipeline", *, key: str, wide: bool) -> None:
    """Show the result of one image, `wide` or in a single column."""
    _show_part("prediction", analysis, pipeline)
    _show_pictures(analysis, key=key, wide=wide)
    columns = st.columns(2, gap="large") if wide else (st.container(), st.container())
    with columns[0]:
        st.markdown(f"### {PROBABILITIES_TITLE}")
        _show_part("probabilities", analysis, pipeline)
    with columns[1]:
        st.markdown("### Details")
        _show_part("details", analysis, pipeline)
    _show_downloads(analysis, pipeline, key=key)


def _show_evidence(analysis: Analysis, pipeline: "Pipeline", *, wide: bool, training_images: str | None) -> None:
    """Show similar cases and numbers of the lesion, where there are any."""
    shown = {"similar": (SIMILAR_TITLE, bool(similar_cases(analysis.row))), "numbers": (NUMBERS_TITLE, has_numbers(analysis.row))}
    parts = {part: title for part, (title, exists) in shown.items() if exists}
    columns = st.columns(2, gap="large") if wide else [st.container() for _ in parts]
    for column, (part, title) in zip(columns, parts.items(), strict=False):
        with column:
            st.markdown(f"### {title}")
            urls = {} if training_images is None else _training_photographs(training_images).urls(analysis.row)
            _show_part(part, analysis, pipeline, case_urls=urls)


@st.cache_resource(show_spinner=False)
def _training_photographs(root: str) -> TrainingPhotographs:
    return TrainingPhotographs(Path(root))


def _show_part(part: str, analysis: Analysis, pipeline: "Pipeline", *, case_urls: Mapping[str, str] | None = None) -> None:
    ensemble, coverage = pipeline.ensemble, set_coverage(analysis.finding)
    options: dict[str, Any] = {"points": ensemble.operating_points, "coverage": coverage, "case_urls": case_urls or {}}
    html = render_part(part, analysis.row, ensemble.malignant, level=2, **options)
    st.html(f'<div class="finding">{html}</div>')


def _show_pictures(analysis: Analysis, *, key: str, wide: bool) -> None:
    finding = analysis.finding
    explained = None if finding.class_map is None else name_with_code(finding.class_map.diagnosis)
    texts = picture_texts(analysis.row, explained=explained)
    preview = make_preview(finding, max_side=PICTURE_SIDE)
    widths = {"image": 4, "crop": 3}
    widths |= {} if finding.class_map is None else {"heatmap": 4}
    widths |= {"shape": 4} if has_numbers(analysis.row) else {}
    columns = dict(zip(widths, st.columns([*widths.values()]) if wide else [st.container() for _ in widths], strict=True))
    with columns["image"]:
        _show_picture(draw_localization(preview), *texts["image"])
    with columns["crop"]:
        _show_picture(finding.crop, *texts["crop"])
    if finding.class_map is not None:
        with columns["heatmap"]:
            _show_heatmap(preview, finding.class_map, *texts["heatmap"], key=key)
    if "shape" in columns:
        with columns["shape"]:
            _show_picture(draw_axes(preview, finding), *texts["shape"])


@st.fragment
def _show_heatmap(preview: Preview, class_map: "ClassMap", title: str, caption: str, *, key: str) -> None:
    """Show the heatmap with a slider, which runs only this function again."""
    container = st.empty()
    percentage = st.slider("Heatmap opacity", 0, 100, round(100 * HEATMAP_OPACITY), step=5, format="%d %%", key=f"opacity {key}")
    st.html('<p class="scale">low contribution <span></span> high</p>')
    with container.container():
        _show_picture(draw_heatmap(preview, class_map, opacity=percentage / 100), title, caption)


def _show_picture(picture: RgbImage, title: str, caption: str) -> None:
    st.markdown(f"### {literal(title)}")
    st.image(encode_jpeg(picture), width="stretch", alt=f"{title}: {caption}")
    st.caption(literal(caption))


def _show_downloads(analysis: Analysis, pipeline: "Pipeline", *, key: str) -> None:
    stem = safe_stem(analysis.name)
    downloads = {
        "Report (PDF)": (f"{stem}.pdf", "application/pdf", partial(encode_report, analysis, pipeline)),
        "Figure (PNG)": (f"{stem}.png", "image/png", partial(encode_picture, analysis)),
        "Data (JSON)": (f"{stem}.json", "application/json", partial(encode_json, analysis, pipeline)),
    }
    with st.container(horizontal=True):
        for label, (name, kind, encode) in downloads.items():
            st.download_button(label, encode, file_name=f"segpipe_{name}", mime=kind, on_click="ignore", key=f"{label} {key}")
