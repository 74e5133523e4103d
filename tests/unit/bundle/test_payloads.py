"""Pickled payloads as checkpoints, weights, caches and records: refused, never run."""

import io
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution

from hydra_plugins.segpipe_optuna import OptunaSweeper
from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.data.cache import StoredExamples
from segpipe.errors import BundleError, ConfigError, OutputError, TrainingError
from segpipe.io.run_files import CARD, JOB_RECORD, JOURNAL, WEIGHTS
from segpipe.runs.journal import Journal
from segpipe.sweep.record import read_record, read_records
from segpipe.training.fit import _finish
from segpipe.training.resuming import WholeCheckpoints, read_checkpoint
from segpipe.training.starting_weights import load_starting_weights

CANARY = "canary"
WHOLE = {"epoch": 1, "global_step": 3, "state_dict": {"w": torch.ones(50)}}


class Payload:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (CANARY, "w")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty working directory, without a payload's file at the end."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not Path(CANARY).exists()


def saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


LEGACY = {"_use_new_zipfile_serialization": False}
PAYLOADS: dict[str, Callable[[], bytes]] = {
    "pickle": lambda: pickle.dumps(Payload()),
    "old pickle": lambda: pickle.dumps({"epoch": Payload()}, protocol=0),
    "torch": lambda: saved(Payload()),
    "torch, beside a whole checkpoint": lambda: saved({**WHOLE, "hyper_parameters": Payload()}),
    "torch, among the tensors": lambda: saved({**WHOLE, "state_dict": {"w": Payload()}}),
    "torch, as a key": lambda: saved({**WHOLE, "callbacks": {"best": [Payload()]}}),
    "old torch": lambda: saved({**WHOLE, "x": Payload()}, **LEGACY),
    "numpy": lambda: npy(np.array([Payload()], dtype=object)),
}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_payload_creates_its_file() -> None:
    pickle.loads(PAYLOADS["pickle"]())
    Path(CANARY).unlink()
    torch.load(io.BytesIO(PAYLOADS["torch"]()), weights_only=False)
    Path(CANARY).unlink()


@pytest.mark.parametrize("kind", PAYLOADS)
def test_payload_is_refused_as_checkpoint(kind: str) -> None:
    path = Path("last.ckpt")
    path.write_bytes(PAYLOADS[kind]())
    with pytest.raises(ConfigError, match="must be a checkpoint of a training"):
        read_checkpoint(path)
    for given in ({}, {"weights_only": None}, {"weights_only": False}):
        with pytest.raises(Exception, match=r"(?i)weights.only|unpickl|invalid|magic"):
            WholeCheckpoints().load_checkpoint(path, **given)


@pytest.mark.parametrize("kind", ["pickle", "torch, beside a whole checkpoint"])
def test_replaced_best_weights_are_refused(kind: str) -> None:
    Path("checkpoints").mkdir()
    Path("checkpoints", "last.ckpt").write_bytes(saved(WHOLE))
    Path("checkpoints", "best.ckpt").write_bytes(PAYLOADS[kind]())
    with pytest.raises((ConfigError, TrainingError), match=r"best\.ckpt"):
        _finish(None, Path("checkpoints"))  # type: ignore[arg-type]


@pytest.mark.parametrize("base", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_checkpoint_gives_one_clear_error(base: dict[str, Any]) -> None:
    rng, whole, path = random.Random(0), saved(WHOLE, **base), Path("last.ckpt")
    for number in range(150):
        content = bytearray(whole[: rng.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(min(len(content), 3)):
            content[rng.randrange(min(len(content), 1200))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            assert {"epoch", "state_dict"} <= set(read_checkpoint(path))
        except ConfigError as refused:
            assert "\n" not in str(refused)


@pytest.mark.parametrize("content", [None, [], 5, "text", torch.ones(3), {"epoch": 1}, {"state_dict": {}}], ids=repr)
def test_other_content_is_refused_as_checkpoint(content: Any) -> None:
    Path("last.ckpt").write_bytes(saved(content))
    with pytest.raises(ConfigError, match="must be a checkpoint of a training"):
        read_checkpoint(Path("last.ckpt"))


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.bin", "model.safetensors", "weights"])
@pytest.mark.parametrize("kind", PAYLOADS)
def test_payload_is_refused_as_starting_weights(name: str, kind: str) -> None:
    Path(name).write_bytes(PAYLOADS[kind]())
    with pytest.raises(ConfigError, match="init must be random, imagenet or a safetensors file"):
        load_starting_weights(torch.nn.Linear(2, 2), name="x", init=name, fetch=lambda: torch.nn.Linear(2, 2))


@pytest.mark.parametrize("kind", PAYLOADS)
def test_payload_is_refused_as_bundle(kind: str, classifier: ClassifierBundle) -> None:
    save_bundle(Path("bundle"), classifier.model, classifier.card)
    Path("bundle", WEIGHTS).write_bytes(PAYLOADS[kind]())
    with pytest.raises(BundleError, match="damaged or no safetensors file"):
        load_classifier(Path("bundle"))


@pytest.mark.parametrize("kind", PAYLOADS)
def test_payload_is_refused_as_cache_entry(kind: str) -> None:
    Path("entry").mkdir()
    Path("entry", "image.npy").write_bytes(PAYLOADS[kind]())
    with pytest.raises(OutputError, match=r"data\.cache holds a damaged entry"):
        StoredExamples(Path("entry"), ["image"])


NO_RECORDS = (b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"status": "finished"}', b'{"status": [1], "settings": 2}', b"[" * 3000)


@pytest.mark.parametrize("content", [pickle.dumps(Payload()), *NO_RECORDS], ids=range(1 + len(NO_RECORDS)))
def test_payload_is_refused_as_sweep_record(content: bytes) -> None:
    Path("job").mkdir()
    Path("job", JOB_RECORD).write_bytes(content)
    for read in (lambda: read_record(Path("job")), lambda: read_records(Path())):
        with pytest.raises(OutputError, match=r"job\.json must be the record of a training"):
            read()


def test_deeply_nested_card_is_refused(classifier: ClassifierBundle) -> None:
    save_bundle(Path("bundle"), classifier.model, classifier.card)
    Path("bundle", CARD).write_text("[" * 100_000)
    with pytest.raises(BundleError, match="damaged"):
        load_classifier(Path("bundle"))


@pytest.mark.parametrize("content", [pickle.dumps(Payload()), b"{}\n", b"[]\n", b'{"op_code": 99}\n', b"\x80\n"], ids=range(5))
def test_payload_is_refused_as_search_journal(content: bytes) -> None:
    storage = Path("optuna.journal")
    storage.write_bytes(content)
    sweeper = OptunaSweeper(1, 1, str(storage), 0, {})
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.storage must be a journal"):
        sweeper._open_study({"seed": FloatDistribution(0, 1)}, [])


@pytest.mark.parametrize(
    "content", [pickle.dumps(Payload()), pickle.dumps(Payload(), protocol=0), b"[" * 9999 + b"\n"], ids=range(3)
)
def test_payload_is_refused_as_run_journal(content: bytes) -> None:
    Path(JOURNAL).write_bytes(content)
    assert Journal(Path(), "key").read() == {}
