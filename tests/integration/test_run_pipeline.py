"""run_pipeline.py: files and columns that it writes, options, exit statuses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Script, Trained, call, read_json, results
from PIL import Image

from segpipe.diagnosis import CODES, full_name
from segpipe.io.images import read_image, read_mask
from segpipe.runs.results import PROBABILITY_DIGITS

PROBS = [f"p_{code}" for code in CODES]


def files(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}


def assert_sound(output: Path) -> None:
    """Check the rules for every row of a run."""
    table = results(output)
    for _, row in table.iterrows():
        probs = row[PROBS].to_numpy(dtype=float)
        assert probs.sum() == pytest.approx(1, abs=1e-6)
        assert row["diagnosis"] == CODES[probs.argmax()]
        assert float(row["confidence"]) == probs.max()
        mask = read_mask(output / "masks" / Path(row["path"]).with_suffix(".png"))
        assert mask.mean() == pytest.approx(float(row["mask_area_fraction"]), abs=10**-PROBABILITY_DIGITS)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [int(row[f"box_{side}"]) for side in ("top", "left", "bottom", "right")]
        assert box == [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
        assert row["mask_source"] != "whole_image" or mask.all()


def test_one_image_has_every_file_and_a_table_on_the_terminal(pipeline: Script, photos: Path) -> None:
    ended = pipeline(image=photos / "images" / "a.jpg", figures="auto", crops=True, heatmaps=True)
    assert ended.status == 0, ended.err
    tables = {"results.csv", "results.jsonl", "failures.csv", "submission.csv", "summary.json"}
    assert files(Path("out")) == tables | {f"{folder}/a.png" for folder in ("masks", "figures", "crops", "heatmaps")}
    (row,) = results(Path("out")).to_dict("records")
    assert (row["path"], row["status"]) == ("a.jpg", "ok")
    assert row["mask_source"] == "unet"
    for shown in (full_name(row["diagnosis"]), "confidence", "out/figures/a.png", "U-Net", "spread over the views"):
        assert shown in ended.out
    assert all(full_name(code) in ended.out for code in CODES)
    assert "Not a medical device" in ended.out
    assert "results in out" in ended.out
    assert ended.err == ""
    assert_sound(Path("out"))


def test_pictures_have_the_documented_sizes(pipeline: Script, photos: Path) -> None:
    assert pipeline(image=photos / "images" / "a.jpg", crops=True, heatmaps=True, figures=True).status == 0
    with Image.open("out/masks/a.png") as mask, Image.open("out/heatmaps/a.png") as heatmap:
        assert (mask.size, set(np.unique(np.asarray(mask)))) == ((80, 60), {0, 255})
        assert (heatmap.size, heatmap.mode) == ((80, 60), "L")
    assert read_image(Path("out/crops/a.png")).shape == (64, 64, 3)
    assert min(read_image(Path("out/figures/a.png")).shape[:2]) > 300


def test_image_may_be_a_list(pipeline: Script, photos: Path) -> None:
    first, second = photos / "images" / "a.jpg", photos / "images" / "sub" / "d.bmp"
    ended = pipeline(f"image=[{first},{second}]")
    assert ended.status == 0, ended.err
    assert results(Path("out"))["path"].tolist() == ["a.jpg", "d.bmp"]
    assert "images done: 2, failed: 0" in ended.out


def test_image_of_a_folder_has_the_result_of_a_single_image(pipeline: Script, photos: Path) -> None:
    assert pipeline(folder=photos / "images", batch_size=4).status == 0
    table = results(Path("out"))
    assert table["path"].tolist() == ["a.jpg", "b.png", "c.jpg", "sub/d.bmp", "sub/e.tif", "sub/f.webp"]
    assert read_json(Path("out/summary.json"))["ignored_files"] == 1
    assert_sound(Path("out"))
    for name in ("a.jpg", "sub/f.webp"):
        assert pipeline(image=photos / "images" / name, output="alone", overwrite=True).status == 0
        (alone,) = results(Path("alone")).to_dict("records")
        together = table[table["path"] == name].iloc[0]
        for column in (*PROBS, "mask_area_fraction", "tta_spread"):
            assert float(alone[column]) == pytest.approx(float(together[column]), abs=1e-5)
        for column in ("sha256", "diagnosis", "mask_source", "mask_reasons", "box_top", "box_left", "box_bottom", "box_right"):
            assert alone[column] == together[column]


def test_bad_file_does_not_stop_the_other_images(pipeline: Script, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.jpg").write_bytes((photos / "images" / "a.jpg").read_bytes())
    (folder / "cut.jpg").write_bytes((photos / "images" / "a.jpg").read_bytes()[:900])
    ended = pipeline(folder=folder)
    assert ended.status == 1
    assert ended.error.startswith("1 image failed, see out/failures.csv; the first is cut.jpg: ")
    assert results(Path("out"))["path"].tolist() == ["good.jpg"]
    assert Path("out/failures.csv").read_text().splitlines()[1].startswith("cut.jpg,")
    assert "images done: 1, failed: 1" in ended.out
    summary = read_json(Path("out/summary.json"))
    assert (summary["images"], summary["failures"]) == (1, 1)


def test_labels_and_masks_score_the_part_of_a_split(pipeline: Script, photos: Path) -> None:
    truth = {"labels": photos / "labels.csv", "masks": photos / "masks", "split": photos / "split.csv"}
    ended = pipeline(folder=photos / "images", part="test", **truth)
    assert ended.status == 0, ended.err
    metrics = read_json(Path("out/metrics.json"))
    assert metrics["images"] == metrics["segmentation"]["images"] == 2
    assert (metrics["classification"]["images"], metrics["classification"]["images_without_label"]) == (1, 1)
    assert metrics["classification"]["intervals_over"] == metrics["segmentation"]["intervals_over"] == "lesion"
    assert 0 <= metrics["segmentation"]["metrics"]["dice"]["value"] <= 1
    assert {"plots/confusion_matrix.png", "plots/roc.png", "plots/reliability.png"} <= files(Path("out"))
    assert "balanced accuracy" in ended.out
    assert "localizer dice" in ended.out
    assert metrics["segmentation"]["test_set"].items() >= {"dataset": "images", "part": "test", "images": 2}.items()
    assert metrics["classification"]["test_set"]["images"] == 1
    assert (metrics["heatmaps"]["images"], metrics["heatmaps"]["intervals_over"]) == (2, "lesion")
    assert "heatmap follow" in ended.out
    resumed = pipeline(folder=photos / "images", part="test", resume=True, heatmap_sample=1, **truth)
    assert resumed.status == 0, resumed.err
    assert read_json(Path("out/metrics.json"))["heatmaps"]["images"] == 1


def test_without_lesion_ids_intervals_are_over_images(pipeline: Script, photos: Path) -> None:
    assert pipeline(folder=photos / "images", labels=photos / "labels.csv").status == 0
    metrics = read_json(Path("out/metrics.json"))
    assert metrics["classification"]["intervals_over"] == "image"
    assert metrics["classification"]["images"] == 5
    assert "segmentation" not in metrics


@pytest.mark.parametrize("left_out", [{"explain": "none"}, {"heatmap_sample": 0}], ids=str)
def test_heatmaps_are_tested_unless_switched_off(pipeline: Script, photos: Path, left_out: dict[str, object]) -> None:
    assert pipeline(folder=photos / "images", labels=photos / "labels.csv", tta="none", **left_out).status == 0
    assert "heatmaps" not in read_json(Path("out/metrics.json"))


def test_labels_without_a_match_stop_before_the_first_image(pipeline: Script, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("name,disease\na,mel\n")
    ended = pipeline(folder=photos / "images", labels=tmp_path / "labels.csv")
    assert ended.status == 2
    assert "labels must have the columns" in ended.error
    assert not Path("out/results.jsonl").exists()


def test_fields_of_the_heatmap_are_empty_without_it(pipeline: Script, photos: Path) -> None:
    assert pipeline(image=photos / "images" / "a.jpg", explain="none", heatmaps=True, figures=True).status == 0
    (row,) = results(Path("out")).to_dict("records")
    assert row["heatmap_in_lesion"] == ""
    assert "out/heatmaps/a.png" not in files(Path("out"))
    assert "figures/a.png" in files(Path("out"))


def test_explained_diagnosis_is_a_key(pipeline: Script, photos: Path) -> None:
    assert pipeline("explain.diagnosis=bkl", image=photos / "images" / "a.jpg").status == 0
    refused = pipeline("explain.diagnosis=scc", image=photos / "images" / "a.jpg", output="other")
    assert refused.status == 2
    assert refused.error.startswith(f"explain.diagnosis must be one of {', '.join(CODES)}, got 'scc'")


@pytest.mark.parametrize(("tta", "has_spread"), [("none", False), ("flips", True), ("d4", True), ("crops", True)])
def test_spread_is_empty_with_a_single_view(pipeline: Script, photos: Path, tta: str, has_spread: bool) -> None:
    assert pipeline(image=photos / "images" / "a.jpg", tta=tta).status == 0
    (row,) = results(Path("out")).to_dict("records")
    assert (row["tta_spread"] != "") == has_spread


@pytest.mark.parametrize("start", ["contour", "whole_image"])
def test_first_mask_source_is_a_key(pipeline: Script, photos: Path, start: str) -> None:
    assert pipeline(folder=photos / "images", localize=start, tta="none", explain="none").status == 0
    table = results(Path("out"))
    assert set(table["mask_source"]) <= {"contour", "whole_image"}
    assert start != "whole_image" or set(table["mask_source"]) == {"whole_image"}
    assert not table["mask_reasons"].str.contains("unet").any()
    assert read_json(Path("out/summary.json"))["models"]["segmenter"] is None
    assert_sound(Path("out"))


@pytest.mark.parametrize(("figures", "count", "drawn"), [("auto", 6, 6), ("auto", 21, 0), ("true", 21, 21), ("false", 1, 0)])
def test_figures_are_drawn_by_default_for_up_to_twenty_images(
    pipeline: Script, photos: Path, tmp_path: Path, figures: str, count: int, drawn: int
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    content = (photos / "images" / "a.jpg").read_bytes()
    for number in range(count):
        (folder / f"{number:02}.jpg").write_bytes(content)
    ended = pipeline(folder=folder, figures=figures, tta="none", localize="whole_image")
    assert ended.status == 0, ended.err
    assert len([name for name in files(Path("out")) if name.startswith("figures/")]) == drawn


@pytest.mark.parametrize("arguments", [{}, {"image": "a.jpg", "folder": "."}])
def test_exactly_one_of_image_and_folder_is_given(pipeline: Script, arguments: dict[str, str]) -> None:
    ended = pipeline(**arguments)
    assert ended.status == 2
    assert ended.error == "give exactly one of image=FILE and folder=DIR; --help shows examples"


def test_folder_with_results_is_replaced_only_with_overwrite(pipeline: Script, photos: Path) -> None:
    assert pipeline(image=photos / "images" / "a.jpg").status == 0
    Path("out/notes.txt").write_text("mine")
    refused = pipeline(image=photos / "images" / "b.png")
    assert refused.status == 2
    assert "overwrite=true replaces them" in refused.error
    assert results(Path("out"))["path"].tolist() == ["a.jpg"]
    assert pipeline(image=photos / "images" / "b.png", overwrite=True).status == 0
    assert results(Path("out"))["path"].tolist() == ["b.png"]
    assert {"masks/b.png", "notes.txt"} <= files(Path("out"))
    assert "masks/a.png" not in files(Path("out"))


def test_folder_without_images_is_a_wrong_call(pipeline: Script, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = pipeline(folder=tmp_path / "empty")
    assert ended.status == 2
    assert ended.error.startswith("no image to process in folder=")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("batchsize=2", "unknown key batchsize=2; did you mean batch_size?"),
        ("batch_size=two", 'batch_size must be an integer, got "two"'),
        ("batch_size=0", "batch_size must be 1 or more, got 0"),
        ("figures=maybe", "figures must be one of auto, true, false, got 'maybe'"),
        ("localize=magic", "localize must be one of unet, contour, whole_image, got 'magic'"),
        ("tta=d8", "tta must be one of crops, d4, flips, none, got d8"),
        ("tta.views=d8", "tta.views must be one of none, flips, d4, crops, got 'd8'"),
        ("explain.method=lime", "explain.method must be one of gradcam, none, got 'lime'"),
        ("part=exam", "part must be one of train, val, test, got 'exam'"),
        ("device=tpu-9", "device must be auto, cpu, cuda, cuda:N or mps, got 'tpu-9'"),
        ("device=cuda:99", "device=cuda:99 is not there on this machine"),
        ("heatmap_sample=-1", "heatmap_sample must be 0 or more, got -1"),
        ("labels=absent.csv", "labels must be an existing path, got 'absent.csv'"),
        ("masks=absent", "masks must be an existing path, got 'absent'"),
        ("split=absent.csv", "split must be an existing path, got 'absent.csv'"),
        ("output=photo.jpg", "output must be a folder to write into, got photo.jpg"),
        ("--mutlirun", "--hydra-help lists the flags"),
    ],
)
def test_wrong_value_is_one_line_and_status_2(
    trained: Trained, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes((photos / "images" / "a.jpg").read_bytes())
    ended = call("run_pipeline", *trained.bundles, "image=photo.jpg", argument)
    assert ended.status == 2, ended.err
    assert reason in ended.error
    assert ended.out == ""


def test_each_job_of_a_sweep_has_its_own_folder(pipeline: Script, photos: Path) -> None:
    ended = pipeline("--multirun", "tta=none,flips", image=photos / "images" / "a.jpg", output="swept")
    assert ended.status == 0, ended.err
    assert [results(Path("swept", job))["tta_spread"][0] == "" for job in ("0", "1")] == [True, False]


def test_run_without_an_output_prints_its_folder(
    trained: Trained, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = call("run_pipeline", *trained.bundles, "tta=none", image=photos / "images" / "a.jpg", device="cpu")
    assert ended.status == 0, ended.err
    (found,) = tmp_path.glob("outputs/*/*/results.csv")
    assert f"results in {found.parent.relative_to(tmp_path)}" in ended.out


# In separate processes


def shell(*arguments: str, cwd: Path, flags: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *flags, str(ROOT / "run_pipeline.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), (["imge=a.jpg"], 2), (["image=absent.jpg"], 2), (["figures=maybe", "image=."], 2)]
)
def test_help_and_wrong_calls_import_no_heavy_library(tmp_path: Path, arguments: list[str], status: int) -> None:
    ended = shell(*arguments, cwd=tmp_path, flags=("-X", "importtime"))
    lines = ended.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "segpipe.cli.main" in imported
    assert not imported & {"torch", "cv2", "pandas", "matplotlib", "scipy", "sklearn", "lightning", "timm"}
    said = [line for line in lines if not line.startswith("import time:")]
    assert ended.returncode == status
    assert len(said) == (status != 0)
    assert list(tmp_path.iterdir()) == []


def test_script_has_results_and_status_0(trained: Trained, photos: Path, tmp_path: Path) -> None:
    ended = shell(*trained.bundles, f"image={photos / 'images' / 'a.jpg'}", "output=out", "device=cpu", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert "Not a medical device" in ended.stdout
    assert results(tmp_path / "out")["path"].tolist() == ["a.jpg"]
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_nothing_is_written_to_the_home_folder(photos: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import segpipe; segpipe.load_pipeline(runtime='onnx', device='cpu').predict(segpipe.read_image('a.jpg')).save('a.png')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))} | {
        "HOME": str(home)
    }
    subprocess.run(
        [sys.executable, "-c", code], cwd=shutil.copytree(photos / "images", tmp_path / "images"), env=environment, check=True
    )
    assert list(home.rglob("*")) == []
