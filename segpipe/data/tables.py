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
        text = _decode(path.read_bytes())
        separator = _separator(text.lstrip().partition("\n")[0])
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype="object", na_filter=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DatasetError(
            f"{path}: must be a table with commas, semicolons or tabs, but could not be read ({reason})"
        ) from error
    table.columns = pd.Index([_clean(name) for name in table.columns])
    table = table.fillna("").astype("str").map(_clean)
    return table.mask(table == "").dropna(how="all").reset_index(drop=True)


def read_columns(path: Path) -> set[str]:
    """The column names of a table; nothing where the file is none."""
    try:
        with path.open("rb") as file:
            header = _decode(file.read(4000), cut=True).lstrip().partition("\n")[0]
        return {_clean(name) for name in next(csv.reader([header], delimiter=_separator(header)), [])}
    except (OSError, ValueError, csv.Error):
        return set()


def to_numbers(texts: "pd.Series[str]") -> "pd.Series[float]":
    """The numbers of a column, with a decimal point or comma; missing where a field is none."""
    return pd.to_numeric(texts.astype("str").str.replace(",", ".", regex=False), errors="coerce")


def _clean(field: str) -> str:
    return unicodedata.normalize("NFC", str(field)).strip()


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
