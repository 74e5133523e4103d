"""Metrics of heatmaps on maps written by hand."""

from itertools import pairwise

import numpy as np
import pytest

from segpipe.metrics.bootstrap import with_intervals
from segpipe.metrics.heatmaps import (
    COPIES,
    CURVES,
    STEPS,
    TURNS,
    alter_pixels,
    areas_under,
    center_map,
    correlate,
    first_pixels,
    score_heatmaps,
    score_turns,
    turn,
)

SIZE = 24
RAMP = np.arange(12, dtype=np.float32).reshape(3, 4)  # symmetric under no turn
CORNER = np.pad(np.ones((2, 2), np.float32), ((0, 4), (0, 4)))


@pytest.mark.parametrize("name", TURNS)
def test_turn_is_its_own_inverse(name: str) -> None:
    photograph = np.arange(3 * 4 * 3).reshape(3, 4, 3)
    turned = turn(photograph, name)
    assert not np.array_equal(turned, photograph)
    assert np.array_equal(turn(turned, name), photograph)
    assert turned.flags.c_contiguous


def test_turns_are_the_half_turn_and_the_two_mirror_images() -> None:
    square = np.array([[1, 2], [3, 4]])
    assert {name: turn(square, name).tolist() for name in TURNS} == {
        "half turn": [[4, 3], [2, 1]],
        "mirror left and right": [[2, 1], [4, 3]],
        "mirror up and down": [[3, 4], [1, 2]],
    }


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 5, 6))
    assert correlate(one, other) == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    assert correlate(one, 3 * one + 2) == pytest.approx(1)
    assert correlate(one, -one) == pytest.approx(-1)


@pytest.mark.parametrize("flat", [np.zeros((3, 4)), np.full((3, 4), 0.1, np.float32)])
def test_map_without_contrast_correlates_with_nothing(flat: np.ndarray) -> None:
    assert correlate(flat, RAMP) == correlate(RAMP, flat) == correlate(flat, flat) == 0


def test_maps_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(3, 4\) and \(4, 3\)"):
        correlate(RAMP, RAMP.T)


def test_map_that_turns_with_the_image_follows() -> None:
    scores = score_turns(RAMP, {name: turn(RAMP, name) for name in TURNS})
    assert scores["follow"] == pytest.approx(1)
    assert scores["stay"] == pytest.approx(scores["symmetry"])
    assert scores["stay"] < 0


def test_map_that_does_not_turn_stays() -> None:
    scores = score_turns(RAMP, dict.fromkeys(TURNS, RAMP))
    assert scores["stay"] == pytest.approx(1)
    assert scores["follow"] == pytest.approx(scores["symmetry"])
    assert scores["follow"] < 0


def test_symmetric_map_scores_one_in_all_three() -> None:
    middle = center_map(6)
    assert score_turns(middle, dict.fromkeys(TURNS, middle)) == pytest.approx({"follow": 1, "stay": 1, "symmetry": 1})


def test_center_map_is_a_gaussian_of_a_quarter_of_the_side() -> None:
    middle = center_map(101)
    assert middle[50, 50] == middle.max() == 1
    assert middle[50, 50 + 25] == pytest.approx(np.exp(-0.5), rel=0.02)
    assert all(np.allclose(turn(middle, name), middle) for name in TURNS)


@pytest.mark.parametrize("heatmap", [CORNER, RAMP, np.zeros((3, 3)), center_map(7)], ids=["corner", "ramp", "zeros", "center"])
def test_first_pixels_grow_by_equal_steps_for_any_map(heatmap: np.ndarray) -> None:
    first = first_pixels(heatmap, SIZE)
    assert first.sum((1, 2)).tolist() == [SIZE * SIZE * step // STEPS for step in range(1, STEPS)]
    assert all((earlier <= later).all() for earlier, later in pairwise(first))


def test_first_pixels_have_the_highest_values() -> None:
    first = first_pixels(CORNER, SIZE)[0]
    rows, columns = np.nonzero(first)
    assert rows.max() < SIZE / 2
    assert columns.max() < SIZE / 2
    assert first[:6, :6].all()


def bright_square() -> tuple[np.ndarray, np.ndarray]:
    """A crop with a bright square in its corner, a ninth of it, and the map of this square."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[:8, :8] = 255
    return pixels, np.pad(np.ones((8, 8)), ((0, 16), (0, 16)))


def brightness_probs(copies: np.ndarray) -> np.ndarray:
    """Probabilities of a network that measures the brightness of this corner."""
    return copies[:, :8, :8].mean((1, 2, 3)) / 255


def test_copies_range_from_the_crop_to_its_mean_color() -> None:
    pixels, heatmap = bright_square()
    copies = alter_pixels(pixels, heatmap, seed=0)
    assert copies.shape == (COPIES, SIZE, SIZE, 3)
    assert copies.dtype == np.uint8
    assert np.array_equal(copies[0], pixels)
    assert (copies[1] == round(255 / 9)).all()
    deletion, insertion = copies[2 : 1 + STEPS], copies[1 + STEPS : 2 * STEPS]
    removed = first_pixels(heatmap, SIZE)[..., None]
    assert np.array_equal(deletion, np.where(removed, copies[1], pixels))
    assert np.array_equal(insertion, np.where(removed, pixels, copies[1]))


def test_perfect_map_has_the_best_deletion_and_insertion() -> None:
    pixels, perfect = bright_square()
    areas = areas_under(brightness_probs(alter_pixels(pixels, perfect, seed=0)))
    assert set(areas) == set(CURVES)
    assert areas["deletion"] < areas["random_order"] - 0.2
    assert areas["insertion"] > areas["random_order"] + 0.2
    wrong = areas_under(brightness_probs(alter_pixels(pixels, 1 - perfect, seed=0)))
    assert wrong["deletion"] > wrong["random_order"] + 0.2
    assert wrong["insertion"] < wrong["random_order"] - 0.2
    assert wrong["deletion_center"] == areas["deletion_center"]


def test_areas_follow_the_trapezoidal_rule() -> None:
    probs = np.random.default_rng(0).random(COPIES)
    inner = probs[2:].reshape(len(CURVES), STEPS - 1)
    curves = {
        "deletion": [probs[0], *inner[0], probs[1]],
        "insertion": [probs[1], *inner[1], probs[0]],
        "random_order": [probs[0], *inner[4], probs[1]],
    }
    areas = areas_under(probs)
    assert {name: areas[name] for name in curves} == {
        name: pytest.approx(np.trapezoid(curve, np.linspace(0, 1, STEPS + 1))) for name, curve in curves.items()
    }
    assert areas_under(np.ones(COPIES)) == pytest.approx(dict.fromkeys(CURVES, 1))


def test_random_map_depends_only_on_the_seed() -> None:
    pixels, heatmap = bright_square()
    one, again, other = (alter_pixels(pixels, heatmap, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert np.array_equal(one[: 1 - STEPS], other[: 1 - STEPS])
    assert not np.array_equal(one[1 - STEPS :], other[1 - STEPS :])


def columns(images: int = 4) -> dict[str, np.ndarray]:
    """Values of some images, from which the metrics follow by hand."""
    follow = np.linspace(0.2, 0.8, images)
    known = {"follow": follow, "stay": 1 - follow, "symmetry": np.zeros(images)}
    return known | {"energy": np.array([0.5, 0.9, np.nan, 0.4]), "even": np.array([0.5, 0.4, np.nan, 0.1])}


def test_metrics_are_medians_fractions_and_means() -> None:
    metrics = score_heatmaps(columns(), ["mel", "nv", "bcc", "nv"], np.ones(4, np.intp))
    assert metrics == {
        **{"follow": pytest.approx(0.5), "stay": pytest.approx(0.5), "symmetry": 0, "stays_more": 0.5},
        **{"energy_in_mask": pytest.approx(0.6), "energy_even": pytest.approx(1 / 3), "energy_gain": pytest.approx(0.8 / 3)},
        **{"energy_gain_bcc": None, "energy_gain_mel": 0, "energy_gain_nv": pytest.approx(0.4)},
        **{"images_bcc": 0, "images_mel": 1, "images_nv": 2},
    }


def test_gains_are_paired_differences() -> None:
    curves = dict(zip(CURVES, np.array([[0.2], [0.9], [0.3], [0.7], [0.5]]).repeat(4, axis=1), strict=True))
    metrics = score_heatmaps(columns() | curves, ["nv"] * 4, np.ones(4, np.intp))
    assert {name: metrics[name] for name in metrics if "gain_over" in name} == {
        "deletion_gain_over_center": pytest.approx(0.1),
        "insertion_gain_over_center": pytest.approx(0.2),
        "deletion_gain_over_random": pytest.approx(0.3),
        "insertion_gain_over_random": pytest.approx(0.4),
    }
    assert {name: metrics[name] for name in CURVES} == {name: pytest.approx(values[0]) for name, values in curves.items()}


def test_heatmap_weights_equal_repeated_images() -> None:
    weights = np.array([3, 0, 1, 2])
    rows = np.repeat(np.arange(4), weights)
    codes = np.array(["mel", "nv", "bcc", "nv"])
    repeated = {name: values[rows] for name, values in columns().items()}
    metrics = score_heatmaps(repeated, codes[rows].tolist(), np.ones(6, np.intp))
    weighted = score_heatmaps(columns(), codes.tolist(), weights)
    assert (weighted.pop("energy_gain_nv"), weighted.pop("images_nv")) == (pytest.approx(0.3), 2)
    assert {name: weighted[name] for name in metrics if name in weighted} == pytest.approx(
        {name: value for name, value in metrics.items() if name in weighted}
    )


def test_intervals_of_heatmap_metrics_are_reproducible() -> None:
    rng = np.random.default_rng(0)
    drawn = {name: rng.random(30) for name in (*columns(), *CURVES)}
    lesions = [f"L{number // 2}" for number in range(30)]
    first, second = (
        with_intervals(lambda weights: score_heatmaps(drawn, ["nv"] * 30, weights), lesions, resamples=50) for _ in range(2)
    )
    assert first == second
    assert all(first[name]["low"] < first[name]["value"] < first[name]["high"] for name in ("follow", "stay", "deletion"))
