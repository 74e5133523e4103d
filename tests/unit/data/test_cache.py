"""Cache of decoded examples: bit-exact, written once and atomically, with clear disk errors."""

import io
import os
import pickle
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from segpipe.bundle.card import ClassifierBundle
from segpipe.data.cache import StoredExamples, entry_name, open_examples
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import CropDataset, CropDecoding, Draw, MaskDataset, MaskDecoding
from segpipe.data.loaders import load_ham10000
from segpipe.diagnosis import CODES
from segpipe.errors import ImageError, OutputError
from segpipe.inference.stages import Classifier
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image, read_mask
from segpipe.lesion.crop import CropRule
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.models.preprocessing import InputSpec
from segpipe.types import mask_box

SIZE = 32
RULES = (
    *(CropRule(), CropRule(margin_fraction=0.0), CropRule(whole_image=True), CropRule(keep_background=False)),
    CropRule(margin_fraction=1.0, border="reflect"),
)
DECODINGS = (MaskDecoding(SIZE), *(CropDecoding(SIZE, rule) for rule in RULES))
FORK = get_context("fork")  # starts fast, without importing everything again


@pytest.fixture(scope="module")
def table(synthetic_root: Path) -> pd.DataFrame:
    return load_ham10000(str(synthetic_root)).table


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@dataclass(frozen=True)
class LoggedDecoding:
    """Decoding of the number in a file, slow, with a log of all calls."""

    journal: Path
    seconds: float = 0.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"number": (1,), "twice": ()}

    def __call__(self, image_path: str, _: str | None) -> tuple[np.ndarray, ...]:
        time.sleep(self.seconds)
        with self.journal.open("a") as journal:
            journal.write("decoded\n")
        number = np.uint8(Path(image_path).read_text())
        return np.array([number]), np.array(2 * number, np.uint8)

    @property
    def times(self) -> int:
        return len(self.journal.read_text().splitlines())


@pytest.fixture
def numbers(tmp_path: Path) -> pd.DataFrame:
    """Write eight files with one number each."""
    paths = [tmp_path / f"{number}.txt" for number in range(8)]
    for number, path in enumerate(paths):
        path.write_text(str(number))
    return pd.DataFrame({"image_id": [path.stem for path in paths], "image_path": list(map(str, paths)), "mask_path": None})


def values(examples: object) -> list[tuple[int, int]]:
    return [(int(number[0]), int(twice)) for number, twice in (examples[index] for index in range(len(examples)))]


NUMBERS = [(number, 2 * number) for number in range(8)]


@pytest.mark.parametrize(
    ("decoding", "with_masks"),
    [*((decoding, True) for decoding in DECODINGS), *((decoding, False) for decoding in DECODINGS[1:])],
)
def test_stored_examples_equal_decoded_ones_bit_by_bit(
    table: pd.DataFrame, cache: Path, decoding: MaskDecoding | CropDecoding, with_masks: bool
) -> None:
    rows = table if with_masks else table.assign(mask_path=None)
    decoded, stored = open_examples(rows, decoding, cache=None), open_examples(rows, decoding, cache=str(cache))
    assert isinstance(stored, StoredExamples)
    assert len(decoded) == len(stored) == len(table)
    for index in range(len(table)):
        for first, second, shape in zip(decoded[index], stored[index], decoding.shapes.values(), strict=True):
            assert first.dtype == second.dtype == np.uint8
            assert first.shape == shape
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("rule", RULES)
def test_stored_crop_equals_the_crop_of_inference(
    table: pd.DataFrame, cache: Path, classifier: ClassifierBundle, rule: CropRule
) -> None:
    bundle = replace(classifier, card=replace(classifier.card, crop=rule, input=InputSpec(SIZE)))
    network = Classifier(TorchClassifier(bundle, "cpu"), views=VIEWS["none"], batch_size=1)
    examples = CropDataset(table, classes=CODES, rule=rule, size=SIZE, cache=str(cache))
    for index in range(len(table)):
        image, mask = read_image(Path(table["image_path"][index])), read_mask(Path(table["mask_path"][index]))
        (crop,) = network.cut(image, Localization(mask, mask_box(mask), MaskSource.UNET, ()))
        pixels, _ = examples[Draw(index, 0)]
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), crop.pixels)


def test_data_sets_are_the_same_with_and_without_a_cache(table: pd.DataFrame, cache: Path) -> None:
    plain, cached = (MaskDataset(table, size=SIZE, cache=folder) for folder in (None, str(cache)))
    for index in range(len(table)):
        assert all(map(torch.equal, plain[Draw(index, 0)], cached[Draw(index, 0)]))


def test_examples_are_decoded_once_with_a_cache(numbers: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    decoding = LoggedDecoding(tmp_path / "journal")
    for _ in range(3):
        assert values(open_examples(numbers, decoding, cache=str(cache))) == NUMBERS
    assert decoding.times == len(numbers)
    examples = open_examples(numbers, decoding, cache=None)
    assert decoding.times == len(numbers)
    assert values(examples) == values(examples) == NUMBERS
    assert decoding.times == 3 * len(numbers)


def test_entry_name_depends_on_everything_that_affects_the_arrays(table: pd.DataFrame) -> None:
    def name(rows: pd.DataFrame, decoding: object) -> str:
        return entry_name(rows["image_id"], list(zip(rows["image_path"], rows["mask_path"], strict=True)), decoding)

    rules = [replace(rule, margin_fraction=0.5) for rule in RULES]
    decodings = [*DECODINGS, MaskDecoding(64), CropDecoding(64, RULES[0]), *(CropDecoding(SIZE, rule) for rule in rules)]
    changed = [table.head(5), table.iloc[::-1], table.assign(mask_path=None), table.assign(image_id="x")]
    names = [name(table, decoding) for decoding in decodings] + [name(rows, DECODINGS[0]) for rows in changed]
    assert len(set(names)) == len(set(decodings)) + len(changed)
    assert names[0] == name(table.copy(), MaskDecoding(SIZE))


@pytest.mark.parametrize("column", ["image_path", "mask_path"])
def test_changed_file_is_decoded_again(table: pd.DataFrame, cache: Path, tmp_path: Path, column: str) -> None:
    copies = [shutil.copy2(path, tmp_path) for path in table[column]]
    rows = table.assign(**{column: copies})
    old = open_examples(rows, DECODINGS[0], cache=str(cache))
    status = os.stat(copies[3])
    shutil.copyfile(copies[4], copies[3])
    os.utime(copies[3], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    new = open_examples(rows, DECODINGS[0], cache=str(cache))
    changed = [not all(map(np.array_equal, old[index], new[index])) for index in range(len(rows))]
    assert np.flatnonzero(changed).tolist() == [3]


def test_equal_files_share_an_entry_regardless_of_path_and_time(table: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    for number, folder in enumerate(("first", "second")):  # like the masks found by two equal trainings
        (tmp_path / folder).mkdir()
        copies = [shutil.copyfile(path, tmp_path / folder / Path(path).name) for path in table["mask_path"]]
        for copy in copies:
            os.utime(copy, (number, number))
        open_examples(table.assign(mask_path=[str(copy) for copy in copies]), DECODINGS[1], cache=str(cache))
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_concurrent_jobs_decode_once(numbers: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    decoding = LoggedDecoding(tmp_path / "journal", seconds=0.1)

    def job() -> None:
        assert values(open_examples(numbers, decoding, cache=str(cache))) == NUMBERS

    jobs = [FORK.Process(target=job) for _ in range(3)]
    for process in jobs:
        process.start()
    for process in jobs:
        process.join(30)
    assert [process.exitcode for process in jobs] == [0, 0, 0]
    assert decoding.times == len(numbers)


def test_killed_job_leaves_no_entry(numbers: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    decoding = LoggedDecoding(tmp_path / "journal", seconds=0.2)
    decoding.journal.touch()
    job = FORK.Process(target=open_examples, args=(numbers, decoding), kwargs={"cache": str(cache)})
    job.start()
    while not decoding.times:
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    job.join(30)
    assert decoding.times < len(numbers)
    assert [path for path in cache.iterdir() if path.is_dir() and path.suffix != ".part"] == []
    before = decoding.times
    assert values(open_examples(numbers, decoding, cache=str(cache))) == NUMBERS
    assert decoding.times == before + len(numbers)
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [""]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Redirect all writes to a full device."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda _, mode: io.BufferedWriter(io.FileIO("/dev/full", mode)))
        yield


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("decoding", DECODINGS[:2], ids=repr)
def test_full_disk_is_a_one_line_error_and_leaves_no_files(table: pd.DataFrame, cache: Path, decoding: object) -> None:
    reason = r"^data.cache must be a folder to write \d+ MB into, got .*: No space left on device; .* data.cache=null$"
    with pytest.raises(OutputError, match=reason):
        open_examples(table, decoding, cache=str(cache))
    assert [path for path in cache.rglob("*") if path.suffix != ".lock"] == []


def test_cache_folder_that_cannot_be_created_is_a_one_line_error(numbers: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^data.cache must be a folder .*file/cache: Not a directory; .* data.cache=null$"):
        open_examples(numbers, LoggedDecoding(tmp_path / "journal"), cache=str(tmp_path / "file" / "cache"))


def test_undecodable_image_is_named_and_leaves_no_entry(table: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    rows = table.assign(image_path=[*table["image_path"][1:], str(tmp_path / "broken.jpg")])
    with pytest.raises(ImageError, match=r"broken.jpg: not an image"):
        open_examples(rows, DECODINGS[1], cache=str(cache))
    with pytest.raises(ImageError, match=r"absent.jpg: no such file"):
        open_examples(table.assign(image_path=str(tmp_path / "absent.jpg")), DECODINGS[1], cache=str(cache))
    assert [path for path in cache.rglob("*") if path.suffix != ".lock"] == []


def test_damaged_entry_is_named(numbers: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    decoding = LoggedDecoding(tmp_path / "journal")
    open_examples(numbers, decoding, cache=str(cache))
    (array,) = cache.glob("*/number.npy")
    os.truncate(array, array.stat().st_size - 1)
    with pytest.raises(OutputError, match=f"^data.cache holds a damaged entry, {array.parent} .* delete that folder"):
        open_examples(numbers, decoding, cache=str(cache))


def test_changes_of_returned_arrays_do_not_affect_the_entry(numbers: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    examples = open_examples(numbers, LoggedDecoding(tmp_path / "journal"), cache=str(cache))
    examples[3][0][:] = 77
    assert values(examples) == NUMBERS


def test_pickled_examples_hold_paths_not_pixels(table: pd.DataFrame, cache: Path) -> None:
    examples = CropDataset(table, classes=CODES, rule=RULES[0], size=256, cache=str(cache))
    sent = pickle.dumps(examples)
    assert len(sent) < 5000
    copy = pickle.loads(sent)
    assert all(torch.equal(examples[Draw(index, 0)][0], copy[Draw(index, 0)][0]) for index in range(len(table)))


def test_workers_read_the_same_batches(table: pd.DataFrame, cache: Path) -> None:
    examples = CropDataset(table, classes=CODES, rule=RULES[0], size=SIZE, cache=str(cache))
    alone, aided = (
        list(SeededDataModule(examples, examples, batch_size=8, workers=workers, seed=0).train_dataloader()) for workers in (0, 2)
    )
    assert len(alone) == len(aided) > 1
    for first, second in zip(alone, aided, strict=True):
        assert all(map(torch.equal, first, second))
