"""Model card of two bundles as Markdown, from their `card.json`.

The table of the README is its first table of metrics.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from segpipe.bundle.records import Training
from segpipe.diagnosis import full_name
from segpipe.errors import BundleError
from segpipe.evaluation.heatmap_metrics import heatmap_table
from segpipe.evaluation.text import images_text, markdown_table, metric_text
from segpipe.io.files import counted, escape_unprintable, one_line
from segpipe.release.card_tests import ClassifierModel, SegmenterModel, sets_text, tests_text, trust_text
from segpipe.report.wording import target_name

PER_CLASS = {"sensitivity": "sensitivity", "specificity": "specificity", "f1": "F1", "auroc": "AUROC", "auprc": "AUPRC"}
SCREENING = {
    "auroc_{}": "AUROC",
    "sensitivity_{}_at_specificity_090": "sensitivity at specificity 0.90",
    "sensitivity_{}_at_specificity_095": "sensitivity at specificity 0.95",
    "specificity_{}_at_sensitivity_090": "specificity at sensitivity 0.90",
    "specificity_{}_at_sensitivity_095": "specificity at sensitivity 0.95",
}
GROUPED = {
    "classification": {
        "balanced_accuracy": "balanced accuracy",
        "macro_auroc": "macro AUROC",
        "sensitivity_mel": "mel sensitivity",
    },
    "segmentation": {"dice": "localizer mean Dice", "share_below_065": "localizer Jaccard below 0.65"},
}
ERRORS = {"nll": "negative log-likelihood", "ece": "ECE", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
LIMITS = """\
- Expect lower performance with other cameras, skin types and lesions; measure it with `labels=` and `masks=`.
- The classifier distinguishes the classes below only: an image of anything else gets one of them, often with high confidence.
- It uses a single image: no history, no palpation, no earlier images, no other lesions of the patient.
- Intervals are wide where there are few images; a group of fewer than 20 lesions has none.
- The probabilities are calibrated on validation images, and only for the frequencies that the diagnoses have there."""
LIMITS_OF_DATA = {
    "ham10000": """\
- HAM10000 comes from one clinic in Vienna and one practice in Queensland, and shows mostly light skin. It was collected for
  training: the frequencies of its diagnoses are not those of clinical practice.""",
    "isic2019": """\
- ISIC 2019 joins HAM10000 (Vienna and Queensland), BCN_20000 (Barcelona) and MSK (New York), and shows mostly light skin. The
  frequencies of its diagnoses are not those of clinical practice, and they differ between the sources.""",
}


@contextmanager
def _refuse_incomplete() -> Iterator[None]:
    """Refuse a card without the metrics or calibration of a model card.

    Raises:
        BundleError: The block raised an error of a missing or wrong value.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise BundleError(
            f"card.json must hold the metrics that a test of this version writes, got others ({reason}); test the model again"
        ) from error


@_refuse_incomplete()
def model_card(segmenter: SegmenterModel, classifier: ClassifierModel) -> str:
    """Write the model card of a segmenter and a classifier as Markdown."""
    of_data = LIMITS_OF_DATA.get(classifier.card.training.dataset)
    sets = classifier.card.conformal
    limits = [LIMITS] if of_data is None else [of_data, LIMITS]
    sections = {
        "Models": _models(segmenter, classifier),
        "Intended use": "\n\n".join([classifier.card.intended_use, "Limits:", "\n".join(limits)]),
        "Data": _data(segmenter, classifier),
        "Metrics": tests_text(segmenter, classifier),
        **(_details(classifier) if "metrics" in classifier.card.metrics else {}),
        "Calibration": _calibration(classifier),
        **({"Prediction sets": sets_text(sets, classifier.card.metrics.get("metrics", {}))} if sets else {}),
        **({"Trust": trust_text(trust)} if (trust := classifier.card.trust) else {}),
        "License": f"{classifier.card.licence}.",
    }
    texts = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    head = "# Model card\n\n**Not a medical device.** Written by `segpipe card`."
    return escape_unprintable(f"{head}\n\n{texts}\n")


def _details(classifier: ClassifierModel) -> dict[str, str]:
    """Write the end-to-end test of the classifier by class and by group."""
    return {
        "Each class against the rest": _classes(classifier),
        "Melanoma and malignancy": _screening(classifier),
        "Groups": _groups(classifier),
        **({"Heatmaps": _heatmaps(tested)} if (tested := classifier.card.metrics.get("heatmaps")) else {}),
    }


def _models(segmenter: SegmenterModel, classifier: ClassifierModel) -> str:
    rows = []
    bundles: dict[str, SegmenterModel | ClassifierModel] = {"segmenter": segmenter, "classifier": classifier}
    for name, bundle in bundles.items():
        card = bundle.card
        built = ", ".join(f"{key} {value}" for key, value in card.arguments.items())
        start = card.training.settings.get(name, {}).get("init", "random")
        images, epochs = counted(card.training.images, "image"), counted(card.training.epochs, "epoch")
        made = f"{images}, {epochs} from {start} weights, best epoch kept"
        rows.append([name, built, f"{bundle.weight_count:,}", f"{card.input.size} px", made, f"`{bundle.sha256[:12]}`"])
    versions = ", ".join(f"{name} {version}" for name, version in classifier.card.versions.items())
    table = markdown_table(["", "arguments", "weights", "input", "training", "SHA-256"], rows)
    crop = classifier.card.crop
    rule = (
        "the whole image"
        if crop.whole_image
        else f"a square around the lesion with a margin of {crop.margin_fraction:g} of its longer side, within the image"
    )
    squared = (
        "resized to a square" if crop.border == "squeeze" else "extended to a square by reflection at the border of the image"
    )
    return (
        f"{table}\n\nThe input of the classifier is {rule}; a crop that is not square is {squared}. {_teachers(classifier)}All "
        f"settings are in `card.json`. Libraries: {versions}."
    )


def _teachers(classifier: ClassifierModel) -> str:
    distillation = classifier.card.training.settings.get("distill")
    if distillation is None:
        return ""
    named = ", ".join(f"{teacher['title']} (`{teacher['sha256'][:12]}`)" for teacher in distillation["teacher"])
    settings = ", ".join(f"{name.replace('_', ' ')} {distillation[name]}" for name in ("temperature", "label_weight", "views"))
    return f"It was distilled from {named}: {settings}. "


def _data(segmenter: SegmenterModel, classifier: ClassifierModel) -> str:
    training, codes = classifier.card.training, classifier.card.classes
    trained_on = {"segmenter": _trained_on(segmenter.card.training), "classifier": _trained_on(training)}
    if trained_on["segmenter"] == trained_on["classifier"]:
        trained_on = {"both": trained_on["classifier"]}
    rows = [[part, *(f"{counts.get(code, 0):,}" for code in codes)] for part, counts in training.counts.items()]
    texts = [f"Data of {name}: {text}" for name, text in trained_on.items()]
    names = ", ".join(f"{code}: {full_name(code)}" for code in codes)
    counts = [f"Images of the classifier's data by diagnosis:\n\n{markdown_table(['images', *codes], rows)}"] if rows else []
    return "\n\n".join([*texts, *counts, f"{names}."])


def _trained_on(training: Training) -> str:
    leaks = (
        "**Leaks were explicitly allowed: the metrics may be too high.**" if training.leaks_allowed else "No leaks were allowed."
    )
    return (
        f"{training.dataset}, split by lesion: no lesion is in two parts. {leaks} Split hash `{training.split_hash[:12]}`, "
        f"data set hash `{training.dataset_hash[:12]}`."
    )


def _classes(classifier: ClassifierModel) -> str:
    metrics = classifier.card.metrics["metrics"]
    rows = [
        [code, f"{metrics[f'support_{code}']['value']:,}", *(metric_text(metrics[f"{name}_{code}"]) for name in PER_CLASS)]
        for code in classifier.card.classes
    ]
    return markdown_table(["", "images", *PER_CLASS.values()], rows)


def _screening(classifier: ClassifierModel) -> str:
    metrics, malignant = classifier.card.metrics["metrics"], classifier.card.malignant
    names = [name for name in ("mel", "malignant") if f"sensitivity_{name}_at_specificity_090" in metrics]
    rows = [[title, *(metric_text(metrics[key.format(name)]) for name in names)] for key, title in SCREENING.items()]
    tables = [markdown_table(["", *names], rows)] if names else []
    meaning = (
        f"The probability of malignancy is the sum of those of {', '.join(malignant)}."
        if malignant
        else "The malignant classes are unknown."
    )
    return "\n\n".join([*tables, meaning, _operating_points(classifier)])


def _operating_points(classifier: ClassifierModel) -> str:
    """Write the operating points with their metrics on the test images."""
    points = classifier.card.operating_points
    if not points:
        return "No operating point was chosen, so no image is flagged."
    rows = []
    for point in points:
        target = "" if point.target_sensitivity is None else f"{point.target_sensitivity:g}"
        measured = (metric_text(point.test[name]) if name in point.test else "" for name in ("sensitivity", "specificity"))
        rows.append([target_name(point.target), f"{point.threshold:.4f}", target, *measured])
    metrics = classifier.card.metrics["metrics"]
    if len(points) > 1 and all(f"sensitivity_flagged_{point.target}" in metrics for point in points):
        rows.append(
            ["any of these", "", "", *(metric_text(metrics[f"{name}_flagged"]) for name in ("sensitivity", "specificity"))]
        )
    header = [
        "target",
        "probability threshold",
        "target sensitivity on validation",
        "sensitivity on test",
        "specificity on test",
    ]
    return f"An image is flagged where a probability reaches one of these operating points.\n\n{markdown_table(header, rows)}"


def _groups(classifier: ClassifierModel) -> str:
    titles = [title for shown in GROUPED.values() for title in shown.values()]
    rows = []
    for attribute, values in classifier.card.metrics["groups"].items():
        for value, parts in values.items():
            images = max(part["images"] for part in parts.values())
            rows.append([f"{attribute.replace('_', ' ')}: {value}", f"{images:,}", *_group_metrics(parts)])
    return markdown_table(["", "images", *titles], rows)


def _group_metrics(parts: Mapping[str, Any]) -> Iterable[str]:
    for part, shown in GROUPED.items():
        metrics = parts.get(part, {}).get("metrics", {})
        for name in shown:
            yield metric_text(metrics[name]) if name in metrics else ""


def _heatmaps(tested: Mapping[str, Any]) -> str:
    return (
        f"Grad-CAM in one view on {images_text(tested)}; docs/heatmaps.md defines the metrics. Correlations are medians; a "
        "deletion below and an insertion above that of the centered map are better, and so are gains above 0.\n\n"
        f"{heatmap_table({'test': tested})}"
    )


def _calibration(classifier: ClassifierModel) -> str:
    calibration = classifier.card.calibration
    if not calibration:
        return "No calibration was fitted."
    chosen = calibration["chosen"]
    titles = {"none": "as trained", "temperature": "temperature", "logit_adjustment": "temperature and class frequencies"}
    rows = [
        [
            f"{titles[method]}{' (shipped)' if method == chosen else ''}",
            *(f"{errors[name]:.3f}" for name in ERRORS),
        ]
        for method, errors in calibration["errors"].items()
    ]
    table = markdown_table(["", *ERRORS.values()], rows)
    images = counted(calibration["images"], "validation image")
    return f"Fitted and measured on the {images}; for the ECE on the test images see above.\n\n{table}"
