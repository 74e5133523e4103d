"""Diagnoses of HAM10000 and ISIC 2019: code, full name and malignancy."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """One class of lesions.

    Attributes:
        code: Lowercase code, as in the HAM10000 metadata (`dx`) or the ISIC 2019 table.
        name: Clinical name.
        malignant: True for melanoma, basal and squamous cell carcinoma, and actinic keratosis. Actinic keratosis is a precursor
            of squamous cell carcinoma, but HAM10000 pools it with intraepithelial carcinoma in `akiec`, as non-invasive variants
            (doi:10.1038/sdata.2018.161). The `ak` of ISIC 2019 counts likewise, so that "malignant" means the same for models of
            both data sets.
    """

    code: str
    name: str
    malignant: bool


DIAGNOSES: tuple[Diagnosis, ...] = (
    Diagnosis("mel", "melanoma", True),
    Diagnosis("nv", "melanocytic nevus", False),
    Diagnosis("bcc", "basal cell carcinoma", True),
    Diagnosis("ak", "actinic keratosis", True),
    Diagnosis("akiec", "actinic keratosis / intraepithelial carcinoma", True),
    Diagnosis("bkl", "benign keratosis", False),
    Diagnosis("df", "dermatofibroma", False),
    Diagnosis("vasc", "vascular lesion", False),
    Diagnosis("scc", "squamous cell carcinoma", True),
)
_KNOWN = {diagnosis.code: diagnosis for diagnosis in DIAGNOSES}

# Classes of HAM10000 and ISIC 2019 in the order of their tables, which `DIAGNOSES` keeps for both.
CODES: tuple[str, ...] = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")
ISIC_2019_CODES: tuple[str, ...] = ("mel", "nv", "bcc", "ak", "bkl", "df", "vasc", "scc")
MALIGNANT_CODES: tuple[str, ...] = tuple(code for code in CODES if _KNOWN[code].malignant)


# Classes of data sets that distinguish no diagnoses, in alphabetical order.
MALIGNANT = "malignant"
BENIGN_AND_MALIGNANT = ("benign", MALIGNANT)


LONGEST_CLASS_NAME = 64  # characters
# Characters that need no quotes or escapes in column names, command lines, file names and pages.
_CLASS_NAME = re.compile(r"\w([\w .()+&-]*[\w.()+-])?")
# `sensitivity_flagged` is a metric, `predicted` a value of `explain.diagnosis`.
_RESERVED = frozenset({"flagged", "predicted"})


def check_class_name(name: str) -> None:
    """Check that a name may be used as a class.

    Args:
        name: Name of the class.

    Raises:
        ValueError: The name is empty, too long, reserved or not in normal form NFC; holds a character other than letters, marks,
            digits, spaces and `_.()+&-`; begins with none of a letter, a digit and `_`; or ends with a space or `&`.
    """
    # A mark belongs to the letter before it, so it may stand wherever a dot may, but not first.
    shape = "".join("." if unicodedata.category(char)[0] == "M" else char for char in name)
    fits = _CLASS_NAME.fullmatch(shape) and len(name) <= LONGEST_CLASS_NAME and unicodedata.is_normalized("NFC", name)
    if not fits or name in _RESERVED:
        raise ValueError(
            f"a class must have a name of letters, digits, spaces and _.()+&- in Unicode form NFC, of at most "
            f"{LONGEST_CLASS_NAME} characters, other than {', '.join(sorted(_RESERVED))}, which the results use for "
            f"something else, got {name[: 2 * LONGEST_CLASS_NAME]!r}; rename it"
        )


def in_order(codes: Iterable[str]) -> tuple[str, ...]:
    """Sort unique classes as in `DIAGNOSES`; by name unless all are known."""
    known, given = list(_KNOWN), set(codes)
    return tuple(sorted(given, key=known.index if given <= _KNOWN.keys() else None))


def known_malignant(codes: Iterable[str]) -> tuple[str, ...]:
    """Select the known malignant classes, in their given order."""
    return tuple(code for code in codes if code in _KNOWN and _KNOWN[code].malignant)


def is_known(code: str) -> bool:
    """Return True for a class of `DIAGNOSES`."""
    return code in _KNOWN


def class_code(label: str) -> str:
    """Convert a label to a class code.

    Known diagnoses, `benign` and `malignant` become lowercase; other labels stay unchanged.
    """
    return label.lower() if label.lower() in (*_KNOWN, *BENIGN_AND_MALIGNANT) else label


def full_name(code: str) -> str:
    """Return the clinical name of a class, or its code if unknown."""
    return _KNOWN[code].name if code in _KNOWN else code
