"""One finding as a visitor sees it: the answer, the pictures, the probabilities, how it was found, and what to take home."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import streamlit as st

from segpipe import __version__
from segpipe.app.shared import literal
from segpipe.app.uploads import Examination
from segpipe.evaluation.headline import images_text
from segpipe.evaluation.table import figure_text
from segpipe.io.numerals import counted
from segpipe.io.strict_json import encode_json as encode_strict_json
from segpipe.report.html_image import place_context, render_part
from segpipe.report.overlays import HEATMAP_OPACITY, Preview, draw_heatmap, draw_place, encode_jpeg, make_preview
from segpipe.report.wording import DISCLAIMER, HEATMAP_CAPTION, name_with_code, percent, photograph_caption
from segpipe.runs.results import encode_results
from segpipe.types import RgbImage

if TYPE_CHECKING:
    from segpipe.inference.heatmap import ClassMap
    from segpipe.inference.pipeline import Pipeline


# Accuracy alone misleads, so it is none of them.
_FIGURES = {"balanced_accuracy": "balanced accuracy", "sensitivity_mel": "melanoma sensitivity", "macro_auroc": "macro AUROC"}


def safe_stem(name: str) -> str:
    """What the files of a photograph are offered under: its name without the ending, in letters that any system takes."""
    return re.sub(r"[^\w-]+", "_", PurePath(name).stem).strip("_")[:60] or "photograph"


def encode_json(examination: Examination, pipeline: "Pipeline") -> bytes:
    """The line of the results as JSON, with the models that it comes from."""
    from segpipe.bundle.card import library_versions
    from segpipe.runs.summary import model_hashes

    content = {
        "notice": DISCLAIMER,
        "finding": dict(examination.row),
        "models": model_hashes(pipeline),
        "localize": str(pipeline.locator.start),
        "views": len(pipeline.ensemble.views),
        "explain": pipeline.ensemble.explained,
        "precision": str(pipeline.ensemble.precision).removeprefix("torch."),
        "versions": library_versions(),
    }
    return encode_strict_json(content)


def encode_picture(examination: Examination) -> bytes:
    """The figure of the command line, as PNG."""
    from segpipe.report.figure import encode_figure

    return encode_figure(examination.finding, examination.name)


def encode_report(examination: Examination, pipeline: "Pipeline") -> bytes:
    """The page for a record, as PDF."""
    from segpipe.report.page import encode_page

    about = _about(pipeline)
    return encode_page(examination.finding, title=examination.name, about=about)


def encode_table(examinations: Sequence[Examination]) -> bytes:
    """`results.csv` of photographs that one model named."""
    return encode_results([examination.row for examination in examinations], list(examinations[0].finding.probabilities))


def _about(pipeline: "Pipeline") -> list[str]:
    """Where a finding comes from: when, by what, and how good that was found to be."""
    from segpipe.runs.summary import model_hashes

    hashes = model_hashes(pipeline)
    classifiers = hashes["classifier"] if isinstance(hashes["classifier"], list) else [hashes["classifier"]]
    named = [f"segmenter {(hashes['segmenter'] or 'none')[:12]}", *(f"classifier {sha256[:12]}" for sha256 in classifiers)]
    views = len(pipeline.ensemble.views)
    lines = [
        f"Made {datetime.now():%Y-%m-%d %H:%M} by segpipe {__version__}",
        f"SHA-256: {', '.join(named)}; {counted(views, 'view')}{' averaged' if views > 1 else ''}",
    ]
    if len(classifiers) > 1:
        return [*lines, "How good the mean of these classifiers is has not been measured"]
    return [*lines, _measured(pipeline.ensemble.bundles[0].card.metrics)]


def _measured(metrics: Mapping[str, Any]) -> str:
    figures = metrics.get("metrics", {})
    texts = [f"{title} {figure_text(figures[name])}" for name, title in _FIGURES.items() if name in figures]
    if not texts:
        return "How good the classifier is has not been measured"
    return f"In the classifier's own test, end to end, on {images_text(metrics)}, with 95 % intervals: {', '.join(texts)}"


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
    stem = safe_stem(examination.name)
    offers = {
        "Report (PDF)": (f"{stem}.pdf", "application/pdf", partial(encode_report, examination, pipeline)),
        "Figure (PNG)": (f"{stem}.png", "image/png", partial(encode_picture, examination)),
        "Data (JSON)": (f"{stem}.json", "application/json", partial(encode_json, examination, pipeline)),
    }
    with st.container(horizontal=True):
        for label, (name, kind, make) in offers.items():
            st.download_button(label, make, file_name=f"segpipe_{name}", mime=kind, on_click="ignore", key=f"{label} {key}")
