"""The web page as a visitor sees it after each click, run by the server of `main.py`. Not a medical device.

Here is what all its pages have: the look, the notice, the choice of models, the photographs.
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

import streamlit as st

from segpipe.app.lesion_page import show_lesions
from segpipe.app.shared import literal, read_config, show_error, show_notice, show_style, start_forgetting
from segpipe.app.sidebar import CARD, Model, age_of, choose_models
from segpipe.app.uploads import Upload, gather_uploads
from segpipe.errors import SegpipeError


def show_guide() -> None:
    """Show the page."""
    st.title("What it shows")
    with st.container(width=760):
        st.markdown((files("segpipe.app") / "guide.md").read_text(encoding="utf-8"))


# By the name of the file in the plots of a test.
PLOTS = {
    "confusion_matrix": "Confusion matrix: which diagnosis was taken for which",
    "roc": "ROC curves: sensitivity against false alarms",
    "precision_recall": "Precision-recall curves: how many of those that were named so are so",
    "reliability": "Reliability: whether 80 % means 80 in 100",
}


def show_quality(models: Sequence[Model]) -> None:
    """Show the page."""
    st.title("How good is it?")
    st.write(
        "Measured on photographs of lesions that no training saw, with 95 % intervals. Expect less on other cameras, skin and "
        "lesions. A single accuracy would mislead: naming all of them a nevus is right most of the time. The metrics are those "
        "of each model's own test, with the images that it is of, whatever is switched on or chosen beside it here."
    )
    places = [st.container()] if len(models) == 1 else st.tabs([literal(model.label) for model in models])
    for place, model in zip(places, models, strict=True):
        with place:
            _show_model(model)


def _show_model(model: Model) -> None:
    from segpipe.bundle.folder import SHIPPED

    settings = model.settings
    for classifier in settings.classifier or (str(SHIPPED / "classifier"),):
        _show_plots(Path(classifier))
        segmenter = settings.segmenter or str(SHIPPED / "segmenter")
        st.markdown(_card(segmenter, classifier, (age_of(segmenter), age_of(classifier))))


def _show_plots(bundle: Path) -> None:
    """Show the plots that training and shipping leave beside a bundle; none where they are gone or of another test."""
    test = bundle.parent / "test"
    found = {title: path for name, title in PLOTS.items() if (path := test / "plots" / f"{name}.png").is_file()}
    if not found or not is_test_of(bundle, test):
        st.info("The plots of this model's test are not there; its metrics are those of its card.")
        return
    st.write("Plots of the classifier's test, end to end:")
    for tab, (title, path) in zip(st.tabs([title.partition(":")[0] for title in found]), found.items(), strict=True):
        with tab:
            st.image(path.read_bytes(), width="stretch", alt=title)
            st.caption(title)


def is_test_of(bundle: Path, test: Path) -> bool:
    """Whether the files of a test beside a bundle are those of the test on its card.

    Args:
        bundle: folder of the classifier.
        test: folder with `plots/` and, except beside the shipped bundles, `metrics.json`.
    """
    if not (test / "metrics.json").is_file():
        return True
    try:
        on_card = json.loads((bundle / CARD).read_text(encoding="utf-8"))["metrics"]
        measured = json.loads((test / "metrics.json").read_text(encoding="utf-8"))
        same_test: bool = (on_card["test_set"], on_card["pipeline"]) == (
            measured["classification"]["test_set"],
            measured["pipeline"],
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return same_test


@st.cache_data(max_entries=20, show_spinner="Reading the card")
def _card(segmenter: str, classifier: str, ages: tuple[int, ...]) -> str:
    """The sections of the model card; a bundle that cannot be read raises a BundleError."""
    del ages  # tell one state of the bundles from another
    from segpipe.bundle.folder import load_classifier, load_segmenter
    from segpipe.release.model_card import model_card

    loaded = load_classifier(Path(classifier))
    if "metrics" not in loaded.card.metrics:
        return "The card of this classifier has no figures of a test, so how good it is is not known."
    sections = "## " + model_card(load_segmenter(Path(segmenter)), loaded).partition("\n## ")[2]
    # A card may come from anywhere, and a picture in it would be asked for elsewhere.
    return sections.replace("![", r"!\[")


def show_pages() -> None:
    """One run of the script: what a visitor sees after each click."""
    st.set_page_config(page_title="segpipe", page_icon=str(Path(__file__).parent / "icon.svg"), layout="wide")
    start_forgetting()
    show_style()
    show_notice()
    try:
        config = read_config(tuple(sys.argv[1:]))
        models, uploads = choose_models(config), list[Upload]()
        find = partial(show_lesions, models, uploads, max_pixels=config.max_pixels)
        pages = [
            st.Page(find, title="Find and name", url_path="find", default=True),
            st.Page(partial(show_quality, models), title="How good is it?", url_path="quality"),
            st.Page(show_guide, title="What it shows", url_path="guide"),
        ]
        page = st.navigation(pages, position="top")
        # Here and not on its page, or they would be gone when a visitor has looked at another one.
        uploads += gather_uploads(config.max_files, shown=page is pages[0])
        page.run()
    except SegpipeError as error:
        show_error(str(error))


show_pages()
