r"""Fraction of swapped labels that `segpipe audit labels` ranks first.

    python benchmarks/label_errors.py
    python benchmarks/label_errors.py --output docs/results/label_errors.json

    segpipe predict folder=data/ham10000 labels=data/ham10000/HAM10000_metadata.csv split=segpipe/weights/split.csv part=val \
        tta=none explain=none figures=false output=outputs/val
    python benchmarks/label_errors.py --run outputs/val --labels data/ham10000/HAM10000_metadata.csv

The probabilities are those of the validation images of HAM10000 on the card of the shipped classifier, over eight views, or those
of a run. The classifier was not trained on these images, but they selected its best epoch and fitted its calibration. The labels
of 5 % of the images are replaced, in several rounds with other images, and the ranking is searched for them:

- uniform: by any other class, each as likely;
- by_frequency: by another class, as likely as it is frequent;
- by_lesion: like uniform, but all images of a lesion have the same wrong label, as in a data set that is labeled by lesion.

The labels of the data set itself have errors, too, which count against the ranking.

Exit status: 1 if less than half of the swapped labels are among the first 10 % of the ranking with uniform swaps; else 0.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.card_file import SHIPPED, read_model
from segpipe.evaluation.label_audit import LabeledTable, rank_labels, read_predictions
from segpipe.io.files import encode_json, read_json, write_file
from segpipe.io.run_files import RESULTS, SUMMARY

SWAPPED, FIRST, LEAST_FOUND = 0.05, (0.05, 0.1, 0.2), 0.5
Generator = np.random.Generator
# Function from the labels, the classes and a random generator to the swapped labels.
Swap = Callable[[pd.DataFrame, Sequence[str], Generator], "pd.Series[str]"]


def swap_uniformly(table: pd.DataFrame, codes: Sequence[str], rng: Generator) -> "pd.Series[str]":
    """Give 5 % of the images another class, each as likely."""
    return _swap(table["dx"], codes, np.ones(len(codes)), rng)


def swap_by_frequency(table: pd.DataFrame, codes: Sequence[str], rng: Generator) -> "pd.Series[str]":
    """Give 5 % of the images another class, by class frequency."""
    return _swap(table["dx"], codes, table["dx"].value_counts().reindex(codes, fill_value=0).to_numpy(float), rng)


def swap_lesions(table: pd.DataFrame, codes: Sequence[str], rng: Generator) -> "pd.Series[str]":
    """Give the images of 5 % of the lesions another class."""
    of_lesion = table.groupby("lesion_id")["dx"].first()
    return table["lesion_id"].map(_swap(of_lesion, codes, np.ones(len(codes)), rng))


def _swap(labels: "pd.Series[str]", codes: Sequence[str], weights: NDArray[np.float64], rng: Generator) -> "pd.Series[str]":
    swapped = labels.copy()
    for index in rng.choice(len(labels), round(SWAPPED * len(labels)), replace=False):
        others = np.where(np.array(codes) == labels.iloc[index], 0, weights)
        swapped.iloc[index] = rng.choice(codes, p=others / others.sum())
    return swapped


def read_card_predictions() -> tuple[LabeledTable, str]:
    """Read the validation probabilities of the shipped classifier, and its hash."""
    model = read_model(SHIPPED / "classifier", "classifier", ClassifierCard)
    if model.card.validation is None:
        raise SystemExit("the card must hold validation probabilities; train the classifier with this version of segpipe")
    (labels, probs), codes = model.card.validation.unpack(), model.card.classes
    table = pd.DataFrame(probs, columns=[f"p_{code}" for code in codes])
    lesions = model.card.validation.lesion_hashes
    named = table.assign(image_id=table.index.astype(str), lesion_id=lesions, dx=np.array(codes)[labels])
    return LabeledTable(named, tuple(codes), 0), model.sha256


def measure(labeled: LabeledTable, swap: Swap, *, rounds: int) -> dict[str, Any]:
    """Measure the found fraction of swapped labels over rounds."""
    found = []
    for seed in range(rounds):
        given = swap(labeled.table, labeled.codes, np.random.default_rng(seed))
        ranked = rank_labels(replace(labeled, table=labeled.table.assign(dx=given)))
        true = ranked["image_id"].map(dict(zip(labeled.table["image_id"], labeled.table["dx"], strict=True)))
        wrong = (true != ranked["given"]).to_numpy()
        ranks = np.flatnonzero(wrong) / len(ranked)
        restored = (ranked["suggested"] == true)[wrong].mean()
        flagged = ranked["likely_error"][wrong].mean()
        found.append([*((ranks < part).mean() for part in FIRST), flagged, restored, ranked["likely_error"].mean()])
    names = [*(f"in_first_{100 * part:.0f}_percent" for part in FIRST), "flagged", "suggested_is_true", "flagged_of_all"]
    columns = zip(names, np.array(found, np.float64).T, strict=True)
    return {name: {"mean": values.mean(), "lowest": values.min(), "highest": values.max()} for name, values in columns}


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="output folder of a run; else the card of the shipped classifier")
    parser.add_argument("--labels", type=Path, help="table of the labels of a run")
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds with other swapped images")
    parser.add_argument("--output", type=Path, help="file for the results")
    arguments = parser.parse_args()
    if arguments.run:
        labeled = read_predictions(arguments.run / RESULTS, arguments.labels)
        classifier = read_json(arguments.run / SUMMARY)["models"]["classifier"]
    else:
        labeled, classifier = read_card_predictions()
    swaps: dict[str, Swap] = {"uniform": swap_uniformly, "by_frequency": swap_by_frequency, "by_lesion": swap_lesions}
    results = {
        "classifier": classifier,
        "predictions": "run" if arguments.run else "card",
        "images": len(labeled.table),
        "swapped": SWAPPED,
        "rounds": arguments.rounds,
        "likely_errors_without_swaps": float(rank_labels(labeled)["likely_error"].mean()),
        **{name: measure(labeled, swap, rounds=arguments.rounds) for name, swap in swaps.items()},
    }
    print(encode_json(results).decode())
    if arguments.output:
        write_file(arguments.output, encode_json(results))
    return int(results["uniform"]["in_first_10_percent"]["mean"] < LEAST_FOUND)


if __name__ == "__main__":
    sys.exit(main())
