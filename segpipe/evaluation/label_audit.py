"""Ranking of likely label errors, and its table and contact sheet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.annotations.labels import read_label_file
from segpipe.data.identity import KnownImages
from segpipe.data.tables import read_table, refuse_contradictions, to_numbers
from segpipe.errors import DatasetError
from segpipe.io.files import counted, read_json, write_file
from segpipe.io.images import read_image
from segpipe.io.run_files import LABEL_SHEET, LABEL_TABLE, SUMMARY
from segpipe.metrics.label_errors import judge_labels
from segpipe.report.plots import Panel, draw_panels
from segpipe.runs.results import class_codes
from segpipe.runs.source import images_of_folder

_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class LabeledTable:
    """Predictions with the labels to check.

    Attributes:
        table: One row for each labeled image: `image_id`, `dx`, `lesion_id` where known, and `p_<code>` for each class.
        codes: Classes, in the order of the columns.
        left_out: Number of images without a label among the classes.
    """

    table: pd.DataFrame
    codes: tuple[str, ...]
    left_out: int


def read_predictions(path: Path, labels: Path | None) -> LabeledTable:
    """Read predictions and join them with labels.

    Args:
        path: `out_of_fold.csv` of a cross-validation, or `results.csv` of a run.
        labels: Table of labels or annotation file, see `read_label_file`; None: those in `out_of_fold.csv`.

    Raises:
        DatasetError: A table cannot be used, or no image has a label.
    """
    table = read_table(path)
    table = table.rename(columns={"path": "image_id"}) if "image_id" not in table else table
    codes = class_codes(table.columns, _malignant(path))
    if "image_id" not in table or len(codes) < 2:
        raise DatasetError(
            f"{path}: predictions must be an out_of_fold.csv or a results.csv, with image_id or path and two or more p_<code>, "
            f"got the columns {','.join(table.columns[:8])}"
        )
    table = table.dropna(subset="image_id").drop_duplicates("image_id")
    probs = table[[f"p_{code}" for code in codes]].apply(to_numbers)
    if not np.allclose(probs.sum(axis=1), 1, atol=_SUM_TOLERANCE):
        raise DatasetError(
            f"{path}: the probabilities of an image must add up to 1; check the columns {', '.join(probs.columns)}"
        )
    table = table.assign(**{name: probs[name] for name in probs.columns})
    if labels is not None:
        table = _with_labels(table, labels)
    elif "dx" not in table:
        raise DatasetError(f"{path}: holds no labels; give labels=CSV with the diagnoses to check")
    known = table[table["dx"].isin(codes)]
    if known.empty:
        raise DatasetError(
            f"labels must be among the classes {', '.join(codes)} for at least one image, got none of {len(table)}"
        )
    return LabeledTable(known, tuple(codes), len(table) - len(known))


def _malignant(path: Path) -> Sequence[str]:
    """Read the malignant classes of a run, beside its table."""
    summary = path.with_name(SUMMARY)
    return tuple(read_json(summary).get("malignant", ())) if summary.is_file() else ()


def _with_labels(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    known = KnownImages(dict.fromkeys(table["image_id"]))
    labels = read_label_file(path).dropna(subset="dx")
    refuse_contradictions(labels, what=str(path))
    for name in (name for name in ("dx", "lesion_id") if name in labels):
        given = labels.dropna(subset=name)
        values = known.assign(dict(zip(given["image_id"], given[name], strict=True)), what=name)
        table = table.assign(**{name: table["image_id"].map(values)})
    return table


def rank_labels(labeled: LabeledTable) -> pd.DataFrame:
    """Rank all images by the likelihood of a label error.

    Returns:
        One row for each image, the likeliest error first: `rank` from 1, `image_id`, `lesion_id` (empty where unknown), `given`,
        `suggested`, `likely_error`, `p_given` (which ranks) and `p_suggested`, see `segpipe.metrics.label_errors`.
    """
    table, codes = labeled.table, np.array(labeled.codes)
    probs = table[[f"p_{code}" for code in codes]].to_numpy(np.float64)
    labels = np.array([labeled.codes.index(code) for code in table["dx"]])
    quality, rows = judge_labels(probs, labels), np.arange(len(table))
    ranked = pd.DataFrame(
        {
            "image_id": table["image_id"].to_numpy(),
            "lesion_id": table["lesion_id"].to_numpy() if "lesion_id" in table else "",
            "given": codes[labels],
            "suggested": codes[quality.suggested],
            "likely_error": quality.likely_error,
            "p_given": quality.confidence,
            "p_suggested": probs[rows, quality.suggested],
        }
    ).iloc[quality.order()]
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked.reset_index(drop=True)


def find_files(folder: str, image_ids: Sequence[str]) -> dict[str, Path]:
    """Find the files of images.

    Args:
        folder: Folder, searched with its subfolders.
        image_ids: Names of the images, see `segpipe.data.identity`.

    Returns:
        File of each image that is there, by its name.

    Raises:
        DatasetError: None is there, or a name fits two images.
    """
    files = {path: file for path, file in images_of_folder(folder).by_path.items() if isinstance(file, Path)}
    found = KnownImages(files).find(image_ids, what="predictions")
    if not found:
        raise DatasetError(f"folder must hold the images of the predictions, such as {image_ids[0]}, got none in {folder}")
    return {name: files[keys[0]] for name, keys in found.items()}


def write_ranking(folder: Path, ranked: pd.DataFrame) -> Path:
    """Write the ranking to `label_errors.csv`."""
    text = ranked.assign(likely_error=ranked["likely_error"].map({True: "true", False: "false"}))
    write_file(folder / LABEL_TABLE, text.to_csv(index=False, float_format="%.6f").encode())
    return folder / LABEL_TABLE


def draw_sheet(folder: Path, ranked: pd.DataFrame, files: Mapping[str, Path]) -> Path:
    """Draw the contact sheet `label_errors.png`.

    Args:
        folder: Output folder.
        ranked: Rows to show, see `rank_labels`; at least one.
        files: File of each image by its `image_id`.
    """
    panels = (
        Panel(
            read_image(files[row["image_id"]]),
            (),
            (
                f"{row['rank']}. {row['image_id']}",
                f"given {row['given']} {row['p_given']:.2f}, suggested {row['suggested']} {row['p_suggested']:.2f}",
            ),
        )
        for row in ranked.to_dict("records")
    )
    draw_panels(folder / LABEL_SHEET, panels, heading="labels that fit their images least, each with its probability")
    return folder / LABEL_SHEET


def ranking_text(ranked: pd.DataFrame, labeled: LabeledTable, *, pairs: int = 10) -> str:
    """Summarize a ranking in a few lines.

    Args:
        ranked: Ranking, see `rank_labels`.
        labeled: Table that was ranked.
        pairs: Largest number of pairs of classes.
    """
    likely = ranked[ranked["likely_error"]]
    lines = [f"likely label errors: {len(likely)} of {counted(len(ranked), 'image')} ({100 * len(likely) / len(ranked):.1f} %)"]
    if labeled.left_out:
        lines.append(f"images without a label among the classes: {labeled.left_out}")
    counts = Counter(zip(likely["given"], likely["suggested"], strict=True)).most_common(pairs)
    lines += [f"  given {given}, suggested {suggested}: {count}" for (given, suggested), count in counts]
    return "\n".join(lines)
