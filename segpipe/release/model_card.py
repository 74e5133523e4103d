"""The model card of two bundles, for people, written from their `card.json` alone.

The table of the README is its first table of metrics.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from segpipe.bundle.card import Training
from segpipe.bundle.folder import ClassifierBundle, SegmenterBundle
from segpipe.diagnosis import full_name
from segpipe.errors import BundleError, escape_unprintable, one_line
from segpipe.evaluation.headline import images_text
from segpipe.evaluation.heatmap_results import heatmap_table
from segpipe.evaluation.table import figure_text, markdown_table
from segpipe.io.numerals import counted
from segpipe.release.card_tests import tests_text
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
- Expect less on other cameras, skin and lesions, and measure it with `labels=` and `masks=`.
- It knows the classes below and nothing else: an image of anything else gets one of these names, often with confidence.
- It sees one photograph: no history, no touch, no earlier picture, none of the patient's other lesions.
- Where there are few images the intervals are wide; a group of fewer than 20 lesions has none.
- The probabilities are fitted to validation images: where the diagnoses are of other frequency, calibrated ones would be too."""
LIMITS_OF_DATA = {
    "ham10000": """\
- HAM10000 comes from one clinic in Vienna and one practice in Queensland, mostly from light skin, and was collected for training:
  the frequencies of its diagnoses are those of no practice.""",
    "isic2019": """\
- ISIC 2019 joins HAM10000 (Vienna and Queensland), BCN_20000 (Barcelona) and MSK (New York), mostly from light skin: the
  frequencies of its diagnoses are those of no practice, and they differ from source to source.""",
}


@contextmanager
def _refuse_incomplete() -> Iterator[None]:
    """Refuse a card whose metrics or calibration lack what the model card shows.

    Raises:
        BundleError: in place of the error that this leads to.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise BundleError(f"card.json must hold the metrics that a test of this version writes, got others ({reason})") from error


@_refuse_incomplete()
def model_card(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> str:
    """Write the card of a segmenter and a classifier, as Markdown; each test stands apart, with its images."""
    of_data = LIMITS_OF_DATA.get(classifier.card.training.dataset)
    limits = [LIMITS] if of_data is None else [of_data, LIMITS]
    sections = {
        "What it is": _models(segmenter, classifier),
        "Intended use": "\n\n".join([classifier.card.intended_use, "Limits:", "\n".join(limits)]),
        "Data": _data(segmenter, classifier),
        "Metrics": tests_text(segmenter, classifier),
        **(_details(classifier) if "metrics" in classifier.card.metrics else {}),
        "Calibration": _calibration(classifier),
        "Licence": f"{classifier.card.licence}.",
    }
    texts = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    head = "# Model card\n\n**Not a medical device.** Written by `segpipe card`."
    return escape_unprintable(f"{head}\n\n{texts}\n")


def _details(classifier: ClassifierBundle) -> dict[str, str]:
    """The test of the classifier, end to end, class by class and group by group."""
    return {
        "Each class against the rest": _classes(classifier),
        "Melanoma and malignancy": _screening(classifier),
        "Groups": _groups(classifier),
        **({"Heatmaps": _heatmaps(tested)} if (tested := classifier.card.metrics.get("heatmaps")) else {}),
    }


def _models(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> str:
    rows = []
    bundles: dict[str, SegmenterBundle | ClassifierBundle] = {"segmenter": segmenter, "classifier": classifier}
    for name, bundle in bundles.items():
        card, weights = bundle.card, sum(tensor.numel() for tensor in bundle.model.parameters())
        built = ", ".join(f"{key} {value}" for key, value in card.arguments.items())
        start = card.training.settings.get(name, {}).get("init", "random")
        images, epochs = counted(card.training.images, "image"), counted(card.training.epochs, "epoch")
        made = f"{images}, {epochs} from {start} weights, the best kept"
        rows.append([name, built, f"{weights:,}", f"{card.input.size} px", made, f"`{bundle.sha256[:12]}`"])
    versions = ", ".join(f"{name} {version}" for name, version in classifier.card.versions.items())
    table = markdown_table(["", "built with", "weights", "input", "trained on", "SHA-256"], rows)
    crop = classifier.card.crop
    rule = (
        "the whole image"
        if crop.whole_image
        else f"a square around the lesion with a margin of {crop.margin_fraction:g} of its longer side, where the image has room"
    )
    squared = "squeezed into one" if crop.border == "squeeze" else "filled to one by reflection at the image's border"
    return (
        f"{table}\n\nThe classifier sees {rule}; a crop that is not square is {squared}. {_teachers(classifier)}All "
        f"settings stand in `card.json`. Libraries: {versions}."
    )


def _teachers(classifier: ClassifierBundle) -> str:
    distillation = classifier.card.training.settings.get("distill")
    if distillation is None:
        return ""
    named = ", ".join(f"{teacher['title']} (`{teacher['sha256'][:12]}`)" for teacher in distillation["teacher"])
    settings = ", ".join(f"{name.replace('_', ' ')} {distillation[name]}" for name in ("temperature", "label_weight", "views"))
    return f"It was distilled from {named}: {settings}. "


def _data(segmenter: SegmenterBundle, classifier: ClassifierBundle) -> str:
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
    leaks = "No leak was allowed." if not training.leaks_allowed else "**A leak was allowed by name: the figures may flatter.**"
    return (
        f"{training.dataset}, split by lesion: no lesion stands in two parts. {leaks} Split hash `{training.split_hash[:12]}`, "
        f"data set hash `{training.dataset_hash[:12]}`."
    )


def _classes(classifier: ClassifierBundle) -> str:
    figures = classifier.card.metrics["metrics"]
    rows = [
        [code, f"{figures[f'support_{code}']['value']:,}", *(figure_text(figures[f"{name}_{code}"]) for name in PER_CLASS)]
        for code in classifier.card.classes
    ]
    return markdown_table(["", "images", *PER_CLASS.values()], rows)


def _screening(classifier: ClassifierBundle) -> str:
    figures, malignant = classifier.card.metrics["metrics"], classifier.card.malignant
    names = [name for name in ("mel", "malignant") if f"sensitivity_{name}_at_specificity_090" in figures]
    rows = [[title, *(figure_text(figures[key.format(name)]) for name in names)] for key, title in SCREENING.items()]
    tables = [markdown_table(["", *names], rows)] if names else []
    meaning = (
        f"Malignant is {' + '.join(malignant)}: their probabilities are added up."
        if malignant
        else "Which classes are malignant is not known."
    )
    return "\n\n".join([*tables, meaning, _operating_points(classifier)])


def _operating_points(classifier: ClassifierBundle) -> str:
    """From which probabilities on an image is suspicious, and what each of these thresholds does on the test images."""
    points = classifier.card.operating_points
    if not points:
        return "No operating point was chosen, so no image is suspicious by a threshold."
    rows = []
    for point in points:
        target = "" if point.target_sensitivity is None else f"{point.target_sensitivity:g}"
        measured = (figure_text(point.test[name]) if name in point.test else "" for name in ("sensitivity", "specificity"))
        rows.append([target_name(point.target), f"{point.threshold:.4f}", target, *measured])
    figures = classifier.card.metrics["metrics"]
    if len(points) > 1 and all(f"sensitivity_flagged_{point.target}" in figures for point in points):
        rows.append(
            ["any of these", "", "", *(figure_text(figures[f"{name}_flagged"]) for name in ("sensitivity", "specificity"))]
        )
    header = [
        "suspicious for",
        "from a probability of",
        "sensitivity aimed at on validation",
        "sensitivity on test",
        "specificity on test",
    ]
    return f"An image is suspicious where a probability reaches one of these operating points.\n\n{markdown_table(header, rows)}"


def _groups(classifier: ClassifierBundle) -> str:
    titles = [title for shown in GROUPED.values() for title in shown.values()]
    rows = []
    for attribute, values in classifier.card.metrics["groups"].items():
        for value, parts in values.items():
            images = max(part["images"] for part in parts.values())
            rows.append([f"{attribute.replace('_', ' ')}: {value}", f"{images:,}", *_group_figures(parts)])
    return markdown_table(["", "images", *titles], rows)


def _group_figures(parts: Mapping[str, Any]) -> Iterable[str]:
    for part, shown in GROUPED.items():
        figures = parts.get(part, {}).get("metrics", {})
        for name in shown:
            yield figure_text(figures[name]) if name in figures else ""


def _heatmaps(tested: Mapping[str, Any]) -> str:
    return (
        f"Grad-CAM in one view on {images_text(tested)}; docs/heatmaps.md defines the metrics. Correlations are medians; a "
        "deletion below and an insertion above those of the centered map are better; gains above 0 are better.\n\n"
        f"{heatmap_table({'test': tested})}"
    )


def _calibration(classifier: ClassifierBundle) -> str:
    found = classifier.card.calibration
    if not found:
        return "None was fitted."
    titles = {"none": "as trained", "temperature": "temperature", "logit_adjustment": "temperature and class frequencies"}
    rows = [
        [f"{titles[method]}{' (shipped)' if method == found['chosen'] else ''}", *(f"{errors[name]:.3f}" for name in ERRORS)]
        for method, errors in found["errors"].items()
    ]
    table = markdown_table(["", *ERRORS.values()], rows)
    images = counted(found["images"], "validation image")
    return f"Fitted and measured on the {images}; the ECE on the test part stands above.\n\n{table}"
