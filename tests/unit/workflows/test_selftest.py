"""Self-test: golden outputs hold for each runtime, and a changed weight is noticed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.errors import BundleError, SelfTestError
from segpipe.inference.golden import read_golden
from segpipe.io.run_files import GOLDEN
from segpipe.release.export import export_in_place
from segpipe.workflows.selftest import BATCH_SIZES, require_passed, run_selftest, selftest_table


@pytest.fixture
def folders(segmenter: SegmenterBundle, classifier: ClassifierBundle, tmp_path: Path) -> tuple[Path, Path]:
    """A segmenter and a classifier with graphs and golden outputs."""
    for name, bundle in (("segmenter", segmenter), ("classifier", classifier)):
        save_bundle(tmp_path / name, bundle.model, bundle.card)
        export_in_place(tmp_path / name)
    return tmp_path / "segmenter", tmp_path / "classifier"


def test_all_runtimes_agree(folders: tuple[Path, Path]) -> None:
    checks = run_selftest(*folders)
    assert {(check.model, check.runtime, check.device) for check in checks} >= {
        (model, runtime, "cpu") for model in ("segmenter", "classifier") for runtime in ("torch", "onnx")
    }
    assert {check.batch_size for check in checks} == set(BATCH_SIZES)
    assert {check.views for check in checks if check.model == "classifier"} == {"none", "d4"}
    assert all(check.passed for check in checks)
    require_passed(checks)
    assert "FAILED" not in selftest_table(checks)


def test_a_changed_weight_is_noticed(folders: tuple[Path, Path]) -> None:
    segmenter, classifier = folders
    bundle = load_classifier(classifier)
    bundle.model.linear.bias.data[0] += 1
    save_bundle(classifier, bundle.model, bundle.card)  # its golden outputs stay, its graphs go
    checks = run_selftest(segmenter, classifier)
    assert [check.passed for check in checks if check.model == "classifier"] == [False] * len(BATCH_SIZES) * 2
    assert all(check.passed for check in checks if check.model == "segmenter")
    assert selftest_table(checks).count("FAILED") == 2 * len(BATCH_SIZES)
    with pytest.raises(SelfTestError, match=r"4 of \d+ comparisons failed, the first is the classifier with runtime=torch"):
        require_passed(checks)


def test_the_command_ends_with_status_1_where_outputs_differ(folders: tuple[Path, Path]) -> None:
    segmenter, classifier = folders
    content = json.loads((segmenter / GOLDEN).read_text())
    content["outputs"]["none"]["mask"][0][0][0] += 0.5
    (segmenter / GOLDEN).write_text(json.dumps(content))
    call = [sys.executable, "-m", "segpipe", "selftest", f"bundle.segmenter={segmenter}", f"bundle.classifier={classifier}"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "comparisons failed, the first is the segmenter" in done.stderr
    assert "FAILED" in done.stdout


def test_a_nan_is_a_difference(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from segpipe.inference import golden

    monkeypatch.setattr(golden, "segmenter_outputs", lambda *_, **__: {"mask": np.full((4, 16, 16), np.nan, np.float32)})
    assert not any(check.passed for check in run_selftest(*folders) if check.model == "segmenter")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"images": ["x"], "outputs": {}}', b"[]", b'{"images": [3], "outputs": []}'])
def test_damaged_golden_outputs_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / GOLDEN).write_bytes(content)
    with pytest.raises(BundleError, match=r"golden.json is damaged \(.*\); copy the bundle again"):
        read_golden(tmp_path)


def test_bundles_of_older_versions_have_none(bundles: Path) -> None:
    assert read_golden(bundles / "segmenter") is None
    with pytest.raises(BundleError, match=r"must have golden.json for a self-test, got none; segpipe export writes it"):
        run_selftest(bundles / "segmenter", bundles / "classifier")
