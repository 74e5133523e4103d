"""The tables of a run: `results.csv`, sorted by path, `failures.csv` for the rest, and `submission.csv` for a challenge."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.data.identity import image_ids
from segpipe.diagnosis import MALIGNANT
from segpipe.io.images import write_file

RESULTS = "results.csv"
Row = Mapping[str, Any]  # see `Finding.to_dict`
PROBABILITY_DIGITS = 8
SUBMISSION_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def result_columns(classes: Sequence[str]) -> list[str]:
    """The columns of `results.csv`, for the classes of a card in their order; a class malignant has the column `p_malignant`."""
    return [
        *("path", "sha256", "status", "diagnosis", "confidence"),
        *(f"p_{code}" for code in classes),
        *(() if MALIGNANT in classes else ("p_malignant",)),
        *("flagged", "mask_source", "mask_reasons", "mask_area_fraction"),
        *("box_top", "box_left", "box_bottom", "box_right", "tta_spread", "heatmap_in_lesion", "latency_ms"),
        *("flagged_for", "warnings", "crop_top", "crop_left", "crop_bottom", "crop_right", "crop_border"),
    ]


def class_codes(columns: Iterable[str], malignant: Collection[str]) -> list[str]:
    """The classes of a table of results, in the order of its columns.

    Args:
        columns: names, see `result_columns`.
        malignant: codes of the malignant classes.
    """
    codes = [name.removeprefix("p_") for name in columns if name.startswith("p_")]
    return [code for code in codes if code != MALIGNANT or code in malignant]


def write_results(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Write `results.csv`, sorted by path; `classes` are the card's, and name columns even where there is no row."""
    write_file(path, encode_results(rows, classes))


def encode_results(rows: Sequence[Row], classes: Sequence[str]) -> bytes:
    """The table of `write_results` as the bytes of its file."""
    columns = result_columns(classes)
    ordered = sorted(rows, key=lambda row: str(row["path"]))
    return encode_csv(columns, [[_field(row[name]) for name in columns] for row in ordered])


def read_hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of each image in `results.csv`, by its path; empty where there is no such table."""
    try:
        with path.open(encoding="utf-8", newline="") as table:
            return {row["path"]: row["sha256"] for row in csv.DictReader(table)}
    except (OSError, ValueError, LookupError):
        return {}


def write_submission(path: Path, rows: Sequence[Row]) -> None:
    """Write the probabilities as ISIC 2018 Task 3 takes them: `image` (see `image_ids`) and the seven diagnoses.

    Args:
        path: the file to write.
        rows: of a classifier that has these seven classes.

    Reference:
        https://challenge.isic-archive.com/landing/2018/47/
    """
    ordered = sorted(rows, key=lambda row: str(row["path"]))
    ids = image_ids([Path(row["path"]) for row in ordered])
    fields = [[_field(row[f"p_{code.lower()}"]) for code in SUBMISSION_CLASSES] for row in ordered]
    table = [[image_id, *probs] for image_id, probs in zip(ids, fields, strict=True)]
    write_csv(path, ["image", *SUBMISSION_CLASSES], table)


def write_failures(path: Path, failures: Sequence[tuple[str, str]]) -> None:
    """Write `failures.csv`: path and reason, sorted by path."""
    write_csv(path, ["path", "reason"], sorted(failures))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table whole or not at all."""
    write_file(path, encode_csv(header, rows))


def encode_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """A table as the bytes of its file."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return table.getvalue().encode()


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{PROBABILITY_DIGITS}f}" if isinstance(value, float) else str(value)
