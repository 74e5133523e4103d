"""Input of a network: image size and normalization."""

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MIN_SIZE, MAX_SIZE = 16, 2048  # pixels


@dataclass(frozen=True)
class InputSpec:
    """Size and normalization of a network's input, as stored in its card.

    Attributes:
        size: Side of the square input, pixels, 16 to 2,048.
        mean: Mean per channel, on the scale 0 to 1.
        std: Standard deviation per channel, on the same scale, 0.001 to 10.

    Raises:
        ValueError: A value is outside its range.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise ValueError(f"size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {self.size}")
        if not all(0 <= mean <= 1 for mean in self.mean) or not all(0.001 <= std <= 10 for std in self.std):
            raise ValueError(f"mean must lie in [0, 1] and std in [0.001, 10], got mean={self.mean} and std={self.std}")
