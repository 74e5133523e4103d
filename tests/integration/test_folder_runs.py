"""Runs over folders: bad files, killed processes, locked outputs."""

import csv
import json
import multiprocessing
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Script, Trained, call, read_json
from filelock import FileLock
from PIL import Image

from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES

SIZE = (60, 80)


def draw(folder: Path, names: list[str], seed: int = 0) -> None:
    """Write different photographs with these names."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(names):
        path = folder / os.fsdecode(name) if isinstance(name, bytes) else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            Image.fromarray(make_image(CODES[number % 7], rng, SIZE)[0]).save(file, "JPEG")


def rows(output: Path) -> list[dict[str, str]]:
    """Read the rows of results.csv without `latency_ms`."""
    with (output / "results.csv").open(encoding="utf-8", newline="") as file:
        return [{name: value for name, value in row.items() if name != "latency_ms"} for row in csv.DictReader(file)]


def journal_lines(output: Path) -> list[bytes]:
    path = output / "results.jsonl"
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("image,label\n"),
    "html": lambda path: path.write_text("<!doctype html><title>404</title>"),
    "truncated": lambda path: path.write_bytes(PHOTO[: len(PHOTO) * 2 // 3]),
    "folder": lambda path: path.mkdir(),
    "broken link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "pipe": os.mkfifo,
    "headerless": lambda path: path.write_bytes(PHOTO[20:]),
    "pdf": lambda path: path.write_bytes(b"%PDF-1.7\n" + bytes(100)),
}
PHOTO = b""


@pytest.fixture
def photo_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    draw(tmp_path, ["photo.jpg"], seed=3)
    content = (tmp_path / "photo.jpg").read_bytes()
    monkeypatch.setitem(globals(), "PHOTO", content)
    return content


@pytest.mark.usefixtures("photo_bytes")
def test_bad_files_are_listed_and_the_other_images_have_results(pipeline: Script, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    odd = [
        "a b.jpg",
        "line\nbreak.jpg",
        "mole 🔬.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
        "UPPER.JPG",
        "sub/ä'\"#%.jpg",
        "-n.jpg",
        "=.jpg",
    ]
    draw(folder, odd + [f"{number % 3}/{number}.jpg" for number in range(200 - len(odd))])
    (folder / "0" / "loop").symlink_to(folder)
    for number in range(40):
        list(BAD.values())[number % len(BAD)](folder / str(number % 3) / f"bad {number}.jpg")
    ended = pipeline(folder=folder)
    assert ended.status == 1
    assert ended.error.startswith("40 images failed, see out/failures.csv; the first is 0/bad 0.jpg: an empty file (0 bytes)")
    assert len(rows(Path("out"))) == 200
    assert (
        len({row["path"] for row in rows(Path("out"))} & {"line\\x0abreak.jpg", "mole 🔬.jpg", "caf\\xe9.jpg", "UPPER.JPG"}) == 4
    )
    assert sum(path.is_file() for path in Path("out/masks").rglob("*.png")) == 200
    with Path("out/failures.csv").open(encoding="utf-8", newline="") as file:
        failures = list(csv.DictReader(file))
    assert len(failures) == 40
    assert all(failure["path"].split("/")[1].startswith("bad ") and failure["reason"] for failure in failures)
    assert len(Path("out/failures.csv").read_text(encoding="utf-8").splitlines()) == 41


def test_unreadable_files_and_folders_are_listed(pipeline: Script, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    draw(tmp_path / "photos", ["a.jpg", "b.jpg", "closed/c.jpg"])
    (tmp_path / "photos" / "b.jpg").chmod(0)
    (tmp_path / "photos" / "closed").chmod(0)
    try:
        ended = pipeline(folder=tmp_path / "photos")
    finally:
        (tmp_path / "photos" / "closed").chmod(0o755)
    assert ended.status == 1
    with Path("out/failures.csv").open(encoding="utf-8", newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {"b.jpg", "closed"}


def test_unsupported_formats_fail_and_images_without_an_extension_are_read(pipeline: Script, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    draw(folder, ["a.jpg", "b", "c.jfif", "sub/d.JPE", "e.heic", "f.20210101"])
    for name, content in {
        "g.HEIC": b"\0\0\0\x18ftypheic",
        "h": b"\0\0\0\x18ftypavif",
        "i.gif": b"GIF89a",
        "j.dng": b"II*\0",
        "IM1": bytes(128) + b"DICM",
    }.items():
        (folder / name).write_bytes(content)
    for name in ("notes.txt", "table.csv", "Thumbs.db", "README"):
        (folder / name).write_bytes(b"text")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    ended = pipeline(folder=folder)
    assert ended.status == 1
    assert ended.error.startswith("6 images failed")
    assert "failed: 6 (not read: " in ended.out
    assert all(f"{name} 1" in ended.out for name in ("AVIF", "GIF", "camera raw", "DICOM"))
    assert [row["path"] for row in rows(Path("out"))] == ["a.jpg", "b", "c.jfif", "e.heic", "f.20210101", "sub/d.JPE"]
    with Path("out/failures.csv").open(encoding="utf-8", newline="") as file:
        failures = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    kinds = {"g.HEIC": "HEIC", "h": "AVIF", "i.gif": "GIF", "j.dng": "camera raw", "IM1": "DICOM", "pixel.png": "1 x 1 pixels"}
    assert failures.keys() == kinds.keys()
    assert all(kinds[name] in reason for name, reason in failures.items())
    assert read_json(Path("out/summary.json"))["ignored_files"] == 4


def test_duplicate_files_have_a_row_for_each_path(pipeline: Script, tmp_path: Path) -> None:
    draw(tmp_path / "photos", ["a.jpg", "b.jpg"])
    (tmp_path / "photos" / "c.jpg").write_bytes((tmp_path / "photos" / "a.jpg").read_bytes())
    (tmp_path / "photos" / "d.jpg").symlink_to("b.jpg")
    assert pipeline(folder=tmp_path / "photos", figures=True, crops=True).status == 0
    found = {row["path"]: row for row in rows(Path("out"))}
    assert found["c.jpg"] == found["a.jpg"] | {"path": "c.jpg"}
    assert found["d.jpg"] == found["b.jpg"] | {"path": "d.jpg"}
    for kind in ("masks", "figures", "crops"):
        assert (Path("out") / kind / "c.png").read_bytes() == (Path("out") / kind / "a.png").read_bytes()


def run_quietly(arguments: tuple[str, ...]) -> None:
    """Run run_pipeline.py and exit with its status; for a separate process."""
    sys.exit(call("run_pipeline", *arguments).status)


@pytest.mark.slow
def test_run_killed_ten_times_equals_an_uninterrupted_one(trained: Trained, tmp_path: Path) -> None:
    folder, output = tmp_path / "photos", tmp_path / "out"
    draw(folder, [f"{number % 5}/{number}.jpg" for number in range(300)])
    for number in (7, 150):
        (folder / "0" / f"double of {number}.jpg").write_bytes((folder / str(number % 5) / f"{number}.jpg").read_bytes())
    (folder / "3" / "bad.jpg").write_bytes(b"no image")
    arguments = (*trained.bundles, f"folder={folder}", "device=cpu", "workers=2", "tta=flips", "figures=false", "crops=true")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "timm", "segmentation_models_pytorch", "conftest"])
    rng = random.Random(0)
    for kill in range(10):
        known = len(journal_lines(output))
        until = known + rng.randrange(20)
        process = context.Process(target=run_quietly, args=((*arguments, f"output={output}", "resume=true"),))
        process.start()
        # Some are killed at once, others after some lines, all at a random moment of a batch.
        while process.is_alive() and len(journal_lines(output)) <= until and kill % 5:
            time.sleep(0.001)
        time.sleep(rng.random() * (0.02 if kill % 5 else 0.5))
        assert process.is_alive(), "the run ended before it could be killed; draw more photographs"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert 50 < len(journal_lines(output)) < 300
    status = call("run_pipeline", *arguments, output=output, resume=True).status
    unbroken = call("run_pipeline", *arguments, output=tmp_path / "unbroken").status
    assert status == unbroken == 1
    assert rows(output) == rows(tmp_path / "unbroken")
    assert len(rows(output)) == 302
    for name in ("failures.csv", "submission.csv"):
        assert (output / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    for kind in ("masks", "crops"):
        pictures = {path.relative_to(output): path.read_bytes() for path in (output / kind).rglob("*.png")}
        assert len(pictures) == 302
        assert all((tmp_path / "unbroken" / name).read_bytes() == content for name, content in pictures.items())
    paths = [json.loads(line)["path"] for line in journal_lines(output)]
    assert len(paths) == len(set(paths)), "an image was processed twice"
    assert not list(output.rglob("*.part"))


@pytest.mark.slow
def test_interrupted_run_prints_a_command_that_resumes_it(trained: Trained, tmp_path: Path) -> None:
    folder, output = tmp_path / "my photos", tmp_path / "out"
    draw(folder, [f"{number}.jpg" for number in range(120)])
    arguments = [*trained.bundles, f"folder={folder}", f"output={output}", "overwrite=true", "figures=true"]
    command = [sys.executable, ROOT / "run_pipeline.py", *arguments]
    # A background shell makes its processes ignore SIGINT, which a new process would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    signal.signal(signal.SIGINT, before)
    while len(journal_lines(output)) < 8 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith("interrupted: ")
    done = int(line.split()[1])
    assert 8 <= done < 120
    assert len(rows(output)) == len(journal_lines(output)) == done
    assert read_json(output / "summary.json")["finished"] is False
    again = shlex.split(line.partition("resume with: ")[2])
    assert again[-2:] == [f"output={output}", "resume=true"]
    assert "overwrite=true" not in again
    subprocess.run([sys.executable, *again[1:]], check=True, cwd=tmp_path, capture_output=True)
    assert len(rows(output)) == 120
    assert read_json(output / "summary.json")["images_done_before"] == done


def test_second_run_on_the_same_output_is_refused(pipeline: Script, photos: Path) -> None:
    Path("out").mkdir()
    with FileLock("out/.lock"):
        for arguments in ({}, {"overwrite": True}, {"resume": True}):
            ended = pipeline(folder=photos / "images", **arguments)
            assert ended.status == 2
            assert ended.error == "out is being written by another run; wait until it ends, or name another output"
    assert pipeline(folder=photos / "images").status == 0


def test_resume_refuses_other_settings_and_starts_without_results(pipeline: Script, photos: Path) -> None:
    assert pipeline(folder=photos / "images", resume=True, tta="none").status == 0
    ended = pipeline(folder=photos / "images", resume=True, tta="flips")
    assert ended.status == 2
    assert "but tta changed" in ended.error
    before = Path("out/results.jsonl").read_bytes()
    ended = pipeline(folder=photos / "images", resume=True, tta="none", workers=0, batch_size=3)
    assert (ended.status, Path("out/results.jsonl").read_bytes()) == (0, before)
    assert "images done: 6 (6 of them earlier), failed: 0" in ended.out
    ended = pipeline(folder=photos / "images", tta="none")
    assert (ended.status, "resume=true resumes them, overwrite=true replaces them" in ended.error) == (2, True)


def test_resume_and_overwrite_exclude_each_other(pipeline: Script, photos: Path) -> None:
    ended = pipeline(folder=photos / "images", resume=True, overwrite=True)
    assert ended.status == 2
    assert "resume=true" in ended.error
    assert "overwrite=true" in ended.error


def test_output_inside_the_folder_is_not_read_as_photographs(pipeline: Script, tmp_path: Path) -> None:
    draw(tmp_path / "photos", ["a.jpg", "b.jpg"])
    inside = {"folder": tmp_path / "photos", "output": tmp_path / "photos" / "found", "figures": True, "report": "html"}
    assert pipeline(**inside).status == 0
    ended = pipeline(**inside, resume=True)
    assert "images done: 2 (2 of them earlier), failed: 0" in ended.out


def test_shards_cover_the_images_without_overlap(pipeline: Script, tmp_path: Path) -> None:
    names = [f"{number % 2}/{number}.jpg" for number in range(20)]
    draw(tmp_path / "photos", names)
    found = []
    for number in range(3):
        assert pipeline(folder=tmp_path / "photos", shard=f"{number}/3", output=f"shard{number}", tta="none").status == 0
        found += [row["path"] for row in rows(Path(f"shard{number}"))]
    assert sorted(found) == sorted(names)
    for wrong in ("3/3", "0/0", "a/b", "1", "-1/3"):
        ended = pipeline(folder=tmp_path / "photos", shard=wrong)
        assert (ended.status, ended.error.startswith("shard must be k/n with k from 0 to n-1")) == (2, True)


def test_report_has_a_page_for_each_image_and_lists_the_failures(pipeline: Script, photos: Path, tmp_path: Path) -> None:
    (photos / "images" / "bad.jpg").write_bytes(b"no image")
    try:
        ended = pipeline(folder=photos / "images", report="html")
    finally:
        (photos / "images" / "bad.jpg").unlink()
    assert ended.status == 1
    assert "results in out/report.html" in ended.out
    pages = {path.relative_to("out/report/pages").as_posix() for path in Path("out/report/pages").rglob("*.html")}
    assert pages == {"a.html", "b.html", "c.html", "sub/d.html", "sub/e.html", "sub/f.html"}
    for kind in ("thumbnails", "photographs", "crops", "heatmaps"):
        assert len(list(Path("out/report", kind).rglob("*.jpg"))) == 6
    report = Path("out/report.html").read_text(encoding="utf-8")
    assert "bad.jpg" in report
    assert "Not a medical device" in report


def test_submission_is_written_for_the_seven_diagnoses(pipeline: Script, photos: Path) -> None:
    assert pipeline(folder=photos / "images").status == 0
    with Path("out/submission.csv").open(encoding="utf-8", newline="") as file:
        table = {row["image"]: row for row in csv.DictReader(file)}
    for row in rows(Path("out")):
        assert table[Path(row["path"]).stem]["AKIEC"] == row["p_akiec"]
