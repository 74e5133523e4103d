"""Consistency of class maps when the image is turned.

The receptive field of a deep network covers the whole image, so nothing ties a cell of its last feature map to the image content
at that position: a network may gather its evidence in one corner, and its heatmap then shows that corner for every image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from segpipe.models.classifier import LesionClassifier

TURNS = 8


class TurnConsistency:
    """Classification loss with a penalty for class maps that do not turn.

    Images are classified together with turned copies, and the class maps of both are compared:

    `loss(all logits) + weight * mean(1 - r)` with `r` the correlation over the cells between the turned map of an image and the
    map of its turned copy. The map is the class activation map of the true class, `sum_c w_yc A_c` over the channels of the
    attended feature map (arXiv 1512.04150). The term is the equivariance loss of SEAM (arXiv 2004.04581) with a correlation in
    place of a distance, so that the scale of the maps does not matter. The copies replace half of a batch, so the cost of a step
    stays the same.

    Args:
        weight: Weight of the term, above 0.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, model: LesionClassifier, images: Tensor, targets: Sequence[Tensor], loss: nn.Module) -> Tensor:
        """Compute the loss of a batch.

        Args:
            model: Classifier in training mode.
            images: Normalized images, float, shape (N, 3, side, side); the first half is used.
            targets: Labels, integer, shape (N,), and further arguments of the loss for each image.
            loss: Loss of logits and targets.

        Returns:
            Scalar with a graph.
        """
        half = (len(images) + 1) // 2
        number = int(torch.randint(1, TURNS, ()))
        twice = [torch.cat([values[:half]] * 2) for values in targets]
        features = model.features(torch.cat([images[:half], turn(images[:half], number)]))
        maps, turned_maps = class_maps(model, features, twice[0]).chunk(2)
        difference = 1 - correlation(turn(maps, number), turned_maps)
        value: Tensor = loss(model.head(features), *twice) + self.weight * difference.mean()
        return value


def class_maps(model: LesionClassifier, features: Tensor, labels: Tensor) -> Tensor:
    """Compute the class activation map of a class for each image.

    Args:
        model: Classifier.
        features: Last feature map, float, shape (N, C, h, w).
        labels: Class of each image, integer, shape (N,).

    Returns:
        Class maps, float, shape (N, h, w), not scaled.
    """
    return torch.einsum("nchw,nc->nhw", model.attention(features), model.linear.weight[labels])


def turn(images: Tensor, number: int) -> Tensor:
    """Apply one of the eight symmetries of the square.

    Args:
        images: Images or maps, shape (..., side, side).
        number: Number of quarter turns, 0 to 3, plus 4 to mirror before.
    """
    mirrored = images.flip(-1) if number >= TURNS // 2 else images
    return mirrored.rot90(number % 4, (-2, -1))


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlate pairs of maps over their cells.

    Args:
        first: Maps, float, shape (N, h, w).
        second: Maps of the same shape.

    Returns:
        Pearson correlation of each pair, float, shape (N,); 0 for a map without contrast.
    """
    one, other = ((maps - maps.mean((1, 2), keepdim=True)).flatten(1).float() for maps in (first, second))
    return cosine_similarity(one, other, dim=1)
