"""Results of passes over files: computed once for each version of a file."""

import os
from pathlib import Path

import pytest

from segpipe.data import check, duplicates, leaks, masks
from segpipe.data.loaders import load_ham10000
from segpipe.data.splits import PARTS, make_split
from segpipe.io.passes import keep, keeping_results, pass_over


class Counting:
    """Function of a path that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str | None] = []

    def __call__(self, path: str | None) -> str:
        self.calls.append(path)
        return "none" if path is None else Path(path).read_text()


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[str | None, ...]]:
    for name in "abc":
        (tmp_path / name).write_text(name)
    return [(str(tmp_path / name),) for name in "abc"]


def run(files: list[tuple[str | None, ...]], cache: Path | None) -> tuple[list[str], int]:
    compute = Counting()
    with keeping_results(None if cache is None else str(cache)):
        return pass_over("test", files, compute, what="testing"), len(compute.calls)


def test_second_pass_computes_nothing(files: list, tmp_path: Path) -> None:
    assert run(files, tmp_path / "cache") == (["a", "b", "c"], 3)
    assert run(files[::-1], tmp_path / "cache") == (["c", "b", "a"], 0)
    assert run([*files, (None,)], tmp_path / "cache") == (["a", "b", "c", "none"], 1)


def test_changed_file_is_computed_again_even_with_its_old_time(files: list, tmp_path: Path) -> None:
    run(files, tmp_path / "cache")
    path = tmp_path / "b"
    before = path.stat()
    path.write_text("x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(files, tmp_path / "cache") == (["a", "x", "c"], 1)


def test_none_is_computed_again(files: list, tmp_path: Path) -> None:
    with keeping_results(str(tmp_path / "cache")):
        assert pass_over("test", files, lambda _: None, what="testing") == [None, None, None]
    assert run(files, tmp_path / "cache") == (["a", "b", "c"], 3)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 0, "results": {}}', "\x00"])
def test_damaged_or_old_results_are_computed_again(files: list, tmp_path: Path, content: str) -> None:
    run(files, tmp_path / "cache")
    (tmp_path / "cache" / "test.json").write_text(content)
    assert run(files, tmp_path / "cache") == (["a", "b", "c"], 3)
    assert run(files, tmp_path / "cache")[1] == 0


def test_without_a_folder_nothing_is_kept(files: list, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(files, None)[1] == run(files, None)[1] == 3
    assert keep("test", lambda: "key", lambda: 1) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_that_cannot_be_written_costs_only_time(files: list, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(files, tmp_path / "file" / "cache") == (["a", "b", "c"], 3)


def test_second_training_on_the_same_data_reads_no_image(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def passes() -> tuple[object, object]:
        duplicates._HASHES.clear()
        with keeping_results(str(tmp_path / "cache")):
            dataset = load_ham10000(str(synthetic_root))
            split = make_split(dataset.table, seed=0)
            table = dataset.table.merge(split[["image_id", "part"]], on="image_id")
            hashes = duplicates.hash_files(table["image_path"])
            return hashes, leaks.find_leaks(table[table["part"].isin(PARTS)])

    first = passes()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a file is read again")

    monkeypatch.setattr(check, "read_image", fail)
    monkeypatch.setattr(masks, "read_mask", fail)
    monkeypatch.setattr(leaks, "read_thumbnail", fail)
    monkeypatch.setattr(duplicates, "hash_file", fail)
    assert passes() == first
