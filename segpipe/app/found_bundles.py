"""The trained models in a folder, found by what their cards say of themselves; none of them is loaded."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from segpipe.io.strict_json import read_json
from segpipe.runs.journal import JOURNAL

OUTPUTS = Path("outputs")  # where trainings write by default
CARD, WEIGHTS = "card.json", "model.safetensors"  # as in segpipe.bundle.folder, which takes seconds to import


@dataclass(frozen=True)
class FoundBundle:
    """A trained model below the searched folder.

    Attributes:
        kind: `segmenter` or `classifier`.
        label: what to call it: its folder, relative to the searched one, and the network.
        folder: where it lies.
    """

    kind: str
    label: str
    folder: str


@st.cache_data(ttl=20, max_entries=1, show_spinner=False)
def find_bundles(folder: str | None) -> list[FoundBundle]:
    """The trained models below a folder, sorted by label; None looks into `OUTPUTS`, if it is there."""
    return sorted(_bundles_below(Path(folder or OUTPUTS)), key=lambda bundle: bundle.label)


def age_of(folder: str) -> int:
    """When the weights of a bundle were written, in nanoseconds; 0 where they are gone."""
    try:
        return Path(folder, WEIGHTS).stat().st_mtime_ns
    except OSError:
        return 0


def _bundles_below(root: Path) -> Iterator[FoundBundle]:
    for folder, folders, names in os.walk(root):
        if {CARD, WEIGHTS} <= set(names):
            found = _describe(Path(folder, CARD), Path(folder).relative_to(root).as_posix())
            if found is not None:
                yield found
        # Below the results of a run over images lie its pictures, by the thousand.
        folders[:] = [] if JOURNAL in names else [name for name in folders if not name.startswith(".")]


def _describe(card: Path, place: str) -> FoundBundle | None:
    """What a card says that it is of; None where it says nothing that can be understood."""
    try:
        said = read_json(card)
        arguments = said["arguments"]
        return FoundBundle(said["kind"], f"{place} ({arguments.get('name') or arguments['encoder']})", str(card.parent))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
