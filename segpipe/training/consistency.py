"""A term that makes the reasons of a classifier turn with the photograph.

The receptive field of a deep network covers the whole image, so nothing ties a cell of its last feature map to what is seen
there: a network may gather its evidence in some corner, and its heatmap then shows that corner for every photograph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from segpipe.models.classifier import LesionClassifier

TURNS = 8


class TurnConsistency:
    """Classify images together with turned copies of themselves, and compare the class maps of both.

    `loss(all logits) + weight * mean(1 - r)` with `r` the correlation over the cells between the map of an image, turned, and the
    map of its turned copy. The map is that of the true class, `sum_c w_yc A_c` over the channels of the attended feature map, the
    class activation map (arXiv 1512.04150); the term is the equivariance loss of SEAM (arXiv 2004.04581) with a correlation in
    place of a distance, so that the scale of the maps does not count. Half of a batch is replaced by the copies, so a step costs
    the same.

    Args:
        weight: weight of the term, above 0.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, model: LesionClassifier, images: Tensor, targets: Sequence[Tensor], loss: nn.Module) -> Tensor:
        """Compute the loss of a batch.

        Args:
            model: classifier in training.
            images: normalized float, shape (N, 3, side, side); the first half is used.
            targets: labels, integer, shape (N,), and what else the loss takes of each image.
            loss: loss of logits and targets.

        Returns:
            A scalar with a graph.
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
        model: classifier.
        features: last feature map, float, shape (N, C, h, w).
        labels: class of each image, integer, shape (N,).

    Returns:
        Float, shape (N, h, w), not scaled.
    """
    return torch.einsum("nchw,nc->nhw", model.attention(features), model.linear.weight[labels])


def turn(images: Tensor, number: int) -> Tensor:
    """Turn squares by quarters, and mirror them before where `number` is 4 or more.

    Args:
        images: shape (..., side, side).
        number: 0 (nothing) to 7.
    """
    mirrored = images.flip(-1) if number >= TURNS // 2 else images
    return mirrored.rot90(number % 4, (-2, -1))


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlate maps cell by cell.

    Args:
        first: float, shape (N, h, w).
        second: likewise.

    Returns:
        Pearson's correlation of each pair, float, shape (N,); 0 for a map without contrast.
    """
    one, other = ((maps - maps.mean((1, 2), keepdim=True)).flatten(1).float() for maps in (first, second))
    return cosine_similarity(one, other, dim=1)
