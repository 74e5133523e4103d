"""Runs over folders: failed files are skipped, and finished ones not repeated."""

import hashlib
import json
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segpipe
from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import OutputError, RunStoppedError
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.finding import Finding
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image, read_mask
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.runs.folder import RunResult, is_finished, run_images
from segpipe.runs.journal import Outcome
from segpipe.runs.local_engine import LocalEngine, Worker, WorkerStoppedError
from segpipe.runs.options import PictureOptions, RunOptions, RunPlan
from segpipe.runs.results import result_columns
from segpipe.runs.source import ImageJob, images_of_folder
from segpipe.types import RgbImage

CPU = torch.device("cpu")
Run = Callable[..., RunResult]


@pytest.fixture(scope="module")
def classifier_with_point(classifier: ClassifierBundle) -> ClassifierBundle:
    return replace(classifier, card=replace(classifier.card, operating_points=(OperatingPoint("mel", 0.125),)))


@pytest.fixture(scope="module")
def make_pipeline(segmenter: SegmenterBundle, classifier_with_point: ClassifierBundle) -> Callable[..., Pipeline]:
    """A pipeline of tiny networks."""

    def make(*, views: str = "flips", batch_size: int = 2, temperatures: Sequence[float] = (1.5,)) -> Pipeline:
        card = classifier_with_point.card
        bundles = [replace(classifier_with_point, card=replace(card, temperature=value)) for value in temperatures]
        ensemble = ClassifierEnsemble(
            [TorchClassifier(each, "cpu") for each in bundles], views=VIEWS[views], explained="predicted", batch_size=batch_size
        )
        return Pipeline(Localizer(TorchSegmenter(segmenter, "cpu")), ensemble)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs, a file and a folder that are only named like images."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.png", "d.png", "sub/a.png", "sub/z.bmp"]):
        Image.fromarray(make_image(CODES[number], rng, (50 + number, 60))[0]).save(tmp_path / "images" / name)
    (tmp_path / "images" / "c.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "e.png").mkdir()
    return tmp_path / "images"


@pytest.fixture
def run(make_pipeline: Callable[..., Pipeline], folder: Path, tmp_path: Path) -> Run:
    """Run over the folder, into `out` by default, which may hold earlier results."""

    def call(
        output: str = "out", *, workers: int | None = 0, max_pixels: int = 10_000, pictures: Any = None, **kwargs: Any
    ) -> RunResult:
        (tmp_path / output).mkdir(exist_ok=True)
        pipeline = make_pipeline(**kwargs)
        options = RunOptions(tmp_path / output, pictures or PictureOptions(), max_pixels, settings={"tta": "flips"})
        return run_images(pipeline, images_of_folder(folder), options, LocalEngine(pipeline, workers))

    return call


def without_times(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in ("latency_ms", "run")} for row in rows]


def journal(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_failed_file_is_listed_and_the_others_have_results(run: Run, tmp_path: Path) -> None:
    result = run()
    assert [row["path"] for row in result.rows] == ["a.png", "b.png", "d.png", "sub/a.png", "sub/z.bmp"]
    assert {path: reason.split(":")[0] for path, reason in result.failures} == {
        "c.jpg": "not an image",
        "e.png": "a folder, not an image file",
    }
    failures = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in failures] == ["path", "c.jpg", "e.png"]
    assert str(tmp_path) not in (tmp_path / "out" / "failures.csv").read_text()


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 2), (100, 0), (2, 3), (1, 1), (2, None)])
def test_neither_batches_nor_workers_change_results(run: Run, tmp_path: Path, batch_size: int, workers: int | None) -> None:
    expected = without_times(run("expected").rows)
    found = without_times(run("found", batch_size=batch_size, workers=workers).rows)
    for one, other in zip(found, expected, strict=True):
        assert one == {name: pytest.approx(value, abs=1e-5) for name, value in other.items()}
    for name in ("masks/a.png", "masks/sub/z.png", "failures.csv"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_run_restores_thread_counts(run: Run) -> None:
    before = torch.get_num_threads()
    run(workers=2)
    assert torch.get_num_threads() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segpipe")]


def test_each_row_mask_and_hash_belongs_to_its_file(
    run: Run, folder: Path, tmp_path: Path, make_pipeline: Callable[..., Pipeline]
) -> None:
    result = run(workers=2)
    pipeline = make_pipeline()
    for row in result.rows:
        image = read_image(folder / row["path"])
        (finding,) = pipeline([image])
        assert row["sha256"] == hashlib.sha256((folder / row["path"]).read_bytes()).hexdigest()
        assert row["p_mel"] == pytest.approx(finding.probabilities["mel"], abs=1e-5)
        written = read_mask(tmp_path / "out" / "masks" / Path(row["path"]).with_suffix(".png"))
        np.testing.assert_array_equal(written, finding.localization.mask)
    assert sorted(journal(tmp_path / "out"), key=lambda row: str(row["path"])) == list(result.rows)


def test_pictures_are_written_on_request(run: Run, folder: Path, tmp_path: Path, make_pipeline: Callable[..., Pipeline]) -> None:
    run("plain")
    tables = {*("results.jsonl", "results.csv", "failures.csv", "submission.csv", "summary.json")}
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {*tables, "masks"}

    def draw(finding: Finding, title: str) -> bytes:
        return title.encode()

    def report(finding: Finding) -> dict[str, bytes]:
        return {"report/crops": finding.crop.tobytes()}

    pictures = PictureOptions(draw, crops=True, heatmaps=True, report=report, report_folders=("report/crops",))
    result = run("all", pictures=pictures)
    pipeline = make_pipeline()
    names = ["a.png", "b.png", "d.png", "sub/a.png", "sub/z.png"]
    for row, name in zip(result.rows, names, strict=True):
        assert (tmp_path / "all" / "figures" / name).read_text() == Path(name).stem
        image = read_image(folder / row["path"])
        (finding,) = pipeline([image])
        np.testing.assert_array_equal(read_image(tmp_path / "all" / "crops" / name), finding.crop)
        assert (tmp_path / "all" / "report" / "crops" / name).with_suffix(".jpg").read_bytes() == finding.crop.tobytes()
        values = finding.heatmap
        assert values is not None and values.shape == image.shape[:2]
        with Image.open(tmp_path / "all" / "heatmaps" / name) as picture:
            assert picture.mode == "L"
            np.testing.assert_allclose(np.asarray(picture) / 255, values, atol=1 / 255)


def test_large_photograph_is_processed_reduced_with_results_in_original_pixels(
    folder: Path, run: Run, tmp_path: Path, make_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = make_pipeline()
    side = pipeline.least_side * 4
    image, _ = make_image("mel", np.random.default_rng(5), (side, side + 90))
    Image.fromarray(image).save(folder / "large.png")
    row = {row["path"]: row for row in run(max_pixels=10**8).rows}["large.png"]
    mask = read_mask(tmp_path / "out" / "masks" / "large.png")
    assert mask.shape == image.shape[:2]
    rows, columns = np.nonzero(mask)
    box = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert [row[f"box_{side}"] for side in ("top", "left", "bottom", "right")] == box
    (whole,) = pipeline([image])
    overlap = (mask & whole.localization.mask).sum() / (mask | whole.localization.mask).sum()
    assert overlap > 0.97
    assert row["p_mel"] == pytest.approx(whole.probabilities["mel"], abs=0.1)


def test_finding_scales_to_the_original_photograph(make_pipeline: Callable[..., Pipeline]) -> None:
    (finding,) = make_pipeline()([make_image("mel", np.random.default_rng(5), (60, 80))[0]])
    assert finding.original_localization is finding.localization and finding.crop_box == finding.window
    large = replace(finding, photograph=replace(finding.photograph, height=240, width=320))
    assert large.mask.shape == (240, 320) and large.heatmap is not None and large.heatmap.shape == (240, 320)
    for small, enlarged in ((finding.crop_box, large.crop_box), (finding.box, large.box)):
        assert enlarged.top == pytest.approx(4 * small.top, abs=2)
        assert enlarged.right == pytest.approx(4 * small.right, abs=2)
    assert large.original_localization.area_fraction == pytest.approx(finding.localization.area_fraction, abs=0.01)
    assert large.probabilities == finding.probabilities


def test_max_pixels_is_applied(run: Run) -> None:
    result = run(max_pixels=51 * 60)
    assert [row["path"] for row in result.rows] == ["a.png", "b.png"]
    assert "more than max_pixels=3060" in dict(result.failures)["d.png"]


def test_only_the_first_findings_are_shown(run: Run) -> None:
    result = run(workers=2)
    assert [path for path, _ in result.shown] == ["a.png", "b.png"]  # the third file is no image
    assert all(isinstance(finding, Finding) for _, finding in result.shown)


def test_summary_holds_counts_and_model_hashes(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("none")
    summary = run().summary
    assert (summary["images"], summary["failures"], summary["ignored_files"], summary["finished"]) == (5, 2, 1, True)
    assert summary["models"] == {"segmenter": "u" * 64, "classifier": "c" * 64}
    assert summary["settings"] == {"tta": "flips"}
    assert {"python", "torch"} <= set(summary["versions"])
    assert summary["versions"]["segpipe"] == summary["run"]["segpipe"] == segpipe.__version__
    assert summary["images_per_second"] > 0
    assert "medical device" in summary["notice"]
    assert summary["operating_points"] == [{"target": "mel", "threshold": 0.125}]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary


def test_source_with_failures_only_gives_empty_tables(folder: Path, run: Run, tmp_path: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.suffix in (".png", ".bmp") and path.is_file()]:
        path.unlink()
    result = run()
    assert result.rows == ()
    assert [path for path, _ in result.failures] == ["c.jpg", "e.png"]
    assert (tmp_path / "out" / "results.csv").read_text() == ",".join(result_columns(CODES)) + "\n"


def test_file_that_disappears_is_listed(folder: Path, tmp_path: Path, make_pipeline: Callable[..., Pipeline]) -> None:
    source, pipeline = images_of_folder(folder), make_pipeline()
    (folder / "b.png").unlink()
    (tmp_path / "out").mkdir()
    result = run_images(pipeline, source, RunOptions(tmp_path / "out"), LocalEngine(pipeline, 0))
    assert len(result.rows) == 4
    assert dict(result.failures)["b.png"] == "no such file"


class Interrupted:
    """An engine that raises an error after some batches."""

    def __init__(self, pipeline: Pipeline, batches: int, error: BaseException) -> None:
        self.engine = LocalEngine(pipeline, 0)
        self.batches = batches
        self.error = error

    def run(self, plan: RunPlan, batches: Sequence[Sequence[ImageJob]]) -> Iterator[list[Outcome]]:
        yield from self.engine.run(plan, batches[: self.batches])
        raise self.error


def test_interrupted_run_writes_tables_and_resumes(
    run: Run, folder: Path, tmp_path: Path, make_pipeline: Callable[..., Pipeline]
) -> None:
    (tmp_path / "out").mkdir()
    pipeline = make_pipeline()
    engine = Interrupted(pipeline, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match="2 of 6 images done"):
        run_images(pipeline, images_of_folder(folder), RunOptions(tmp_path / "out", PictureOptions(), 10_000), engine)
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1 + 2
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["finished"] is False
    result = run()
    assert (result.summary["images"], result.summary["images_done_before"]) == (5, 2)
    assert [row["path"] for row in journal(tmp_path / "out")] == ["a.png", "b.png", "d.png", "sub/a.png", "sub/z.bmp"]
    assert without_times(result.rows) == without_times(run("uninterrupted").rows)


def test_other_errors_are_raised_after_the_tables_are_written(
    folder: Path, tmp_path: Path, make_pipeline: Callable[..., Pipeline]
) -> None:
    (tmp_path / "out").mkdir()
    pipeline = make_pipeline()
    with pytest.raises(ZeroDivisionError):
        run_images(
            pipeline, images_of_folder(folder), RunOptions(tmp_path / "out"), Interrupted(pipeline, 1, ZeroDivisionError())
        )
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1 + 2


def test_second_run_repeats_nothing(run: Run, tmp_path: Path) -> None:
    first = run()
    written = (tmp_path / "out" / "results.jsonl").read_bytes()
    second = run()
    assert second.rows == first.rows
    assert second.failures == first.failures
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == written
    assert second.summary["images_done_before"] == 5


def test_changed_file_and_missing_mask_are_processed_again(run: Run, folder: Path, tmp_path: Path) -> None:
    run()
    Image.fromarray(make_image("nv", np.random.default_rng(9), (50, 60))[0]).save(folder / "a.png")
    (tmp_path / "out" / "masks" / "b.png").unlink()
    result = run()
    assert result.summary["images_done_before"] == 3
    assert [row["path"] for row in journal(tmp_path / "out")][5:] == ["a.png", "b.png"]
    assert result.rows[0]["sha256"] == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    assert (tmp_path / "out" / "masks" / "b.png").is_file()


def test_run_is_finished_with_a_current_result_for_each_image(
    folder: Path, tmp_path: Path, make_pipeline: Callable[..., Pipeline]
) -> None:
    (folder / "c.jpg").unlink()
    pipeline, source, options = make_pipeline(), images_of_folder(folder), RunOptions(tmp_path / "out")
    assert not is_finished(pipeline, source, options)
    options.output.mkdir()
    run_images(pipeline, source, options, LocalEngine(pipeline, 0))
    assert is_finished(pipeline, source, options)
    assert not is_finished(make_pipeline(views="none"), source, options)
    assert not is_finished(pipeline, replace(source, files=source.files[1:]), options)
    (folder / "a.png").write_bytes((folder / "b.png").read_bytes())
    assert not is_finished(pipeline, source, options)
    (folder / "a.png").unlink()
    assert not is_finished(pipeline, source, options)


def test_changed_settings_are_refused_with_their_keys(run: Run) -> None:
    run()
    with pytest.raises(OutputError, match=r"resume=true .* but tta changed; restore them"):
        run(views="none")
    with pytest.raises(OutputError, match="but crops changed"):
        run(pictures=PictureOptions(crops=True))
    with pytest.raises(OutputError, match="but max_pixels changed"):
        run(max_pixels=20_000)


def test_other_calibration_of_the_same_weights_is_refused(run: Run) -> None:
    run()
    with pytest.raises(OutputError, match=r"but bundle\.classifier changed"):
        run(temperatures=[3.0])


@pytest.mark.parametrize("changed", [[1.0, 2.0], [2.0, 1.0, 3.0], [2.0], [2.0, 4.0]], ids=str)
def test_other_members_of_an_ensemble_or_another_order_are_refused(run: Run, changed: list[float]) -> None:
    first = run(temperatures=[2.0, 1.0])
    assert first.summary["models"]["classifier"] == ["c" * 64] * 2
    assert len(set(first.summary["run"]["bundle.classifier"])) == 2
    assert first.summary["operating_points"] == []
    assert {row["flagged"] for row in first.rows} == {None}
    with pytest.raises(OutputError, match=r"but bundle\.classifier changed"):
        run(temperatures=changed)
    assert run(temperatures=[2.0, 1.0]).rows == first.rows


@pytest.mark.parametrize("workers", [0, 2])
def test_duplicate_files_are_processed_once_and_listed_for_each_path(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    for name in ("a2.png", "sub/a3.png"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    (folder / "c2.jpg").write_bytes((folder / "c.jpg").read_bytes())
    seen = 0
    call = Pipeline.__call__

    def count(self: Pipeline, images: Sequence[RgbImage], **given: Any) -> list[Finding]:
        nonlocal seen
        seen += len(images)
        return call(self, images, **given)

    monkeypatch.setattr(Pipeline, "__call__", count)
    result = run(workers=workers)
    assert seen == 5
    rows = {row["path"]: row for row in result.rows}
    assert len(rows) == 7
    for name in ("a2.png", "sub/a3.png"):
        assert rows[name] == rows["a.png"] | {"path": name}
        mask = (tmp_path / "out" / "masks" / name).read_bytes()
        assert mask == (tmp_path / "out" / "masks" / "a.png").read_bytes()
    failures = dict(result.failures)
    assert set(failures) == {"c.jpg", "c2.jpg", "e.png"}
    assert {failures["c.jpg"].split(":")[0], failures["c2.jpg"].split(":")[0]} == {"not an image"}
    assert run(workers=workers).rows == result.rows
    assert seen == 5


def test_name_too_long_for_its_mask_fails_alone(run: Run, folder: Path) -> None:
    # Files that differ only in the ending keep it, so the name of the mask is longer than that of the image.
    for ending in (".jpg", ".png"):
        Image.fromarray(make_image("nv", np.random.default_rng(9), (50, 60))[0]).save(folder / ("n" * 251 + ending))
    result = run()
    assert len(result.rows) == 5
    reasons = [reason.split(":")[0] for path, reason in result.failures if path.startswith("n")]
    assert reasons == 2 * ["its pictures cannot be written"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit file sizes in the kernel, which acts like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_stops_the_run_and_keeps_earlier_results(run: Run, tmp_path: Path) -> None:
    with (
        files_of_at_most(3200),
        pytest.raises(RunStoppedError, match=r"results\.jsonl: .*; \d of 6 images done, .*resume=true"),
    ):
        run()
    kept = journal(tmp_path / "out")
    assert 0 < len(kept) < 5
    result = run()
    assert result.summary["images_done_before"] == len(kept)
    assert without_times(result.rows) == without_times(run("uninterrupted").rows)


def test_out_of_memory_fails_one_image_only(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Pipeline.__call__

    def limited(self: Pipeline, images: Sequence[RgbImage], **given: Any) -> list[Finding]:
        if any(image.shape[0] == 51 for image in images):
            raise MemoryError
        return call(self, images, **given)

    monkeypatch.setattr(Pipeline, "__call__", limited)
    result = run(batch_size=100)
    assert len(result.rows) == 4
    assert dict(result.failures)["b.png"] == "needs more memory than there is; lower batch_size or max_pixels"


def test_stopped_worker_raises_before_the_next_image(folder: Path, make_pipeline: Callable[..., Pipeline]) -> None:

    claimed: list[str] = []

    def claim(_: str, path: str) -> str:
        claimed.append(path)
        worker.stop()
        return path

    worker = Worker(make_pipeline(), RunPlan(PictureOptions(), 10_000, {}), claim)
    with pytest.raises(WorkerStoppedError):
        worker([ImageJob(folder / name, name, Path(name)) for name in ("a.png", "b.png")])
    assert claimed == ["a.png"]
