"""Tables as people have them: with commas, semicolons or tabs, from Excel, from Windows, or written by a program."""

import codecs
import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.identity import parse_name, same_content
from segpipe.diagnosis import CODES, ISIC_2019_CODES, class_code
from segpipe.errors import DatasetError, ImageError
from segpipe.io.folders import find_images, image_of_mask
from segpipe.io.images import read_mask

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


# Of ISIC 2018 Task 3 and of ISIC 2019. The latter has UNK too: where that is 1, the others are 0, as where nothing is known.
_ONE_HOT_TABLES = tuple([code.upper() for code in codes] for codes in (CODES, ISIC_2019_CODES))


def read_labels(path: Path) -> pd.DataFrame:
    """Read a table of labels, see `read_table`.

    Three forms are known by their columns: the HAM10000 metadata (`image_id`, `dx`, and more), the one-hot tables of ISIC 2018
    and 2019 (`image` and one column for each diagnosis, in upper case), and `image`, `label`.

    Args:
        path: the table.

    Returns:
        `image_id` (name of the image, see `segpipe.data.identity`) and `dx` (code, see `class_code`; missing where an image is
        unlabelled), both str, then what else the table holds, `lesion_id` for one.

    Raises:
        DatasetError: the file cannot be read as a table, or has none of the three forms.
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
    """See that the rows of one image agree in its class and its lesion.

    Args:
        labels: with `image_id` and, as far as they are known, `dx` and `lesion_id`.
        what: origin of the labels, for the message.

    Raises:
        DatasetError: two rows do not agree.
    """
    for column in (name for name in ("dx", "lesion_id") if name in labels):
        values = labels.dropna(subset=column).groupby("image_id", sort=False)[column].unique()
        for name, (first, second, *_) in values[values.map(len) > 1].items():
            raise DatasetError(f"{what}: labels must agree in {column}, got {first} and {second} for {name}; keep one of them")


def _from_one_hot(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    scores = table[names].apply(to_numbers).fillna(0.0)
    chosen = scores.idxmax(axis=1).where(scores.max(axis=1) > 0)
    return table.drop(columns=names).rename(columns={"image": "image_id"}).assign(dx=chosen)


def find_masks(folder: Path, *, images: Collection[Path] = ()) -> dict[str, Path]:
    """Find the lesion masks below a folder.

    Args:
        folder: searched with all its subfolders.
        images: files below it that are photographs, not masks.

    Returns:
        For the name of each image its mask, see `name_masks`: files that are masks by their name, folder or content, and those
        that lie among them, for they are meant as masks.

    Raises:
        DatasetError: there are none, or an image has two of different content.
    """
    found, photographs = find_images(folder), {path.absolute() for path in images}
    masks = [path for path in (*found.masks, *found.mask_pictures) if path.absolute() not in photographs]
    beside = {path.parent for path in masks}
    others = [path for path in found.images if path.absolute() not in photographs and (path.parent in beside or not masks)]
    if not masks and not others:
        raise DatasetError(
            f"{folder} must hold masks, got none among its files; results of segpipe are no true masks; name the folder of these"
        )
    return {_image_name(folder, path): path for path in others} | name_masks(folder, masks)


def name_masks(folder: Path, masks: Sequence[Path]) -> dict[str, Path]:
    """The masks in a folder by the names of their images: `mel/ISIC_1` for `mel/masks/ISIC_1_segmentation.png`.

    Raises:
        DatasetError: an image has two masks of different content.
    """
    named: dict[str, Path] = {}
    for path in masks:
        name = _image_name(folder, path)
        if named.setdefault(name, path) != path and not same_masks(named[name], path):
            raise DatasetError(
                f"masks must be one for each image, got {named[name].relative_to(folder).as_posix()} and "
                f"{path.relative_to(folder).as_posix()} of different content in {folder}; keep one of them"
            )
    return named


def same_masks(first: Path, second: Path) -> bool:
    """Whether two files hold the same mask; one that cannot be read is like no other."""
    try:
        return same_content(first, second) or np.array_equal(read_mask(first), read_mask(second))
    except ImageError:
        return False


def _image_name(folder: Path, mask: Path) -> str:
    return parse_name(image_of_mask(mask.relative_to(folder))).without_ending
