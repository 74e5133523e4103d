"""The first page: photographs are given, examined, and their findings shown, one at a time and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st
from omegaconf import DictConfig

from segpipe.app.downloads import encode_table
from segpipe.app.examination import Examination, Photograph, examine
from segpipe.app.finding_view import show_finding
from segpipe.app.frame import literal, show_error
from segpipe.app.models import get_network_thread, get_pipeline
from segpipe.app.photographs import gather_photographs
from segpipe.app.sidebar import Model
from segpipe.errors import ImageError
from segpipe.report import name_with_code, printable, way_words

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline


@dataclass(frozen=True)
class _Column:
    """A model, and what it found.

    Attributes:
        model: that was chosen.
        pipeline: of its settings.
        found: by the key of the photograph; the reason where nothing could be.
    """

    model: Model
    pipeline: "Pipeline"
    found: dict[str, Examination | str]

    def examinations(self) -> dict[str, Examination]:
        """What was found, by the key of the photograph."""
        return {key: found for key, found in self.found.items() if isinstance(found, Examination)}


def show_lesions(config: DictConfig, models: Sequence[Model]) -> None:
    """Show the page."""
    st.title("Find and name a skin lesion")
    st.write("Give dermoscopic photographs. Each comes back with the outline of its lesion, a name for it, and reasons.")
    photographs = gather_photographs(config.max_files)
    columns = [_examine_all(model, photographs, max_pixels=config.max_pixels) for model in models]
    _forget_others(photographs, models)
    for photograph in photographs:
        reason = columns[0].found[photograph.key]
        if isinstance(reason, str):
            show_error(f"{printable(photograph.name)}: {reason}")
    names = {key: examination.name for key, examination in columns[0].examinations().items()}
    if not names:
        return
    if len(names) > 1:
        _show_table(columns)
    key = st.selectbox("Photograph", names, format_func=names.__getitem__) if len(names) > 1 else next(iter(names))
    for place, column in zip(st.columns(len(columns), gap="large"), columns, strict=True):
        with place:
            if len(columns) > 1:
                st.header(literal(column.model.label), divider=True)
            view = f"{key} {column.model.label}"
            show_finding(column.examinations()[key], column.pipeline, key=view, wide=len(columns) == 1)


def _examine_all(model: Model, photographs: Sequence[Photograph], *, max_pixels: int) -> _Column:
    """What a model found on all photographs; each is examined once in a session."""
    pipeline, known = get_pipeline(model.settings), _session_findings()
    new = [photograph for photograph in photographs if (photograph.key, model.settings) not in known]
    progress = st.progress(0.0) if len(new) > 1 else None
    for number, photograph in enumerate(new):
        if progress is not None:
            progress.progress(number / len(new), f"{number} of {len(new)} photographs")
        # Kept one by one, because a click may end this run of the script at any time.
        known[photograph.key, model.settings] = _found(pipeline, photograph, max_pixels=max_pixels)
    if progress is not None:
        progress.empty()
    return _Column(model, pipeline, {photo.key: known[photo.key, model.settings] for photo in photographs})


def _found(pipeline: "Pipeline", photograph: Photograph, *, max_pixels: int) -> Examination | str:
    try:
        return get_network_thread().submit(examine, pipeline, photograph, max_pixels=max_pixels).result()
    except ImageError as error:
        return str(error)


def _session_findings() -> dict[Any, Examination | str]:
    """What was found in this visitor's session, by the photograph's key and the settings of the model."""
    return st.session_state.setdefault("findings", {})  # type: ignore[no-any-return]


def _forget_others(photographs: Sequence[Photograph], models: Sequence[Model]) -> None:
    """Let go of what is no longer on the page."""
    known, settings = _session_findings(), {model.settings for model in models}
    keys = {photograph.key for photograph in photographs}
    for key in [key for key in known if key[0] not in keys or key[1] not in settings]:
        del known[key]


def _show_table(columns: Sequence[_Column]) -> None:
    tables = []
    for column in columns:
        title = f", {column.model.label}" if len(columns) > 1 else ""
        rows = [_table_row(examination) for examination in column.examinations().values()]
        tables.append(pd.DataFrame(rows).set_index("photograph").add_suffix(title))
    table = pd.concat(tables, axis="columns")
    shares = [name for name in table.columns if name.startswith(("confidence", "malignant", "spread"))]
    st.dataframe(
        table,
        column_config={name: st.column_config.NumberColumn(format="percent") for name in shares},
        alt="What was found on each photograph",
    )
    with st.container(horizontal=True):
        for column in columns:
            title = f" of {literal(column.model.label)}" if len(columns) > 1 else ""
            examinations = list(column.examinations().values())
            st.download_button(
                *(f"Table{title} (CSV)", lambda rows=examinations: encode_table(rows)),
                file_name="segpipe_results.csv",
                mime="text/csv",
                on_click="ignore",
                key=f"table {column.model.label}",
            )


def _table_row(examination: Examination) -> dict[str, Any]:
    finding = examination.finding
    return {
        "photograph": examination.name,
        "diagnosis": name_with_code(finding.diagnosis),
        "confidence": finding.confidence,
        "malignant": finding.p_malignant,
        "flagged": finding.flagged,
        "outline by": way_words(finding.localization.source),
        "spread of the views": finding.tta_spread,
    }
