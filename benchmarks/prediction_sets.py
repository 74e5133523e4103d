r"""Coverage and size of class-conditional and marginal prediction sets on a run.

    segpipe predict folder=data/ham10000 labels=data/ham10000/HAM10000_metadata.csv split=segpipe/weights/split.csv part=test \
        explain=none figures=false output=outputs/test
    python benchmarks/prediction_sets.py --run outputs/test --labels data/ham10000/HAM10000_metadata.csv
    python benchmarks/prediction_sets.py --run outputs/test --labels ... --output docs/results/prediction_sets.json

The thresholds are fitted to the validation probabilities on the card of the classifier that made the run, with three methods:

- class_conditional: a threshold for each diagnosis, see `segpipe.metrics.conformal.fit_sets`;
- class_alone: the same, but diagnoses with too few validation lesions are in every set;
- marginal: one threshold for all diagnoses.

The predicted diagnosis is in every set; `without_predicted` is the same without that rule, whose sets may be empty. Each image
counts once, except under `lesions`, where each lesion does. Intervals are over lesions.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.card_file import SHIPPED, read_card
from segpipe.data.splits import read_split
from segpipe.evaluation.run import read_run
from segpipe.evaluation.text import markdown_table, metric_text
from segpipe.evaluation.truth import read_truth
from segpipe.io.run_files import SPLIT
from segpipe.metrics.bootstrap import Weights, with_intervals
from segpipe.metrics.classification import LabeledPredictions
from segpipe.metrics.conformal import ConformalSets, SetMetrics, conformal_quantile
from segpipe.release.export import upgrade_card

COVERAGES = (0.90, 0.95)


def fit_methods(card: ClassifierCard, coverage: float) -> dict[str, ConformalSets]:
    """Fit the thresholds of each method to the validation images."""
    sets, validation = card.with_prediction_sets(coverage).conformal, card.validation
    if sets is None or validation is None:
        raise SystemExit("the card must hold validation probabilities; train the classifier with this version of segpipe")
    labels, probs = validation.unpack()
    first = np.unique(validation.lesion_hashes, return_index=True)[1]
    pooled = conformal_quantile(1 - probs[first, labels[first]], coverage)
    return {
        "class_conditional": sets,
        "class_alone": replace(sets, thresholds={**sets.thresholds, **dict.fromkeys(sets.rare, 1.0)}),
        "marginal": replace(sets, thresholds=dict.fromkeys(card.classes, pooled)),
    }


def measure(sets: ConformalSets, predictions: LabeledPredictions, lesions: Sequence[str]) -> dict[str, Any]:
    """Compute `SetMetrics` of one method by image and by lesion, with intervals."""
    codes, labels = predictions.codes, predictions.labels
    rows = [dict(zip(codes, row, strict=True)) for row in predictions.probs.tolist()]
    members = np.array([[code in chosen for code in codes] for chosen in map(sets.prediction_set, rows)])
    below = 1 - predictions.probs <= np.array([sets.thresholds[code] for code in codes])
    _, of_image, photographs = np.unique(lesions, return_inverse=True, return_counts=True)
    metrics, photographs = SetMetrics(members, labels, codes), photographs[of_image]

    def of_lesions(weights: Weights) -> Mapping[str, float | None]:
        return metrics(weights / photographs)

    return {
        "thresholds": dict(sets.thresholds),
        "validation_lesions": dict(sets.images),
        "images": with_intervals(metrics, lesions),
        "lesions": with_intervals(of_lesions, lesions),
        "without_predicted": {**_values(below, labels, codes), "empty": float(np.mean(~below.any(axis=1)))},
    }


def _values(members: NDArray[np.bool_], labels: NDArray[np.intp], codes: Sequence[str]) -> dict[str, float | None]:
    return SetMetrics(members, labels, codes)(np.ones(len(labels), np.intp))


def table(measured: Mapping[str, Any], codes: Sequence[str]) -> str:
    """Write the metrics of the methods as a Markdown table."""
    names = [*(f"coverage_{code}" for code in codes), "macro_coverage", "coverage", "set_size", "single_label"]
    rows = [[name, *(metric_text(method["images"][name]) for method in measured.values())] for name in names]
    return markdown_table(["", *measured], rows)


def main() -> None:
    """Measure the sets on the results of a run."""
    parser = argparse.ArgumentParser(description="Measure prediction sets on the results of a run.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a run over images of the test split")
    parser.add_argument("--labels", type=Path, required=True, help="table of diagnoses, as labels= of segpipe predict")
    parser.add_argument("--classifier", type=Path, default=SHIPPED / "classifier", help="bundle of the run's classifier")
    parser.add_argument("--split", type=Path, default=SHIPPED / SPLIT, help="split of its training, for cards without lesions")
    parser.add_argument("--output", type=Path, help="also write the values to this JSON file")
    options = parser.parse_args()
    card = read_card(options.classifier, "classifier", ClassifierCard)
    run = read_run(options.run)
    truth = read_truth(labels=options.labels, masks=None).match_images(dict.fromkeys(run.results["path"])).keep_classes(run.codes)
    scored = run.labeled(truth.diagnoses or {})
    predictions = run.predictions(scored, truth.diagnoses or {})
    lesions = truth.lesions_of(list(scored["image_id"]))
    content: dict[str, Any] = {"classifier": run.pipeline.get("classifier"), "images": len(scored), "lesions": len(set(lesions))}
    for coverage in COVERAGES:
        with_lesions = upgrade_card(card, read_split(options.split), coverage=coverage)
        measured = {name: measure(sets, predictions, lesions) for name, sets in fit_methods(with_lesions, coverage).items()}
        content[f"{coverage:.2f}"] = measured
        print(f"coverage {coverage:.2f}, {len(scored)} images\n\n{table(measured, run.codes)}\n")
    if options.output is not None:
        options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
