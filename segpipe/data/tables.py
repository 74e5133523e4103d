"""Reading of tables, labels, and masks by image name."""

import codecs
import csv
import io
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from segpipe.diagnosis import CODES, ISIC_2019_CODES, class_code
from segpipe.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".tab", "")
_SEPARATORS = ",;\t"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx, .xls
_SEPARATOR_LINE = re.compile(r"sep=.\r?\n", re.IGNORECASE)  # Excel's own first line


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of text fields.

    Args:
        path: Text in UTF-8 or UTF-16; its first line names the columns, separated by commas, semicolons or tabs.

    Returns:
        All fields as text in NFC without surrounding spaces; only empty fields are missing, `None` and `NA` are text. Empty
        rows are dropped.

    Raises:
        DatasetError: The file cannot be read, or is not such a table.
    """
    try:
        header, *rows = _split(_decode(path.read_bytes()))
        repeated = [name for name, count in Counter(header).items() if name and count > 1]
        if repeated:
            raise ValueError(f"the column {repeated[0]} occurs twice")
        table = pd.DataFrame([_padded(row, header) for row in rows], columns=header, dtype="str")
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(
            f"{path}: must be a table with commas, semicolons or tabs, got one that cannot be read ({reason})"
        ) from error
    named = table[[name for name in header if name]]
    return named.mask(named == "")


def read_columns(path: Path) -> set[str]:
    """Read the column names of a table; empty for other files."""
    try:
        with path.open("rb") as file:
            return set(_split(_decode(file.read(4000), cut=True).lstrip().splitlines()[0])[0])
    except (OSError, ValueError, LookupError, csv.Error):
        return set()


def to_numbers(texts: "pd.Series[str]") -> "pd.Series[float]":
    """Convert a column to numbers, with decimal point or comma.

    Other fields become missing.
    """
    return pd.to_numeric(texts.astype("str").str.replace(",", ".", regex=False), errors="coerce")


def _split(text: str) -> list[list[str]]:
    """Split text into rows of fields, column names first.

    Fields are stripped and in NFC; empty rows are dropped.

    Raises:
        ValueError: The text is empty.
        csv.Error: A quote is not closed.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(header), skipinitialspace=True, strict=True)
    fields = [[unicodedata.normalize("NFC", field).strip() for field in line] for line in lines]
    rows = [row for row in fields if any(row)]
    if not rows:
        raise ValueError("no columns: it holds nothing")
    return rows


def _padded(row: list[str], header: list[str]) -> list[str]:
    """Pad a row to the number of columns.

    Raises:
        ValueError: The row has more non-empty fields than columns.
    """
    if any(row[len(header) :]):
        raise ValueError(f"a row has {len(row)} fields, more than the {len(header)} columns: {','.join(row)[:80]}")
    return [*row, *[""] * (len(header) - len(row))][: len(header)]


def _decode(content: bytes, *, cut: bool = False) -> str:
    """Decode the text of a file, or of its first bytes.

    Raises:
        ValueError: The content is no text; the message gives advice.
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
    """Return the most frequent separator in a header, outside of quotes."""
    counts = Counter(re.sub(r'"[^"]*"', "", header))
    return max(_SEPARATORS, key=lambda separator: counts[separator])


# Columns of ISIC 2018 Task 3 and ISIC 2019. If the column UNK of the latter is 1, the others are 0, as for unlabeled images.
_ONE_HOT_TABLES = tuple([code.upper() for code in codes] for codes in (CODES, ISIC_2019_CODES))


def read_labels(path: Path) -> pd.DataFrame:
    """Read a table of labels, see `read_table`.

    Three forms are recognized by their columns: the HAM10000 metadata (`image_id`, `dx`, and more), the one-hot tables of
    ISIC 2018 and 2019 (`image` and one uppercase column per diagnosis), and `image`, `label`.

    Args:
        path: Table file.

    Returns:
        `image_id` (image name, see `segpipe.data.identity`) and `dx` (code, see `class_code`; missing for unlabeled images),
        both str, then the other columns, such as `lesion_id`.

    Raises:
        DatasetError: The file cannot be read as a table, or has none of the three forms.
    """
    table = read_table(path)
    columns = set(table.columns)
    one_hot = next((names for names in _ONE_HOT_TABLES if {"image", *names} <= columns), None)
    if {"image_id", "dx"} <= columns:
        labels = table
    elif {"image", "label"} <= columns:
        labels = table.rename(columns={"image": "image_id", "label": "dx"})
    elif one_hot is not None:
        labels = _from_one_hot(table, one_hot)
    else:
        forms = " or ".join(",".join(["image", *names]) for names in _ONE_HOT_TABLES)
        raise DatasetError(
            f"{path}: labels must have the columns image_id,dx or image,label or {forms}, "
            f"got {','.join(map(str, table.columns[:12]))}"
        )
    labels = labels.dropna(subset="image_id")
    return labels.assign(dx=labels["dx"].map(class_code, na_action="ignore")).reset_index(drop=True)


def refuse_contradictions(labels: pd.DataFrame, *, what: str) -> None:
    """Check that the rows of each image agree in class and lesion.

    Args:
        labels: Table with `image_id` and, as far as known, `dx` and `lesion_id`.
        what: Origin of the labels in messages.

    Raises:
        DatasetError: Two rows disagree.
    """
    for column in (name for name in ("dx", "lesion_id") if name in labels):
        values = labels.dropna(subset=column).groupby("image_id", sort=False)[column].unique()
        for name, (first, second, *_) in values[values.map(len) > 1].items():
            raise DatasetError(f"{what}: labels must agree in {column}, got {first} and {second} for {name}; keep one of them")


def _from_one_hot(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    scores = table[names].apply(to_numbers).fillna(0.0)
    chosen = scores.idxmax(axis=1).where(scores.max(axis=1) > 0)
    return table.drop(columns=names).rename(columns={"image": "image_id"}).assign(dx=chosen)
