"""Prediction sets of a card: older cards, section of the model card."""

from dataclasses import replace

import numpy as np
import pandas as pd

from segpipe.bundle.card import ClassifierBundle, ClassifierCard
from segpipe.bundle.card_file import SHIPPED, read_card
from segpipe.data.duplicates import hash_id
from segpipe.data.splits import read_split
from segpipe.metrics.conformal import ConformalSets
from segpipe.metrics.operating_points import ValidationProbs
from segpipe.release.card_tests import sets_text
from segpipe.release.export import upgrade_card


def test_older_card_gets_sets_with_the_lesions_of_the_split(classifier: ClassifierBundle) -> None:
    rng = np.random.default_rng(0)
    ids, labels = [f"image {number}" for number in range(140)], np.arange(140) % 7
    split = pd.DataFrame({"image_id": ids, "lesion_id": [f"lesion {number // 14}-{number % 7}" for number in range(140)]})
    validation = ValidationProbs.pack([*map(hash_id, ids)], labels, rng.dirichlet(np.ones(7), 140))
    card = replace(classifier.card, validation=validation)
    upgraded = upgrade_card(card, split, coverage=0.9)
    assert upgraded.conformal is not None and upgraded.validation is not None
    assert set(upgraded.conformal.images.values()) == {10}  # 20 photographs of each class, two a lesion
    assert replace(upgraded.validation, lesions="") == validation
    assert card.with_prediction_sets(0.9) == card  # the lesions are not known
    assert upgrade_card(upgraded, split, coverage=0.8) == upgraded
    assert upgrade_card(classifier.card, split, coverage=0.9) == classifier.card  # without validation probabilities


def test_shipped_card_has_lesions_for_its_sets() -> None:
    card = read_card(SHIPPED / "classifier", "classifier", ClassifierCard)
    sets = upgrade_card(card, read_split(SHIPPED / "split.csv"), coverage=0.9).conformal
    assert sets is not None and sets.coverage == 0.9
    assert sets.images == {"mel": 61, "nv": 540, "bcc": 33, "akiec": 22, "bkl": 72, "df": 7, "vasc": 9}
    assert sets.rare == ("df",)
    assert sets.thresholds["df"] == sets.thresholds["vasc"] < 1


def test_section_shows_thresholds_lesions_and_coverage() -> None:
    sets = ConformalSets(0.9, {"mel": 0.8766, "nv": 0.25, "df": 0.9643}, {"mel": 61, "nv": 1540, "df": 7})
    metric = {"value": 0.925, "low": 0.881, "high": 0.962}
    text = sets_text(
        sets, {"coverage_mel": metric, "set_size": {"value": 1.5, "low": None, "high": None}, "single_label": metric}
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert ["mel", "61", "0.1234", "0.925 (0.881 to 0.962)"] in rows
    assert ["nv", "1,540", "0.7500", ""] in rows
    assert "0.9," in text and "9 lesions" in text and "(df)" in text and "1.500" in text
    alone = sets_text(replace(sets, images=dict.fromkeys(sets.images, 9)), {})
    assert "(df)" not in alone and "1.500" not in alone
