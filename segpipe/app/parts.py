"""HTML parts of the page in the current language; without Streamlit."""

import re
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from segpipe.language import current_language, in_language, translate
from segpipe.report.html_finding import data_uri
from segpipe.report.overlays import encode_jpeg
from segpipe.types import RgbImage

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")

Value = TypeVar("Value")


def render(part: str, **context: Any) -> str:
    """Render a template of the page.

    Args:
        part: Name of the template, without `.html`.
        **context: Values of the template; they are escaped.
    """
    return _templates().get_template(f"{part}.html").render(lang=current_language(), **context)


@cache
def _templates() -> Environment:
    loader = PackageLoader("segpipe.app")
    templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    templates.globals["_"] = translate
    return templates


def picture_uri(picture: RgbImage) -> str:
    """Encode a picture as a URL."""
    return data_uri(encode_jpeg(picture))


def webp_uri(content: bytes) -> str:
    """Return a WebP file as a URL."""
    return f"data:image/webp;base64,{b64encode(content).decode()}"


def literal(text: str) -> str:
    """Escape all punctuation of a text for Markdown."""
    return _PUNCTUATION.sub(r"\\\1", text)


def in_current_language(function: Callable[[], Value]) -> Callable[[], Value]:
    """Bind a function to the current language, for calls in other threads."""
    code = current_language()

    def call() -> Value:
        with in_language(code):
            return function()

    return call
