"""Fine-tuning of the shipped models on 90 and 18 images.

    python benchmarks/fine_tuning.py --data data/ham10000 --work runs/fine_tuning
    python benchmarks/fine_tuning.py --data data/ham10000 --work runs/fine_tuning --output docs/results/fine_tuning.json

The images are photographs of melanomas, benign keratoses and nevi from the test part of HAM10000, which the shipped models
have not seen, one of each lesion. 240 of them, 80 of each class, are held out; for each seed, 30 or 6 of each class are drawn
from the rest as a user's own images and given to the commands of the page, which split them into train, val and test. Start and
result are then compared on the held-out images, because a test part of 18 or 4 images says little. The start of the classifier
is the shipped one, with its probabilities of the three classes scaled to the sum 1.

`names=own` are classes with names of their own, for which the classifier gets a new linear layer; `names=codes` are codes that
the shipped classifier knows. It and the U-Net were trained on thousands of images of the same source, so that their starting
weights can hardly become better. Intervals are over lesions, for all seeds together. A second call skips finished trainings and
resumes interrupted ones. `key=value` arguments go to all trainings, which need another --work then.

Exit status: 1 if a result is worse than its start by more than noise, or 90 images of own classes give no better one; else 0.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import segpipe
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.data.assembly import find_photographs
from segpipe.data.splits import read_split
from segpipe.evaluation.changes import changes_table, measure_changes
from segpipe.evaluation.crop_sources import compare_probs, predict_probs
from segpipe.evaluation.segmenter_alone import measure_segmenter
from segpipe.evaluation.truth import dataset_truth
from segpipe.inference.resources import keep_freed_memory
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.io.files import encode_json, read_json, write_file
from segpipe.io.run_files import BUNDLE, CARD, METRICS, SPLIT, TEST
from segpipe.metrics.segmentation import score_masks
from segpipe.types import FloatArray

OWN_NAMES = {"mel": "melanoma", "bkl": "benign keratosis", "nv": "mole"}
CODES = tuple(OWN_NAMES)
HELD_OUT = 80  # images of each class
OF_EACH = {90: 30, 18: 6}
SEGMENTER, OWN_CLASSES, KNOWN_CLASSES = "segmenter", "classifier, names=own", "classifier, names=codes"
MASK_METRICS = ("dice", "jaccard", "thresholded_jaccard")
# Metric that decides whether a result is better.
DECIDING = {SEGMENTER: "dice", OWN_CLASSES: "balanced_accuracy", KNOWN_CLASSES: "balanced_accuracy"}


@dataclass(frozen=True)
class Images:
    """Photographs of the test part: held-out ones, and all others."""

    held_out: pd.DataFrame
    pool: pd.DataFrame

    def draw(self, images: int, seed: int) -> pd.DataFrame:
        """Draw the images of a user."""
        return pd.concat([rows.sample(OF_EACH[images], random_state=seed) for _, rows in self.pool.groupby("dx", sort=True)])


def choose_images(root: str) -> Images:
    """Choose one photograph of each test lesion, with its mask."""
    files, split = find_photographs(root, copies=False), read_split(SHIPPED / SPLIT)
    table = pd.read_csv(next(Path(root).glob("*metadata*.csv")))
    test = table[table["image_id"].isin(split.loc[split["part"] == "test", "image_id"]) & table["dx"].isin(CODES)]
    test = test[test["image_id"].isin(files.images) & test["image_id"].isin(files.masks)].drop_duplicates("lesion_id")
    test = test.assign(
        image_path=[str(files.images[name]) for name in test["image_id"]],
        mask_path=[str(files.masks[name]) for name in test["image_id"]],
    )
    mixed = test.sample(frac=1, random_state=0)
    held_out = mixed.groupby("dx", sort=True).head(HELD_OUT)
    return Images(held_out, mixed.drop(held_out.index))


def copy_images(rows: pd.DataFrame, root: Path, kind: str) -> None:
    """Lay out images in a folder for each class."""
    for row in rows.to_dict("records"):
        name = OWN_NAMES[row["dx"]] if kind == OWN_CLASSES else row["dx"]
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row["image_path"], root / name / Path(row["image_path"]).name)
        if kind == SEGMENTER:
            (root / "masks").mkdir(exist_ok=True)
            shutil.copyfile(row["mask_path"], root / "masks" / f"{row['image_id']}_segmentation.png")


def train(kind: str, rows: pd.DataFrame, folder: Path, *, seed: int, keys: Sequence[str]) -> Path:
    """Run the command of the page; return the folder of the training."""
    root, output = folder / "images", folder / "training"
    if (output / BUNDLE / CARD).is_file() and (output / TEST / METRICS).is_file():
        return output
    copy_images(rows, root, kind)
    given = ["data=folders", f"data.root={root}", "data.without_lesion_ids=true", f"data.cache={folder / 'cache'}"]
    given += [f"seed={seed}", "resume=true", *keys]
    if kind == SEGMENTER:
        segpipe.train_segmenter(["+experiment=fine_tune_segmenter", *given], output)
    else:
        segpipe.train_classifier(["+experiment=fine_tune", *given], output)
    return output


def measure_overlaps(bundle: Path, table: pd.DataFrame) -> FloatArray:
    """Measure Dice and Jaccard of each image, shape (N, 2)."""
    return measure_segmenter(Localizer(TorchSegmenter(load_segmenter(bundle))), table)[0]


def measure_probs(bundle: Path, table: pd.DataFrame) -> FloatArray:
    """Compute the probabilities of the three classes, shape (N, 3)."""
    localizer = Localizer(TorchSegmenter(load_segmenter(SHIPPED / "segmenter")))
    network = TorchClassifier(load_classifier(bundle))
    options: dict[str, Any] = {"views": VIEWS["none"], "batch_size": 32, "what": "held-out images"}
    probs = predict_probs(lambda _, images: localizer(images), network, table, **options)
    classes = network.card.classes
    columns = [classes.index(code if code in classes else OWN_NAMES[code]) for code in CODES]
    return probs[:, columns] / probs[:, columns].sum(axis=1, keepdims=True)


def compare(kind: str, table: pd.DataFrame, start: FloatArray, tuned: Sequence[FloatArray]) -> dict[str, Any]:
    """Compare the start with the results of all seeds."""
    repeated = pd.concat([table] * len(tuned), ignore_index=True)
    values = {"start": np.concatenate([start] * len(tuned)), "fine_tuned": np.concatenate(tuned)}
    if kind != SEGMENTER:
        return {**compare_probs(values, repeated, CODES), "images": len(table)}
    metrics = {name: partial(score_masks, *overlaps.T) for name, overlaps in values.items()}
    lesions = dataset_truth(table).lesions_of(list(repeated["image_id"]))
    return {"images": len(table), "metrics": measure_changes(metrics, MASK_METRICS, lesions)}


def run(kind: str, images: int, chosen: Images, options: argparse.Namespace) -> dict[str, Any]:
    """Train with each seed, and compare."""
    measure = measure_overlaps if kind == SEGMENTER else measure_probs
    part = "segmenter" if kind == SEGMENTER else "classifier"
    start, tuned, own = measure(SHIPPED / part, chosen.held_out), [], []
    for seed in range(options.seeds):
        folder = options.work / f"{kind.replace(', names=', '_')}_{images}_{seed}"
        output = train(kind, chosen.draw(images, seed), folder, seed=seed, keys=options.keys)
        tuned.append(measure(output / BUNDLE, chosen.held_out))
        own.append(read_json(output / TEST / METRICS).get("fine_tuning"))
    each = [compare(kind, chosen.held_out, start, [values])["metrics"][DECIDING[kind]]["change"]["value"] for values in tuned]
    joined = compare(kind, chosen.held_out, start, tuned)
    print(f"\n{kind}, {images} images, {options.seeds} seeds, {DECIDING[kind]} by seed {', '.join(f'{x:+.3f}' for x in each)}")
    print(changes_table(joined), flush=True)
    return {**joined, "change_by_seed": each, "own_test_part": own}


def passed(results: Mapping[str, Mapping[str, Any]]) -> bool:
    """Check the results against their starts."""
    fine = True
    for name, result in results.items():
        kind, images = name.rsplit(", ", 1)
        change = result["metrics"][DECIDING[kind]]["change"]
        fine &= change["high"] >= 0 and ((kind, images) != (OWN_CLASSES, "90 images") or change["value"] > 0)
    return fine


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of HAM10000")
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings of each kind")
    parser.add_argument("--only", choices=tuple(DECIDING), help="only one kind of training")
    parser.add_argument("--images", type=int, choices=tuple(OF_EACH), help="only one number of images")
    parser.add_argument("--output", type=Path, help="file for the results; those of other kinds in it are kept")
    parser.add_argument("keys", nargs="*", metavar="key=value", help="settings of all trainings")
    options = parser.parse_args()
    keep_freed_memory()
    chosen = choose_images(options.data)
    results = read_json(options.output) if options.output and options.output.is_file() else {}
    for kind in DECIDING if options.only is None else (options.only,):
        for images in OF_EACH if options.images is None else (options.images,):
            results[f"{kind}, {images} images"] = run(kind, images, chosen, options)
            if options.output:
                write_file(options.output, encode_json(results))
    print(
        "\npassed" if passed(results) else "\nFAILED: a result is worse than its start, or 90 images of own classes are of no use"
    )
    return 0 if passed(results) else 1


if __name__ == "__main__":
    sys.exit(main())
