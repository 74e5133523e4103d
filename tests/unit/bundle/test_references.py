"""Tests of the reference data of a bundle."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.card_file import read_card
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.references import MAX_BYTES, Reference, encode_reference, read_reference
from segpipe.bundle.saving import save_bundle, save_graphs, save_reference
from segpipe.errors import BundleError
from segpipe.io.run_files import SIMILAR
from segpipe.lesion.crop import CropRule
from tests.tiny import tiny_classifier

REFERENCE = Reference({"points": np.arange(6, dtype=np.float16).reshape(2, 3)}, {"ids": ["a", "b"]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle = tiny_classifier("baseline_cnn", 32, sha256="", crop=CropRule())
    save_bundle(tmp_path / "bundle", bundle.model, bundle.card)
    save_reference(tmp_path / "bundle", SIMILAR, bundle.card, REFERENCE, images=2, source="tiny")
    return tmp_path / "bundle"


def card_of(folder: Path) -> ClassifierCard:
    return read_card(folder, "classifier", ClassifierCard)


def test_reference_data_come_back_as_they_were_saved(folder: Path) -> None:
    found = read_reference(folder, SIMILAR, card_of(folder))
    assert found is not None
    assert found.values == REFERENCE.values
    np.testing.assert_array_equal(found.arrays["points"], REFERENCE.arrays["points"])
    assert card_of(folder).references[SIMILAR].images == 2


def test_bundle_without_reference_data_gives_none(folder: Path) -> None:
    assert read_reference(folder, SIMILAR, replace(card_of(folder), references={})) is None


def test_equal_data_give_equal_files() -> None:
    assert encode_reference(REFERENCE) == encode_reference(REFERENCE)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content[:-1] + b"\x01", lambda _: b""])
def test_changed_file_is_refused(folder: Path, change: Callable[[bytes], bytes]) -> None:
    path = folder / SIMILAR
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=r"similar\.safetensors must have the SHA-256"):
        read_reference(folder, SIMILAR, card_of(folder))


def test_missing_file_is_refused(folder: Path) -> None:
    (folder / SIMILAR).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        read_reference(folder, SIMILAR, card_of(folder))


def test_reference_data_stay_with_equal_weights_and_go_with_others(folder: Path) -> None:
    loaded = load_classifier(folder)
    save_bundle(folder, loaded.model, loaded.card)
    assert read_reference(folder, SIMILAR, card_of(folder)) is not None
    with torch.no_grad():
        loaded.model.linear.bias.add_(1)
    save_bundle(folder, loaded.model, loaded.card)
    assert card_of(folder).references == {}
    assert not (folder / SIMILAR).exists()


def test_data_that_cannot_be_read_again_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="points must be finite"):
        encode_reference(Reference({"points": np.array([np.nan])}, {}))
    with pytest.raises(ValueError, match="at most"):
        encode_reference(Reference({"points": np.zeros(MAX_BYTES)}, {}))


def test_unfit_data_are_dropped_with_their_record_where_graphs_are_added(folder: Path) -> None:
    (folder / SIMILAR).write_bytes(b"damaged")
    save_graphs(folder, card_of(folder), {})
    assert card_of(folder).references == {}
    assert not (folder / SIMILAR).exists()
