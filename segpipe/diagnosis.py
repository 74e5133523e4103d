"""The diagnoses of HAM10000 and ISIC 2019: code, full name, malignant or not, in one fixed order."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """One class of lesion.

    Attributes:
        code: in lower case, as the HAM10000 metadata (`dx`) or the table of ISIC 2019 calls it.
        name: what a clinician calls it.
        malignant: melanoma, basal and squamous cell carcinoma, and actinic keratosis. The last is a forerunner of squamous cell
            carcinoma rather than one, but HAM10000 pools it with intraepithelial carcinoma in `akiec`, as non-invasive variants
            of it (doi:10.1038/sdata.2018.161). So the `ak` of ISIC 2019 counts likewise: of the same lesion, two models would
            otherwise mean two things by malignant.
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

# Of HAM10000 and of ISIC 2019, in the order of their tables: `DIAGNOSES` keeps both.
CODES: tuple[str, ...] = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")
ISIC_2019_CODES: tuple[str, ...] = ("mel", "nv", "bcc", "ak", "bkl", "df", "vasc", "scc")
MALIGNANT_CODES: tuple[str, ...] = tuple(code for code in CODES if _KNOWN[code].malignant)


# Classes by their names, of data sets that know no more; their order is that of the names.
MALIGNANT = "malignant"
BENIGN_AND_MALIGNANT = ("benign", MALIGNANT)


LONGEST_CLASS_NAME = 64  # characters
# What can stand in a column's name, a command line, a file and a page without quotes or escapes.
_CLASS_NAME = re.compile(r"\w([\w .()+&-]*[\w.()+-])?")
# `sensitivity_flagged` is a metric of its own, `predicted` a word of `explain.diagnosis`.
_RESERVED = frozenset({"flagged", "predicted"})


def check_class_name(name: str) -> None:
    """Check that a name can be that of a class, of a data set and of a bundle alike.

    Args:
        name: of the class.

    Raises:
        ValueError: it is empty or too long, not in the normal form NFC, holds a character that is no letter, mark, digit, blank
            or one of `_.()+&-`, begins with none of a letter, a digit and `_`, ends with a blank or `&`, or is reserved.
    """
    # A mark belongs to the letter before it, so it may stand wherever a dot may, but not first.
    shape = "".join("." if unicodedata.category(char)[0] == "M" else char for char in name)
    fits = _CLASS_NAME.fullmatch(shape) and len(name) <= LONGEST_CLASS_NAME and unicodedata.is_normalized("NFC", name)
    if not fits or name in _RESERVED:
        raise ValueError(
            f"a class must have a name of letters, digits, blanks and _.()+&- in Unicode's form NFC, of at most "
            f"{LONGEST_CLASS_NAME} characters, that is none of {', '.join(sorted(_RESERVED))}, which the results use for "
            f"something else, got {name[: 2 * LONGEST_CLASS_NAME]!r}; rename it"
        )


def in_order(codes: Iterable[str]) -> tuple[str, ...]:
    """Classes in the order of `DIAGNOSES` where all of them are known, else by name; each once."""
    known, given = list(_KNOWN), set(codes)
    return tuple(sorted(given, key=known.index if given <= _KNOWN.keys() else None))


def known_malignant(codes: Iterable[str]) -> tuple[str, ...]:
    """Those of some classes that are known to be malignant, in the order in which they came."""
    return tuple(code for code in codes if code in _KNOWN and _KNOWN[code].malignant)


def is_known(code: str) -> bool:
    """Whether a class is one of `DIAGNOSES`."""
    return code in _KNOWN


def class_code(label: str) -> str:
    """The code of a label: the known diagnoses, `benign` and `malignant` in any case; another class is spelt as it is."""
    return label.lower() if label.lower() in (*_KNOWN, *BENIGN_AND_MALIGNANT) else label


def full_name(code: str) -> str:
    """The clinical name of a class; a class that is not known is its own name."""
    return _KNOWN[code].name if code in _KNOWN else code
