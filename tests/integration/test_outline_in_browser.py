"""Correction of an outline in a browser: with mouse, finger and keyboard."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from app_server import DATA, SAMPLES, Server, Visit, download, horizontal_overflow, predictions, serve, upload, wait_until_drawn
from conftest import call, results
from PIL import Image

from segpipe.app.outline import CLOSE, CORRECTED, MASK, OPEN, RESTORE, TEXTS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]").expect

LESION = next(path for path in SAMPLES if path.stem == "synthetic_df")  # so small that its outline decides on the crop
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the shipped models with a single view."""
    with serve(f"bundles={tmp_path_factory.mktemp('none')}", "tta=none") as server:
        yield server


def row(page: "Page") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(download(page, DATA))["finding"]
    return found


def press(page: "Page", name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def points(page: "Page") -> "Locator":
    return page.locator(".editor circle")


def centers(page: "Page") -> np.ndarray:
    """Centers (x, y) of all points in pixels of the window."""
    boxes = "all => all.map(one => one.getBoundingClientRect()).map(box => [box.x + box.width / 2, box.y + box.height / 2])"
    return np.array(points(page).evaluate_all(boxes))


def shape(page: "Page") -> np.ndarray:
    """Centers of all points relative to the picture, which does not change where the page scrolls."""
    box = page.locator(".editor svg").bounding_box()
    assert box is not None
    return centers(page) - (box["x"], box["y"])


def open_editor(page: "Page") -> None:
    upload(page, LESION)
    predictions(page)
    wait_until_drawn(page)
    press(page, OPEN)
    points(page).first.wait_for()
    page.locator(".editor svg").scroll_into_view_if_needed()


def drag(page: "Page", start: np.ndarray, end: np.ndarray) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*(start + end) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def use(page: "Page") -> None:
    press(page, TEXTS["use"])
    expect(page.get_by_role("button", name=OPEN, exact=True)).to_be_visible()
    wait_until_drawn(page)


def test_dragged_point_changes_the_finding(page: "Page", tmp_path: Path) -> None:
    open_editor(page)
    before = row(page)
    expect(page.get_by_role("button", name=TEXTS["use"], exact=True)).to_be_disabled()
    places = centers(page)
    topmost = places[places[:, 1].argmin()]
    drag(page, topmost, topmost - (0, 60))
    assert np.abs(centers(page)[places[:, 1].argmin()] - (topmost - (0, 60))).max() < 2
    use(page)
    after = row(page)
    assert (before["mask_source"], after["mask_source"]) == ("unet", "given")
    assert after["box_top"] < before["box_top"] - 10 and after["mask_area_fraction"] > before["mask_area_fraction"]
    assert after["confidence"] != before["confidence"]
    expect(page.get_by_text(CORRECTED)).to_be_visible()
    expect(page.get_by_test_id("stMain")).to_contain_text("given by the user; lesion area")

    # The mask gives the same finding on the command line.
    (tmp_path / "mask.png").write_bytes(download(page, MASK))
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert set(np.unique(mask)) == {0, 255} and mask.shape == Image.open(LESION).size[::-1]
    given = {"image": LESION, "given_masks": tmp_path / "mask.png", "output": tmp_path / "out"}
    ended = call("predict", "tta=none", "figures=false", **given)
    assert ended.status == 0, ended.err
    (expected,) = results(tmp_path / "out").to_dict("records")
    for name in ("box_top", "box_left", "box_bottom", "box_right", "mask_source", "diagnosis"):
        assert expected[name] == after[name], name
    assert expected["confidence"] == pytest.approx(after["confidence"], abs=1e-4)

    press(page, RESTORE)
    expect(page.get_by_text(CORRECTED)).to_have_count(0)
    wait_until_drawn(page)
    restored = row(page)
    assert {**restored, "latency_ms": 0} == {**before, "latency_ms": 0}


def test_points_are_added_removed_and_restored(page: "Page") -> None:
    open_editor(page)
    count, before, places = points(page).count(), shape(page), centers(page)
    gaps = np.linalg.norm(places - np.roll(places, -1, axis=0), axis=1)
    longest = gaps.argmax()
    middle = (places[longest] + places[(longest + 1) % count]) / 2
    page.mouse.click(*middle)
    expect(points(page)).to_have_count(count + 1)
    expect(page.locator(".editor circle.selected")).to_have_count(1)
    press(page, TEXTS["remove"])
    expect(points(page)).to_have_count(count)
    page.mouse.dblclick(*centers(page)[0])
    expect(points(page)).to_have_count(count - 1)
    for expected in (count, count + 1, count):
        press(page, TEXTS["undo"])
        expect(points(page)).to_have_count(expected)
    np.testing.assert_allclose(shape(page), before, atol=0.5)
    expect(page.get_by_role("button", name=TEXTS["undo"], exact=True)).to_be_disabled()


def test_outline_is_drawn_anew(page: "Page") -> None:
    open_editor(page)
    press(page, TEXTS["redraw"])
    expect(page.get_by_role("button", name=TEXTS["redraw"], exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".editor")).to_contain_text(TEXTS["draw"])
    box = page.locator(".editor svg").bounding_box()
    assert box is not None
    center, radius = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]), box["height"] / 4
    angles = np.linspace(0, 2 * np.pi, 60)
    circle = center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    page.mouse.move(*circle[0])
    page.mouse.down()
    for place in circle:
        page.mouse.move(*place)
    page.mouse.up()
    assert 8 < points(page).count() <= 40
    use(page)
    found = row(page)
    assert found["mask_source"] == "given"
    expected = np.pi * radius**2 / (box["width"] * box["height"])
    assert found["mask_area_fraction"] == pytest.approx(expected, rel=0.05)


def test_keyboard_moves_and_removes_points(page: "Page") -> None:
    open_editor(page)
    page.locator(".editor svg").focus()
    places = shape(page)
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowLeft")
    np.testing.assert_allclose(shape(page)[0], places[0] - (20, 0), atol=1)
    np.testing.assert_allclose(shape(page)[1:], places[1:], atol=1)
    page.keyboard.press("Delete")
    expect(points(page)).to_have_count(len(places) - 1)
    for _ in range(3):
        page.keyboard.press("Control+z")
    np.testing.assert_allclose(shape(page), places, atol=1)


def test_keyboard_leaves_hidden_points_alone(page: "Page") -> None:
    open_editor(page)
    places = shape(page)
    press(page, TEXTS["redraw"])
    page.locator(".editor svg").focus()
    for key in ("Enter", "ArrowLeft", "Delete"):
        page.keyboard.press(key)
    press(page, TEXTS["redraw"])
    np.testing.assert_allclose(shape(page), places, atol=1)


def test_editor_stays_as_it_is_while_other_parts_change(page: "Page") -> None:
    open_editor(page)
    before, (first, *_) = shape(page), centers(page)
    drag(page, first, first - (30, 30))
    page.get_by_role("slider", name="Heatmap opacity").press("ArrowLeft")
    wait_until_drawn(page)
    np.testing.assert_allclose(shape(page)[1:], before[1:], atol=1)
    np.testing.assert_allclose(shape(page)[0], before[0] - (30, 30), atol=1)
    press(page, CLOSE)
    expect(points(page)).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_finger_drags_a_point_on_a_phone(visit: Visit, scheme: str) -> None:
    page = visit(**PHONE, color_scheme=scheme)
    open_editor(page)
    assert horizontal_overflow(page) == 0
    before, places = row(page), centers(page)
    page.locator(".editor svg").scroll_into_view_if_needed()
    places = centers(page)
    leftmost = places[places[:, 0].argmin()]
    # A finger that misses the point by 15 pixels.
    touch(page, leftmost - (15, 0), leftmost - (55, 0))
    assert centers(page)[:, 0].min() == pytest.approx(leftmost[0] - 40, abs=2)
    use(page)
    assert row(page)["box_left"] < before["box_left"] - 10
    assert horizontal_overflow(page) == 0


def test_second_finger_moves_nothing(visit: Visit) -> None:
    page = visit(**PHONE)
    open_editor(page)
    start = centers(page)[0]
    session = page.context.new_cdp_session(page)
    one, other = (
        {"x": float(x), "y": float(y), "id": number} for number, (x, y) in enumerate((start, start + np.array([60, 60])))
    )
    for kind, fingers in (
        ("touchStart", [one]),
        ("touchStart", [one, other]),
        ("touchMove", [one, other | {"y": other["y"] + 20}]),
    ):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    np.testing.assert_allclose(centers(page)[0], start, atol=2)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def touch(page: "Page", start: np.ndarray, end: np.ndarray) -> None:
    """Drag with one finger, as the browser sees it."""
    session = page.context.new_cdp_session(page)
    steps = [("touchStart", start), ("touchMove", (start + end) / 2), ("touchMove", end)]
    for kind, (x, y) in steps:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": float(x), "y": float(y)}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_corrected_outline_is_in_all_downloads(page: "Page") -> None:
    open_editor(page)
    places = centers(page)
    drag(page, places[0], places[0] - (25, 25))
    use(page)
    mask = np.asarray(Image.open(io.BytesIO(download(page, MASK)))) > 0
    assert mask.mean() == pytest.approx(row(page)["mask_area_fraction"])
    wait_until_drawn(page)
    with page.expect_download() as event:
        press(page, MASK)
    assert event.value.suggested_filename == f"{LESION.stem}_segmentation.png"
