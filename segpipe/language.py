"""Language of the texts that describe results, and of the web page.

The code holds the English texts. A file `languages/<code>.yaml` holds its translation of each: a file more is a language more.
The current language belongs to the thread or task that sets it; all others write English.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

ENGLISH = "en"
FOLDER = Path(__file__).parent / "languages"

_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


@cache
def language_codes() -> tuple[str, ...]:
    """Return the codes of all languages, English first."""
    return (ENGLISH, *sorted(path.stem for path in FOLDER.glob("*.yaml")))


def current_language() -> str:
    """Return the code of the current language."""
    return _current.get()


def use_language(code: str) -> None:
    """Set the current language.

    Args:
        code: One of `language_codes`; any other means English.
    """
    _current.set(code if code in language_codes() else ENGLISH)


@contextmanager
def in_language(code: str) -> Iterator[None]:
    """Use a language within a block; see `use_language`."""
    token = _current.set(ENGLISH)
    try:
        use_language(code)
        yield
    finally:
        _current.reset(token)


def language_name(code: str) -> str:
    """Return the name of a language in that language."""
    return "English" if code == ENGLISH else str(read_language(code)["name"])


def translate(text: str, **values: object) -> str:
    """Translate a text into the current language.

    Args:
        text: English text. One that the language lacks stays English.
        **values: Values of the placeholders `{name}` of the text.
    """
    code = current_language()
    found = text if code == ENGLISH else read_language(code)["texts"].get(text, text)
    return str(found.format(**values) if values else found)


def translated_document(name: str, english: str) -> str:
    """Return a long text of the current language.

    Args:
        name: Key of the text in the files of the languages.
        english: English text.
    """
    code = current_language()
    return english if code == ENGLISH else str(read_language(code).get(name, english))


def localize_number(number: str) -> str:
    """Write a formatted English number with the separators of the current language.

    Args:
        number: Number with a decimal point, perhaps with commas between thousands.
    """
    code = current_language()
    if code == ENGLISH:
        return number
    separators = read_language(code)["separators"]
    return number.translate(str.maketrans({".": separators["decimal"], ",": separators["thousands"]}))


@cache
def read_language(code: str) -> dict[str, Any]:
    """Read the file of a language.

    Args:
        code: One of `language_codes`, but not English.

    Returns:
        `name`, `separators` and `texts`, and long texts by their names.
    """
    import yaml  # English, and so a call of the command line, does without

    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{code}.yaml").read_text(encoding="utf-8"))
    return content
