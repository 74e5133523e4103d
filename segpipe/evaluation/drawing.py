"""The look that all plots share: colours, dashes, texts, and what each of them says of itself."""

import textwrap
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segpipe.io.images import write_file

# Told apart with any colour vision (arXiv 2107.02270); the dashes come on top, for prints in grey.
COLOURS = color_sequences["petroff8"]
DASHES = ("-", "--", "-.", ":")
GREY = "0.45"
DOTS_PER_INCH = 160


def new_figure(*, width: float, height: float) -> Figure:
    """A figure outside pyplot, whose global state would leak memory over many runs; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.supxlabel("segpipe - not a medical device", fontsize=8, color=GREY)
    return figure


def colour_of(index: int) -> Any:
    """The colour of the class or run of this index."""
    return COLOURS[index % len(COLOURS)]


def line_style(index: int) -> dict[str, Any]:
    """How the line of the class or run of this index looks."""
    return {"color": colour_of(index), "linestyle": DASHES[index % len(DASHES)], "linewidth": 2.2}


def set_texts(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Write the title and the labels of the axes."""
    axes.set_title(title, fontsize=14)
    axes.set_xlabel(x_label, fontsize=13)
    axes.set_ylabel(y_label, fontsize=13)


def set_unit_range(axes: Axes) -> None:
    """Let both axes run from 0 to 1, with a grid."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(color="0.9")


def wrap_text(text: str, width: int) -> str:
    """Break a name that users gave into lines of `width` letters, for matplotlib to show as it is."""
    # What stands between two dollar signs would be read as a formula.
    return textwrap.fill(text, width).replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH)
    write_file(path, content.getvalue())
