"""Pages of the web app, run by Streamlit after each click. Not a medical device."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

import streamlit as st

from segpipe.app.analysis import Upload, make_names_unique
from segpipe.app.bundles import find_plots, weights_mtime
from segpipe.app.frame import Model, choose_models, hide, literal, show_disclaimer, show_error, show_style
from segpipe.app.results import show_results
from segpipe.config import SAMPLES
from segpipe.config.commands import AppConfig
from segpipe.config.composing import compose_config, typed
from segpipe.errors import SegpipeError
from segpipe.inference.settings import PipelineSettings
from segpipe.io.image_formats import IMAGE_SUFFIXES
from segpipe.report.wording import name_with_code

FILES, CAMERA, SAMPLE = "Files", "Camera", "Samples"


def gather_uploads(max_files: int, *, shown: bool) -> Sequence[Upload]:
    """Show the input of images and return the uploads.

    Called on every page, because Streamlit drops the state of widgets that a page leaves out.

    Args:
        max_files: Largest number of images; further ones are ignored.
        shown: False to hide the input on other pages.
    """
    if shown:
        st.title("Skin lesion analysis")
        st.write("Upload dermoscopic images to outline and classify the lesion.")
    else:
        hide("upload_panel")
    with st.container(key="upload_panel"):
        source = st.segmented_control("Source", [FILES, CAMERA, SAMPLE], default=FILES, required=True, key="source")
        if source != FILES:
            hide("file_uploader")
        with st.container(key="file_uploader"):
            uploads = _from_files(max_files)
        if source != FILES:
            uploads = _from_camera() if source == CAMERA else _from_samples()
        elif len(uploads) > max_files:
            show_error(f"At most {max_files} images are analyzed at once, got {len(uploads)}; the others are ignored")
    return make_names_unique(uploads[:max_files])


def _from_files(max_files: int) -> Sequence[Upload]:
    files = st.file_uploader(
        "Upload dermoscopic images",
        type=sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES),
        accept_multiple_files=True,
        key="files",
        help=f"Up to {max_files} images. They stay in memory and are deleted when you close the page.",
    )
    return [Upload(file.file_id, file.name, file.getvalue()) for file in files]


def _from_camera() -> Sequence[Upload]:
    shot = st.camera_input("Take a picture through the dermatoscope", key="camera")
    return [] if shot is None else [Upload(shot.file_id, "camera.jpg", shot.getvalue())]


def _from_samples() -> Sequence[Upload]:
    st.caption("Generated images: they demonstrate the page, not its accuracy.")
    with st.container(horizontal=True):
        for path in sorted(SAMPLES.glob("*.jpg")):
            with st.container(width=150):
                name = name_with_code(path.stem.removeprefix("synthetic_"))
                st.image(path.read_bytes(), alt=f"Generated sample: {name}")
                if st.button(name, key=f"sample {path.stem}", width="stretch"):
                    st.session_state["sample"] = path
    chosen = st.session_state.get("sample")
    return [] if chosen is None else [Upload(str(chosen), chosen.name, chosen.read_bytes())]


@st.cache_resource
def read_config(arguments: tuple[str, ...]) -> AppConfig:
    """Compose the configuration from `key=value` arguments.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ConfigError: A key or value is wrong.
    """
    config: AppConfig = typed(compose_config("app", arguments))
    return config


def show_pages() -> None:
    """Show the page that a visitor has chosen."""
    st.set_page_config(page_title="segpipe", page_icon=str(Path(__file__).parent / "icon.svg"), layout="wide")
    show_style()
    show_disclaimer()
    try:
        config = read_config(tuple(sys.argv[1:]))
        models, uploads = choose_models(PipelineSettings.of(config), config.bundles), list[Upload]()
        pages = [
            st.Page(
                partial(show_results, models, uploads, max_pixels=config.max_pixels, training_images=config.similar.root),
                title="Analyze",
                url_path="analyze",
                default=True,
            ),
            st.Page(partial(show_performance, models), title="Performance", url_path="performance"),
            st.Page(show_guide, title="Guide", url_path="guide"),
        ]
        page = st.navigation(pages, position="top")
        # Gathered on every page, because Streamlit drops uploads that a page does not show.
        uploads += gather_uploads(config.max_files, shown=page is pages[0])
        page.run()
    except SegpipeError as error:
        show_error(str(error))


def show_guide() -> None:
    """Show the guide to the outputs."""
    st.title("Guide")
    with st.container(width=760):
        st.markdown((files("segpipe.app") / "guide.md").read_text(encoding="utf-8"))


def show_performance(models: Sequence[Model]) -> None:
    """Show model cards and test plots of the chosen models."""
    st.title("Performance")
    st.write(
        "Metrics on lesions that were not used for training, with 95 % intervals. They are from each model's own test and do "
        "not depend on the options chosen here. Expect lower values with other cameras, skin types and lesions. Accuracy alone "
        "is misleading, because most lesions are nevi."
    )
    containers = [st.container()] if len(models) == 1 else st.tabs([literal(model.label) for model in models])
    for container, model in zip(containers, models, strict=True):
        with container:
            _show_model(model)


def _show_model(model: Model) -> None:
    from segpipe.bundle.card_file import SHIPPED

    settings = model.settings
    for classifier in settings.classifier or (str(SHIPPED / "classifier"),):
        _show_plots(Path(classifier))
        segmenter = settings.segmenter or str(SHIPPED / "segmenter")
        st.markdown(_card_sections(segmenter, classifier, (weights_mtime(segmenter), weights_mtime(classifier))))


def _show_plots(bundle: Path) -> None:
    plots = find_plots(bundle)
    if not plots:
        st.info("No test plots are available for this model. The metrics below are from its card.")
        return
    st.write("End-to-end test of the classifier:")
    for tab, (title, path) in zip(st.tabs([title.partition(":")[0] for title in plots]), plots.items(), strict=True):
        with tab:
            st.image(path.read_bytes(), width="stretch", alt=title)
            st.caption(title)


@st.cache_data(max_entries=20, show_spinner="Reading the card")
def _card_sections(segmenter: str, classifier: str, mtimes: tuple[int, ...]) -> str:
    """Render the sections of the model card as Markdown."""
    del mtimes  # part of the key of the cache
    from segpipe.bundle.card import ClassifierCard, SegmenterCard
    from segpipe.bundle.card_file import read_model
    from segpipe.release.model_card import model_card

    model = read_model(Path(classifier), "classifier", ClassifierCard)
    if "metrics" not in model.card.metrics:
        return "The card of this classifier has no test metrics."
    segmenter_model = read_model(Path(segmenter), "segmenter", SegmenterCard)
    sections = "## " + model_card(segmenter_model, model).partition("\n## ")[2]
    # A foreign card could contain a picture, which would be requested from another server.
    return sections.replace("![", r"!\[")


show_pages()
