"""The first page: what is given is examined, and the findings are shown, one at a time and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from segpipe.app.finding_view import encode_table, show_finding
from segpipe.app.shared import NETWORK_THREAD, get_pipeline, literal, show_error
from segpipe.app.sidebar import Model
from segpipe.app.uploads import Examination, Upload, examine
from segpipe.errors import ImageError
from segpipe.report.wording import answer_name, name_with_code, printable, suspicion_words, way_words

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline


@dataclass(frozen=True)
class _Refusal:
    """An upload cannot be used."""

    reason: str


@dataclass(frozen=True)
class _ModelFindings:
    """What a model found.

    Attributes:
        model: that was chosen.
        pipeline: of its settings.
        found: by the key of the upload.
        refused: likewise; no key is in both.
    """

    model: Model
    pipeline: "Pipeline"
    found: dict[str, Examination]
    refused: dict[str, _Refusal]


def show_lesions(models: Sequence[Model], uploads: Sequence[Upload], *, max_pixels: int) -> None:
    """Show the findings of one model, or of two side by side."""
    findings = [_examine_all(model, uploads, max_pixels=max_pixels) for model in models]
    _forget_others(uploads, [each.pipeline for each in findings])
    for upload in uploads:
        reasons = [each.refused[upload.key].reason for each in findings if upload.key in each.refused]
        for reason in dict.fromkeys(reasons):
            show_error(f"{printable(upload.name)}: {reason}")
    names = {upload.key: printable(upload.name) for upload in uploads if any(upload.key in each.found for each in findings)}
    if not names:
        return
    if len(names) > 1:
        _show_table(findings, names)
    key = st.selectbox("Photograph", names, format_func=names.__getitem__) if len(names) > 1 else next(iter(names))
    for place, each in zip(st.columns(len(findings), gap="large"), findings, strict=True):
        with place:
            if len(findings) > 1:
                st.header(literal(each.model.label), divider=True)
            if key in each.found:
                view = f"{key} {each.model.label}"
                show_finding(each.found[key], each.pipeline, key=view, wide=len(findings) == 1)


def _examine_all(model: Model, uploads: Sequence[Upload], *, max_pixels: int) -> _ModelFindings:
    """What a model found on all uploads; each is examined once in a session."""
    pipeline, known = get_pipeline(model.settings), _session_findings()
    new = [upload for upload in uploads if (upload.key, pipeline) not in known]
    progress = st.progress(0.0) if len(new) > 1 else None
    for number, upload in enumerate(new):
        if progress is not None:
            progress.progress(number / len(new), f"{number} of {len(new)} photographs")
        # Kept one by one, because a click may end this run of the script at any time.
        known[upload.key, pipeline] = _examine(pipeline, upload, max_pixels=max_pixels)
    if progress is not None:
        progress.empty()
    said = {upload.key: known[upload.key, pipeline] for upload in uploads}
    found = {key: each for key, each in said.items() if isinstance(each, Examination)}
    refused = {key: each for key, each in said.items() if isinstance(each, _Refusal)}
    return _ModelFindings(model, pipeline, found, refused)


def _examine(pipeline: "Pipeline", upload: Upload, *, max_pixels: int) -> Examination | _Refusal:
    try:
        return NETWORK_THREAD.submit(examine, pipeline, upload, max_pixels=max_pixels).result()
    except ImageError as error:
        return _Refusal(str(error))


def _session_findings() -> dict[tuple[str, "Pipeline"], Examination | _Refusal]:
    """What was found in this visitor's session, by the upload's key and the pipeline."""
    return st.session_state.setdefault("findings", {})  # type: ignore[no-any-return]


def _forget_others(uploads: Sequence[Upload], pipelines: Sequence["Pipeline"]) -> None:
    """Let go of what is no longer on the page."""
    known, keys = _session_findings(), {upload.key for upload in uploads}
    for key, pipeline in [entry for entry in known if entry[0] not in keys or entry[1] not in pipelines]:
        del known[key, pipeline]


def _show_table(findings: Sequence[_ModelFindings], names: dict[str, str]) -> None:
    tables = []
    for each in findings:
        title = f", {each.model.label}" if len(findings) > 1 else ""
        rows = {key: _table_row(examination) for key, examination in each.found.items()}
        tables.append(pd.DataFrame.from_dict(rows, orient="index").add_suffix(title))
    table = pd.concat(tables, axis="columns").reindex(list(names)).rename(index=names).rename_axis("photograph")
    shares = [name for name in table.columns if name.startswith(("confidence", "malignant", "spread"))]
    st.dataframe(
        table,
        column_config={name: st.column_config.NumberColumn(format="percent") for name in shares},
        alt="What was found on each photograph",
    )
    with st.container(horizontal=True):
        for each in (each for each in findings if each.found):
            title = f" of {literal(each.model.label)}" if len(findings) > 1 else ""
            st.download_button(
                f"Table{title} (CSV)",
                partial(encode_table, list(each.found.values())),
                file_name="segpipe_results.csv",
                mime="text/csv",
                on_click="ignore",
                key=f"table {each.model.label}",
            )


def _table_row(examination: Examination) -> dict[str, Any]:
    finding = examination.finding
    targets = [point.target for point in finding.operating_points]
    suspicion = suspicion_words(finding.flagged_for, targets, malignant=finding.diagnosis in finding.malignant)
    return {
        "diagnosis": answer_name(name_with_code(finding.diagnosis), finding.localization.warnings),
        "confidence": finding.confidence,
        "malignant": finding.p_malignant,
        "suspicion": "; ".join(suspicion),
        "outline by": way_words(finding.localization.source),
        "spread of the views": finding.tta_spread,
    }
