"""Folders given as a URL."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import Script, results


def test_url_gives_the_results_of_the_folder(pipeline: Script, photos: Path) -> None:
    for output, folder in (("by path", f"{photos}/images"), ("by url", f"file://{photos}/images")):
        ended = pipeline(folder=folder, output=output)
        assert ended.status == 0, ended.err
    here, there = (results(Path(output)).drop(columns="latency_ms") for output in ("by path", "by url"))
    pd.testing.assert_frame_equal(there, here, atol=1e-6, rtol=0)
    for mask in Path("by path/masks").rglob("*.png"):
        assert (Path("by url") / mask.relative_to("by path")).read_bytes() == mask.read_bytes()


def test_bad_object_is_a_failure_and_the_others_have_results(pipeline: Script, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a b,[c]"
    folder.mkdir()
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "empty.png").touch()
    (folder / "good.jpg").write_bytes((photos / "images" / "a.jpg").read_bytes())
    ended = pipeline(folder=f"file://{folder}")
    assert ended.status == 1
    assert list(results(Path("out"))["path"]) == ["good.jpg"]
    failures = pd.read_csv("out/failures.csv", index_col="path")["reason"]
    assert failures["bad.jpg"].startswith("not an image")
    assert failures["empty.png"] == "an empty file (0 bytes)"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("nonsense://bucket/photos", "nonsense://bucket/photos: cannot be listed (Protocol not known: nonsense)"),
        ("file:///no/such folder", "file:///no/such folder: no such folder"),
        ("memory://no-such-bucket", "memory://no-such-bucket: no such folder"),
    ],
)
def test_unreachable_folder_is_one_line(pipeline: Script, folder: str, reason: str) -> None:
    ended = pipeline(folder=folder)
    assert (ended.status, ended.error, Path("out").exists()) == (2, reason, False)
