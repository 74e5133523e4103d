"""Results on the page: analysis of the uploads, and their list."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from segpipe.app.analysis import NETWORK_THREAD, analyze, encode_table
from segpipe.app.findings import Panel, show_findings
from segpipe.app.frame import show_error
from segpipe.app.models import Model, get_pipeline
from segpipe.app.parts import literal, picture_uri, render
from segpipe.app.uploads import Analysis, DecodedUpload, Upload, decode_upload
from segpipe.errors import ImageError
from segpipe.language import translate
from segpipe.report.evidence import trust_text
from segpipe.report.overlays import THUMBNAIL_SIDE, draw_lesion, make_preview, reduce_preview
from segpipe.report.wording import MALIGNANT_SIGN, name_with_code, percent, printable

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

WORKING_SIDE = 600  # pixels, longer side of the photograph that is being worked on


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
    names = {key: names[key] for key in sorted(names, key=lambda key: -_risk(results, key))}
    opened = st.session_state.get("opened") if len(names) > 1 else next(iter(names), None)
    with st.container(key="results"):
        if opened is not None and opened in names:
            other = _show_turning(names, opened) if len(names) > 1 else None
            keys = [opened] if other is None else [opened, other]
            show_findings([_panels(results, key) for key in keys], training_images=training_images)
        elif names:
            _show_list(results, names)


def _analyze_all(model: Model, uploads: Sequence[Upload], *, max_pixels: int) -> _ModelResults:
    """Analyze all uploads, each once in a session."""
    pipeline, known = get_pipeline(model.settings), _session_results()
    new = [upload for upload in uploads if (upload.key, pipeline) not in known]
    place = st.empty()
    for number, upload in enumerate(new):
        # Stored one by one, because a click may end this run of the script at any time.
        show = partial(_show_working, place, number=number, count=len(new))
        known[upload.key, pipeline] = _analyze(pipeline, upload, show, max_pixels=max_pixels)
    place.empty()
    outcomes = {upload.key: known[upload.key, pipeline] for upload in uploads}
    analyses = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Analysis)}
    rejections = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, _Rejection)}
    return _ModelResults(model, pipeline, analyses, rejections)


def _analyze(
    pipeline: "Pipeline", upload: Upload, show: Callable[[DecodedUpload], None], *, max_pixels: int
) -> Analysis | _Rejection:
    try:
        decoding = NETWORK_THREAD.submit(decode_upload, upload, least_side=pipeline.least_side, max_pixels=max_pixels)
        decoded = decoding.result()
        show(decoded)
        return NETWORK_THREAD.submit(analyze, pipeline, decoded).result()
    except ImageError as error:
        return _Rejection(str(error))


def _show_working(place: DeltaGenerator, decoded: DecodedUpload, *, number: int, count: int) -> None:
    """Show a spinner over the photograph that is being worked on."""
    image, name = decoded.photograph.image, printable(decoded.upload.name)
    step = max(1, max(image.shape) // WORKING_SIDE)
    text = translate("Analyzing {name}", name=name)
    text += "" if count == 1 else f" ({translate('{number} of {count}', number=number + 1, count=count)})"
    picture = picture_uri(image[::step, ::step])
    place.html(render("working", picture=picture, text=text, done=number, count=count))


def _session_results() -> dict[tuple[str, "Pipeline"], Analysis | _Rejection]:
    """Results of this session by upload key and pipeline."""
    return st.session_state.setdefault("results", {})  # type: ignore[no-any-return]


def _release_others(uploads: Sequence[Upload], pipelines: Sequence["Pipeline"]) -> None:
    """Release the results that are no longer shown."""
    known, keys = _session_results(), {upload.key for upload in uploads}
    for key, pipeline in [entry for entry in known if entry[0] not in keys or entry[1] not in pipelines]:
        del known[key, pipeline]


def _risk(results: Sequence[_ModelResults], key: str) -> float:
    """Largest probability of malignancy of an image; -1 if unknown."""
    risks = [each.analyses[key].finding.p_malignant for each in results if key in each.analyses]
    return max((risk for risk in risks if risk is not None), default=-1.0)


def _panels(results: Sequence[_ModelResults], key: str) -> list[Panel]:
    """Findings of one image, one for each model."""
    titled = len(results) > 1
    return [
        Panel(
            each.analyses[key],
            each.pipeline,
            f"{key} {each.model.label}",
            each.model.label if titled else None,
            partial(_session_results().__setitem__, (key, each.pipeline)),
        )
        for each in results
        if key in each.analyses
    ]


def _show_turning(names: Mapping[str, str], opened: str) -> str | None:
    """Show links to other findings; return the key of a second one."""
    keys = list(names)
    number = keys.index(opened)
    with st.container(horizontal=True, vertical_alignment="bottom", key="turn"):
        buttons = {
            "back": (translate("All results"), ":material/arrow_back:", None, False),
            "previous": (translate("Previous"), ":material/chevron_left:", keys[number - 1], number == 0),
            "next": (translate("Next"), ":material/chevron_right:", keys[(number + 1) % len(keys)], number + 1 == len(keys)),
        }
        for key, (label, icon, target, disabled) in buttons.items():
            st.button(label, on_click=_open, args=(target,), key=key, icon=icon, disabled=disabled)
        st.space("stretch")
        return st.selectbox(
            translate("Side by side with"),
            [key for key in keys if key != opened],
            index=None,
            format_func=names.__getitem__,
            key=f"beside {opened}",
            placeholder=translate("another photograph, such as an earlier visit"),
            width=320,
        )


def _open(key: str | None) -> None:
    st.session_state["opened"] = key


def _show_list(results: Sequence[_ModelResults], names: Mapping[str, str]) -> None:
    """Show a row for each image, which opens its finding."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="list_head"):
        with st.container(width="stretch"):
            st.header(translate("{count} results", count=len(names)), anchor=False)
            st.caption(translate("The most suspicious first. Click one to open it."))
        for each in (each for each in results if each.analyses):
            _show_table_download(each, titled=len(results) > 1)
    for number, (key, name) in enumerate(names.items()):
        with st.container(key=f"card-{number}"):
            st.html(_row(results, key, name))
            st.button(translate("Open {name}", name=literal(name)), on_click=_open, args=(key,), key=f"show {key}")


def _show_table_download(each: _ModelResults, *, titled: bool) -> None:
    title = literal(each.model.label)
    st.download_button(
        translate("Table of {model} (CSV)", model=title) if titled else translate("Table (CSV)"),
        partial(encode_table, list(each.analyses.values())),
        file_name="segpipe_results.csv",
        mime="text/csv",
        on_click="ignore",
        key=f"table {each.model.label}",
        icon=":material/download:",
    )


def _row(results: Sequence[_ModelResults], key: str, name: str) -> str:
    analyses = [(each.model.label, each.analyses[key]) for each in results if key in each.analyses]
    preview = make_preview(analyses[0][1].finding, max_side=2 * THUMBNAIL_SIDE)
    lines = [_line(analysis, label if len(results) > 1 else None) for label, analysis in analyses]
    # Drawn before it is reduced, so that the line is thin.
    outlined = replace(preview, image=draw_lesion(preview))
    thumbnail = picture_uri(reduce_preview(outlined, max_side=THUMBNAIL_SIDE).image)
    return render("row", name=name, thumbnail=thumbnail, lines=lines, sign=MALIGNANT_SIGN)


def _line(analysis: Analysis, model: str | None) -> dict[str, Any]:
    finding = analysis.finding
    return {
        "model": model,
        "diagnosis": name_with_code(finding.diagnosis),
        "malignant": finding.diagnosis in finding.malignant,
        "confidence": percent(finding.confidence),
        "unsure": bool(finding.localization.warnings),
        "suspicious": finding.suspicious,
        "trust": trust_text(analysis.row),
        "p_malignant": None if finding.p_malignant is None else percent(finding.p_malignant),
        "width": f"{finding.p_malignant or 0:.2%}",
    }
