"""The diagnoses of HAM10000 and ISIC 2019: code, full name, malignant or not, in one fixed order."""

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
