"""The check of a data set reports all defects at once and drops unusable images."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segpipe.cli.main import main
from segpipe.data.check import CheckedDataset, check_table
from segpipe.data.loaders import load_ham10000
from segpipe.errors import DatasetError
from segpipe.io.images import write_png

LEFT_OUT, WITHOUT_MASK, KEPT = "left out", "used without a mask", "kept"


@pytest.fixture
def root(synthetic_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_root, tmp_path / "root"))


def damage(root: Path) -> dict[str, tuple[str, str]]:
    """Damage one image per defect; return defect and consequence by image id."""
    path = root / "HAM10000_metadata.csv"
    table = pd.read_csv(path)
    table["age"] = 50.0
    ids = iter(table["image_id"])
    images, masks = root / "HAM10000_images_part_1", root / "HAM10000_segmentations_lesion_tschandl"
    found = {}

    def next_id(defect: str, consequence: str) -> str:
        name = next(ids)
        found[name] = (defect, consequence)
        return name

    (images / f"{next_id('missing image file', LEFT_OUT)}.jpg").unlink()
    broken = images / f"{next_id('image that does not decode', LEFT_OUT)}.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    (masks / f"{next_id('missing mask', WITHOUT_MASK)}_segmentation.png").unlink()
    (masks / f"{next_id('mask that does not decode', WITHOUT_MASK)}_segmentation.png").write_bytes(b"no image")
    write_png(masks / f"{next_id('mask of another size than its image', WITHOUT_MASK)}_segmentation.png", np.ones((80, 64), bool))
    write_png(masks / f"{next_id('empty mask', WITHOUT_MASK)}_segmentation.png", np.zeros((64, 80), bool))
    table.loc[table["image_id"] == next_id("unknown diagnosis 'scc'", LEFT_OUT), "dx"] = "scc"
    table.loc[table["image_id"] == next_id("missing lesion id", LEFT_OUT), "lesion_id"] = None
    table.loc[table["image_id"] == next_id("missing age", KEPT), "age"] = None
    unlisted, repeated = next_id("image without metadata", LEFT_OUT), next_id("second row of one image", LEFT_OUT)
    table = table[table["image_id"] != unlisted]
    pd.concat([table, table[table["image_id"] == repeated]]).to_csv(path, index=False)
    return found


def test_all_defects_are_found_in_one_check(root: Path) -> None:
    expected = damage(root)
    dataset = load_ham10000(str(root))
    found = {problem.image_ids[0]: (problem.defect, problem.consequence) for problem in dataset.problems}
    assert found == expected
    assert all(len(problem.image_ids) == 1 for problem in dataset.problems)


def test_unusable_images_are_dropped_and_others_kept(root: Path) -> None:
    before = load_ham10000(str(root)).table
    expected = damage(root)
    table = load_ham10000(str(root)).table
    repeated = next(name for name, (what, _) in expected.items() if what == "second row of one image")
    gone = {name for name, (_, consequence) in expected.items() if consequence == LEFT_OUT} - {repeated}
    assert list(table["image_id"]) == [name for name in before["image_id"] if name not in gone]
    assert list(table.index) == list(range(len(table)))
    assert set(table.loc[[path is None for path in table["mask_path"]], "image_id"]) == {
        name for name, (_, consequence) in expected.items() if consequence == WITHOUT_MASK
    }
    kept = before.set_index("image_id")["dx"]
    assert table.set_index("image_id")["dx"].to_dict() == kept[list(table["image_id"])].to_dict()


def test_report_lists_each_defect_with_images_and_consequence(root: Path) -> None:
    expected = damage(root)
    lines = load_ham10000(str(root)).report().splitlines()
    for name, (what, consequence) in expected.items():
        assert f"1 x {what} ({name}): {consequence}" in lines
    assert "usable images of" in lines[0]


def test_intact_data_set_has_only_missing_ages(synthetic_root: Path) -> None:
    dataset = load_ham10000(str(synthetic_root))
    assert {problem.defect for problem in dataset.problems} <= {"missing age"}
    assert dataset.report().startswith(
        f"synthetic: {len(dataset.table)} usable images of 21 lesions, {len(dataset.table)} with a"
    )
    assert CheckedDataset("x", dataset.table, ()).report().endswith("nothing is wrong")


def test_data_set_without_usable_images_is_refused_with_reasons(synthetic_root: Path) -> None:
    table = load_ham10000(str(synthetic_root)).table.assign(dx="scc")
    with pytest.raises(
        DatasetError, match=r"no usable image is left: \d+ x unknown diagnosis 'scc' \(ISIC_9000000, .*\.\.\.\): left out"
    ):
        check_table(table, name="mine")


def test_check_command_prints_the_report_and_writes_nothing(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", f"data.root={synthetic_root}"]) == 0
    assert capsys.readouterr() == (load_ham10000(str(synthetic_root)).report() + "\n", "")
    assert not list(tmp_path.iterdir())


def test_check_command_refuses_with_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "data.root=absent"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: data.root must be a folder, got 'absent'")
    assert err.count("\n") == 1
