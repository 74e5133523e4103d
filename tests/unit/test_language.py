"""Languages: each has all texts with their placeholders, and results can be described in it."""

import ast
import importlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import segpipe
from segpipe.app import bundles, outline
from segpipe.diagnosis import DIAGNOSES
from segpipe.inference.evidence import ADVICE, UNLIKE_TRAINING
from segpipe.language import (
    ENGLISH,
    current_language,
    in_language,
    language_codes,
    language_name,
    localize_number,
    read_language,
    translate,
    translated_document,
    use_language,
)
from segpipe.lesion import appearance
from segpipe.lesion.quality import NOTES, REASONS, WARNINGS
from segpipe.metrics import trust
from segpipe.report import evidence, wording
from segpipe.report.wording import DISCLAIMER, name_with_code, percent

PACKAGE = Path(segpipe.__file__).parent
OTHERS = [code for code in language_codes() if code != ENGLISH]
# Texts that the code translates by a variable.
TABLES = (
    *(diagnosis.name for diagnosis in DIAGNOSES),
    *(text for texts in (WARNINGS, REASONS, NOTES, ADVICE, bundles.PLOTS) for text in texts.values()),
    *(code.replace("_", " ") for code in (*WARNINGS, *ADVICE) if code != UNLIKE_TRAINING),
    *appearance.COLORS,
    *trust.COLORS,
    *wording._SOURCES.values(),
    wording._DRAWN,
    *wording._DRAWN_OF.values(),
    *wording._SQUARED.values(),
    *wording._READING,
    *evidence._OUTLINES.values(),
    *outline.TEXTS.values(),
    *evidence._COUNTS[:1],
    *evidence._COUNTS[2:],
    *(text for texts in evidence._MISSING.values() for text in texts),
    *(text for label, meaning, *_ in evidence._MEASURES for text in (label, meaning)),
    *("Classifier", "Compare with", "Segmenter", "shipped", "from the command line", "none"),
    *("Report (PDF)", "Figure (PNG)", "Data (JSON)"),
    *("balanced accuracy", "macro AUROC", "mean Dice of the outlines", "melanoma sensitivity"),
    *("Largest diameter", "Number of colors", "Probability of malignancy", "Lesion area"),
)


def texts_of(argument: ast.expr, module: object) -> Iterator[str]:
    """Yield the texts of the first argument of `translate`, as far as they can be read."""
    match argument:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts_of(body, module)
            yield from texts_of(orelse, module)
        case ast.Name(id=name) if isinstance(getattr(module, name, None), str):
            yield getattr(module, name)


def texts_of_modules() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "translate"]
        if calls and path.name != "pages.py":
            module = importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
        for call in calls:
            assert not isinstance(call.args[0], ast.JoinedStr), f"{path.name}:{call.lineno} translates an f-string"
            yield from texts_of(call.args[0], module if path.name != "pages.py" else None)


def texts_of_templates() -> Iterator[str]:
    for path in PACKAGE.rglob("templates/*.html"):
        yield from re.findall(r'_\("([^"]+)"', path.read_text(encoding="utf-8"))


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def english_texts() -> set[str]:
    return {*TABLES, *texts_of_modules(), *texts_of_templates()}


def test_there_is_a_german_page() -> None:
    assert language_codes()[0] == ENGLISH
    assert {code: language_name(code) for code in ("en", "de")} == {"en": "English", "de": "Deutsch"}


@pytest.mark.parametrize("code", OTHERS)
def test_language_has_all_texts_and_no_others(code: str) -> None:
    texts, known = english_texts(), read_language(code)["texts"].keys()
    assert sorted(texts - known) == []
    assert sorted(known - texts) == []


@pytest.mark.parametrize("code", OTHERS)
def test_translations_have_the_placeholders_of_the_english_texts(code: str) -> None:
    wrong = {text: found for text, found in read_language(code)["texts"].items() if placeholders(text) != placeholders(found)}
    assert wrong == {}
    assert all(isinstance(found, str) and found.strip() for found in read_language(code)["texts"].values())


@pytest.mark.parametrize("code", OTHERS)
def test_language_has_the_sections_of_the_guide(code: str) -> None:
    english = (PACKAGE / "app" / "guide.md").read_text(encoding="utf-8")
    with in_language(code):
        translated = translated_document("guide", english)
    assert translated != english
    assert translated.count("\n## ") == english.count("\n## ")
    assert abs(translated.count("**") - english.count("**")) <= 4


def test_english_is_the_language_without_a_choice() -> None:
    assert current_language() == ENGLISH
    assert translate(DISCLAIMER) == DISCLAIMER
    use_language("xx")
    assert current_language() == ENGLISH


def test_results_are_described_in_german() -> None:
    with in_language("de"):
        assert name_with_code("mel") == "Melanom (mel)"
        assert percent(0.0123) == "1,2 %"
        assert localize_number("1,234.5 px") == "1.234,5 px"
        assert translate("a text that no file has") == "a text that no file has"
        assert name_with_code("red") == "red"  # a class of other models, not the color
    assert (name_with_code("mel"), percent(0.0123)) == ("melanoma (mel)", "1.2 %")


def test_language_belongs_to_its_thread() -> None:
    seen: list[str] = []
    with in_language("de"):
        thread = threading.Thread(target=lambda: seen.append(current_language()))
        thread.start()
        thread.join()
        seen.append(current_language())
    assert seen == [ENGLISH, "de"]
