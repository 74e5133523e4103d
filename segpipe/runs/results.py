"""Tables of a run: `results.csv`, `failures.csv` and `submission.csv`."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.data.identity import image_ids
from segpipe.diagnosis import MALIGNANT
from segpipe.inference.evidence import SIMILAR_COLUMNS
from segpipe.io.files import write_file
from segpipe.lesion.appearance import COLUMNS as APPEARANCE_COLUMNS

Row = Mapping[str, Any]  # see `Finding.to_dict`
PROBABILITY_DIGITS = 8
SUBMISSION_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def result_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of `results.csv` for the classes of a card.

    A class named malignant takes the column `p_malignant`.
    """
    return [
        *("path", "sha256", "status", "diagnosis", "confidence"),
        *(f"p_{code}" for code in classes),
        *(() if MALIGNANT in classes else ("p_malignant",)),
        *("flagged", "mask_source", "mask_reasons", "mask_area_fraction"),
        *("box_top", "box_left", "box_bottom", "box_right", "tta_spread", "heatmap_in_lesion", "latency_ms"),
        *("flagged_for", "warnings", "crop_top", "crop_left", "crop_bottom", "crop_right", "crop_border"),
        *("gate", "gate_score", "prediction_set", *SIMILAR_COLUMNS, *APPEARANCE_COLUMNS, "trust", "trust_doubts"),
    ]


def class_codes(columns: Iterable[str], malignant: Collection[str]) -> list[str]:
    """Return the classes of a table of results, in column order.

    Args:
        columns: Names of the columns, see `result_columns`.
        malignant: Codes of the malignant classes.
    """
    codes = [name.removeprefix("p_") for name in columns if name.startswith("p_")]
    return [code for code in codes if code != MALIGNANT or code in malignant]


def write_results(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Write `results.csv`, sorted by path.

    Args:
        path: Path of the table.
        rows: Rows, see `Finding.to_dict`.
        classes: Classes of the card, which have columns even in an empty table.

    Raises:
        WriteError: The file cannot be written.
    """
    write_file(path, encode_results(rows, classes))


def encode_results(rows: Sequence[Row], classes: Sequence[str]) -> bytes:
    """Encode the table of `write_results`."""
    columns = result_columns(classes)
    ordered = sorted(rows, key=lambda row: str(row["path"]))
    return encode_csv(columns, [[_field(row.get(name)) for name in columns] for row in ordered])


def read_hashes(path: Path) -> dict[str, str]:
    """Read the SHA-256 of each image in `results.csv`; empty without a table."""
    try:
        with path.open(encoding="utf-8", newline="") as table:
            return {row["path"]: row["sha256"] for row in csv.DictReader(table)}
    except (OSError, ValueError, LookupError):
        return {}


def write_submission(path: Path, rows: Sequence[Row]) -> None:
    """Write probabilities in the form of ISIC 2018 Task 3.

    The columns are `image`, see `image_ids`, and the seven diagnoses.

    Args:
        path: Path of the table.
        rows: Rows of a classifier with these seven classes.

    Reference:
        https://challenge.isic-archive.com/landing/2018/47/
    """
    ordered = sorted(rows, key=lambda row: str(row["path"]))
    ids = image_ids([Path(row["path"]) for row in ordered])
    fields = [[_field(row[f"p_{code.lower()}"]) for code in SUBMISSION_CLASSES] for row in ordered]
    table = [[image_id, *probs] for image_id, probs in zip(ids, fields, strict=True)]
    write_csv(path, ["image", *SUBMISSION_CLASSES], table)


def write_failures(path: Path, failures: Sequence[tuple[str, str]]) -> None:
    """Write `failures.csv`, path and reason, sorted by path."""
    write_csv(path, ["path", "reason"], sorted(failures))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table atomically."""
    write_file(path, encode_csv(header, rows))


def encode_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Encode a table as CSV."""
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
