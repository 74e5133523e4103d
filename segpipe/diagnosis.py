"""The seven diagnoses of HAM10000: code, full name, malignant or not, in one fixed order."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """One class of lesion.

    Attributes:
        code: the lower-case code of the HAM10000 metadata, `dx`.
        name: what a clinician calls it.
        malignant: melanoma, basal cell carcinoma, and actinic keratosis with its intraepithelial carcinoma.
    """

    code: str
    name: str
    malignant: bool


# The order is that of the ISIC 2018 Task 3 table (MEL, NV, BCC, AKIEC, BKL, DF, VASC).
DIAGNOSES: tuple[Diagnosis, ...] = (
    Diagnosis("mel", "melanoma", True),
    Diagnosis("nv", "melanocytic nevus", False),
    Diagnosis("bcc", "basal cell carcinoma", True),
    Diagnosis("akiec", "actinic keratosis / intraepithelial carcinoma", True),
    Diagnosis("bkl", "benign keratosis", False),
    Diagnosis("df", "dermatofibroma", False),
    Diagnosis("vasc", "vascular lesion", False),
)
CODES: tuple[str, ...] = tuple(diagnosis.code for diagnosis in DIAGNOSES)
MALIGNANT_CODES: tuple[str, ...] = tuple(diagnosis.code for diagnosis in DIAGNOSES if diagnosis.malignant)
_NAMES = {diagnosis.code: diagnosis.name for diagnosis in DIAGNOSES}


def class_code(label: str) -> str:
    """The code of a label: the seven diagnoses are known in any case, another class is spelt as it is."""
    return label.lower() if label.lower() in CODES else label


def full_name(code: str) -> str:
    """The clinical name of a class; a class from outside HAM10000 is its own name."""
    return _NAMES.get(code, code)
