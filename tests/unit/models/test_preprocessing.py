"""Preprocessing: normalization, resizing and bounds."""

import numpy as np
import pytest
import torch

from segpipe.models.preprocessing import InputSpec, images_to_batch, normalize

SPEC = InputSpec(16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
CPU = torch.device("cpu")


def random_images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_normalization_can_be_undone() -> None:
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    batch = normalize(pixels, SPEC)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (SPEC.mean, SPEC.std))
    torch.testing.assert_close((batch * std + mean) * 255, pixels.float(), rtol=0, atol=1e-3)


def test_each_channel_has_its_own_mean_and_deviation() -> None:
    black, white = (normalize(torch.full((1, 3, 1, 1), value, dtype=torch.uint8), SPEC).flatten() for value in (0, 255))
    assert black.tolist() == pytest.approx([-2.5, -1.6, -0.6])
    assert white.tolist() == pytest.approx([2.5, 2.4, 1.4])


def test_batch_equals_single_images_of_any_size() -> None:
    images = random_images((16, 16), (40, 20), (7, 9))
    batch = images_to_batch(images, SPEC, CPU)
    assert batch.shape == (3, 3, 16, 16)
    for index, image in enumerate(images):
        torch.testing.assert_close(images_to_batch([image], SPEC, CPU)[0], batch[index], rtol=0, atol=0)


def test_image_of_the_input_size_is_not_resized() -> None:
    image = random_images((16, 16))[0]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    torch.testing.assert_close(images_to_batch([image], SPEC, CPU), normalize(pixels, SPEC), rtol=0, atol=0)


@pytest.mark.parametrize("size", [0, -32, 15, 2049, 10**9])
def test_input_size_outside_its_bounds_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"size must be 16 to 2048 .*got {size}"):
        InputSpec(size)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308, -0.1])
@pytest.mark.parametrize("field", ["mean", "std"])
def test_normalization_outside_its_bounds_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"mean must lie .* std in .*{field}=\(0\.5"):
        InputSpec(16, **{field: (0.5, value, 0.5)})
