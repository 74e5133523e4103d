"""Tables as people have them: with commas, semicolons or tabs, from Excel, from Windows, or written by a program."""

import codecs
import csv
import io
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from segpipe.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".tab", "")
_SEPARATORS = ",;\t"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx, .xls
_SEPARATOR_LINE = re.compile(r"sep=.\r?\n", re.IGNORECASE)  # Excel's own first line


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of texts.

    Args:
        path: text in UTF-8 or UTF-16; its first line names the columns, and commas, semicolons or tabs separate them.

    Returns:
        Every field as a text in NFC without blanks around it; missing where it is empty, and only there: `None` and `NA` are
        texts. Rows without any text are left out.

    Raises:
        DatasetError: the file cannot be read, or is not such a table.
    """
    try:
        header, *rows = _split(_decode(path.read_bytes()))
        doubled = [name for name, count in Counter(header).items() if name and count > 1]
        if doubled:
            raise ValueError(f"the column {doubled[0]} stands in it twice")
        table = pd.DataFrame([_padded(row, header) for row in rows], columns=header, dtype="str")
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(
            f"{path}: must be a table with commas, semicolons or tabs, got one that cannot be read ({reason})"
        ) from error
    named = table[[name for name in header if name]]
    return named.mask(named == "")


def read_columns(path: Path) -> set[str]:
    """The column names of a table; nothing where the file is none."""
    try:
        with path.open("rb") as file:
            return set(_split(_decode(file.read(4000), cut=True).lstrip().splitlines()[0])[0])
    except (OSError, ValueError, LookupError, csv.Error):
        return set()


def to_numbers(texts: "pd.Series[str]") -> "pd.Series[float]":
    """The numbers of a column, with a decimal point or comma; missing where a field is none."""
    return pd.to_numeric(texts.astype("str").str.replace(",", ".", regex=False), errors="coerce")


def _split(text: str) -> list[list[str]]:
    """The fields of each line that has some, the names of the columns first; without blanks around them, in NFC.

    Raises:
        ValueError: there is no line.
        csv.Error: a quote is not closed.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(header), skipinitialspace=True, strict=True)
    fields = [[unicodedata.normalize("NFC", field).strip() for field in line] for line in lines]
    rows = [row for row in fields if any(row)]
    if not rows:
        raise ValueError("no columns: it holds nothing")
    return rows


def _padded(row: list[str], header: list[str]) -> list[str]:
    """A row with as many fields as there are columns.

    Raises:
        ValueError: it has more that hold something.
    """
    if any(row[len(header) :]):
        raise ValueError(f"a row has {len(row)} fields, more than the {len(header)} columns: {','.join(row)[:80]}")
    return [*row, *[""] * (len(header) - len(row))][: len(header)]


def _decode(content: bytes, *, cut: bool = False) -> str:
    """The text of a file, or of its first bytes.

    Raises:
        ValueError: it is no text, with the way out.
    """
    if content.startswith(_WORKBOOKS):
        raise ValueError("it is a workbook of Excel; save it as CSV UTF-8")
    encoding = "utf-16" if content.startswith(_UTF_16) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content, final=not cut)
    except UnicodeDecodeError as error:
        raise ValueError(f"{error.reason} in byte {error.start}: it does not decode as UTF-8; save it as CSV UTF-8") from error
    if "\0" in text:
        raise ValueError("it holds zero bytes: it is no text")
    return _SEPARATOR_LINE.sub("", text, count=1) if _SEPARATOR_LINE.match(text) else text


def _separator(header: str) -> str:
    """What separates the columns of a header: what stands in it most often, outside of quotes."""
    counts = Counter(re.sub(r'"[^"]*"', "", header))
    return max(_SEPARATORS, key=lambda separator: counts[separator])
