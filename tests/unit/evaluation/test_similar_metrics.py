"""Fit of the index of similar cases, and metrics of the cases that a run found."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segpipe.bundle.card import ClassifierBundle
from segpipe.evaluation.similar import first_photographs, fit_similar, similar_metrics
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.evidence import SIMILAR_COLUMNS as COLUMNS
from segpipe.inference.evidence import Similar, SimilarCase
from segpipe.inference.similar import SimilarIndex
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.bootstrap import image_counts
from segpipe.metrics.classification import LabeledPredictions

ROWS = [  # true class, diagnoses of the cases, vote for nv, known
    ("nv", ["nv", "nv", "mel", "nv"], 0.9, False),
    ("nv", ["mel", "mel"], 0.3, True),
    ("mel", ["nv", "mel"], 0.4, False),
    ("mel", ["nv", "nv"], 0.2, False),
]


def results(rows: list[tuple[str, list[str], float, bool]]) -> tuple[pd.DataFrame, LabeledPredictions]:
    found = [
        Similar(tuple(SimilarCase("I", code, 0.1, "L") for code in codes), {"nv": nv, "mel": 1 - nv}, known).to_dict()
        for _, codes, nv, known in rows
    ]
    labels = np.array([["mel", "nv"].index(true) for true, *_ in rows])
    return pd.DataFrame(found), LabeledPredictions(np.full((len(rows), 2), 0.5), labels, ["mel", "nv"])


def test_metrics_of_cases_counted_by_hand() -> None:
    metrics = similar_metrics(*results(ROWS))
    assert metrics is not None
    values = metrics(image_counts(None, len(ROWS)))
    assert values["macro_auroc_vote"] == values["auroc_vote_nv"] == 0.75
    assert (values["among_similar_nv"], values["among_similar_mel"]) == (0.5, 0.5)
    assert (values["among_similar"], values["balanced_among_similar"]) == (0.5, 0.5)
    assert values["agreeing_similar"] == (0.75 + 0 + 0.5 + 0) / 4
    assert values["known_similar"] == 0.25
    of_first = metrics(np.array([3, 0, 0, 0]))
    assert (of_first["among_similar"], of_first["among_similar_mel"], of_first["balanced_among_similar"]) == (1, None, None)


def test_a_run_as_read_from_its_table_has_the_same_metrics(tmp_path: Path) -> None:
    table, predictions = results(ROWS)
    table.assign(similar_known=table["similar_known"].astype(str).str.lower()).to_csv(tmp_path / "results.csv", index=False)
    read = similar_metrics(pd.read_csv(tmp_path / "results.csv", keep_default_na=False), predictions)
    expected = similar_metrics(table, predictions)
    assert read is not None
    assert expected is not None
    assert read(image_counts(None, 4)) == expected(image_counts(None, 4))


def test_a_run_without_an_index_has_no_metrics() -> None:
    table, predictions = results(ROWS)
    assert similar_metrics(table.drop(columns=list(COLUMNS)), predictions) is None
    assert similar_metrics(table.assign(similar="", similar_vote="", similar_known=""), predictions) is None


@pytest.mark.parametrize("views", ["none", "d4"])
def test_training_images_are_known_and_find_other_lesions(views: str, classifier: ClassifierBundle, table: pd.DataFrame) -> None:
    localizer, network = Localizer(None, start=MaskSource.CONTOUR), TorchClassifier(classifier, "cpu")
    reference = fit_similar(localizer, network, table)
    index = SimilarIndex(reference, classifier.card.classes)
    assert reference.arrays["points"].shape[0] == len(first_photographs(table)) == table["lesion_id"].nunique()
    ensemble = ClassifierEnsemble([network], views=VIEWS[views], explained=None, batch_size=8)
    images = [read_image(Path(path)) for path in table["image_path"]]
    predictions = ensemble([ensemble.cut(*pair) for pair in zip(images, localizer(images), strict=True)])
    for row, prediction in zip(table.to_dict("records"), predictions, strict=True):
        found = index.find(prediction.features, image_id=row["image_id"])
        assert found.known
        assert found.cases
        assert row["lesion_id"] not in {case.lesion_id for case in found.cases}
