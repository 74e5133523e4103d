"""The segmenter: a U-Net (arXiv 1505.04597) of segmentation-models-pytorch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

import segpipe.models.baseline_cnn  # noqa: F401, makes itself known to timm
from segpipe.models.networks import as_value_error, example_batch, to_channels_last

MAX_WIDTH = 2048  # channels of a decoder block


def build_unet(*, encoder: str, decoder_channels: Sequence[int]) -> nn.Module:
    """Build a U-Net with random weights.

    It maps images, float (N, 3, H, W), to logits of lesion, float (N, 1, H, W).

    Args:
        encoder: Name of a network of segmentation-models-pytorch, or `tu-` and the name of one of timm. H and W must be multiples
            of 32.
        decoder_channels: Widths of the five decoder blocks, deepest first.

    Raises:
        ValueError: The encoder cannot be used, or there are not five widths of 1 to 2,048.
    """
    # Names must be in the libraries' own lists, because the libraries would also accept `hf-hub:...` and download.
    listed = timm.is_model(encoder.removeprefix("tu-")) if _is_timm(encoder) else encoder in smp.encoders.get_encoder_names()
    if not listed:
        raise ValueError(
            "segmenter.encoder must be a network that segmentation-models-pytorch knows, such as resnet18, or tu- and one that "
            f"timm knows, such as tu-resnet18, got {encoder!r}"
        )
    if len(decoder_channels) != 5 or not all(1 <= width <= MAX_WIDTH for width in decoder_channels):
        raise ValueError(
            f"segmenter.decoder_channels must have 5 entries, deepest first, each 1 to {MAX_WIDTH}, got {list(decoder_channels)}"
        )
    with _as_encoder_error(encoder):
        unet: nn.Module = smp.Unet(encoder, encoder_weights=None, decoder_channels=tuple(decoder_channels))
    return to_channels_last(unet)


def require_mask(model: nn.Module, encoder: str) -> None:
    """Check that a U-Net returns one logit per pixel.

    Args:
        model: New model; it is left in training mode.
        encoder: Name of its encoder.

    Raises:
        ValueError: It does not, because its encoder accepts images of one size only, for example.
    """
    batch = example_batch()
    with _as_encoder_error(encoder):
        model.eval()
        with torch.no_grad():
            logits = model(batch)
        if logits.shape != (1, 1, *batch.shape[2:]):
            raise ValueError(f"its output for {tuple(batch.shape)} has the shape {tuple(logits.shape)}")
        model.train()


def logits_and_features(unet: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run a U-Net once, and pool the feature maps of its encoder.

    Args:
        unet: Network of `build_unet`.
        images: Float, shape (N, 3, H, W).

    Returns:
        Logits of lesion, shape (N, 1, H, W), and the features of `pool_stages`, float32, shape (N, D).
    """
    stages = unet.get_submodule("encoder")(images)
    logits: Tensor = unet.get_submodule("segmentation_head")(unet.get_submodule("decoder")(stages))
    return logits, pool_stages(stages[1:-1])  # the first is the image, the last describes the lesion more than the photograph


def pool_stages(stages: Sequence[Tensor]) -> Tensor:
    """Describe feature maps by the mean and deviation of each channel.

    Args:
        stages: Feature maps, float, shape (N, C, h, w) each.

    Returns:
        Float32, shape (N, D): for each stage the means over all positions, then the standard deviations.
    """
    pooled = []
    for stage in (stage.float() for stage in stages if stage.shape[1]):  # some encoders have an empty first stage
        mean = stage.mean((2, 3), keepdim=True)
        pooled += [mean[:, :, 0, 0], (stage - mean).square().mean((2, 3)).sqrt()]
    return torch.cat(pooled, 1)


def encoder_network(unet: nn.Module) -> nn.Module:
    """Return the encoder of a U-Net, with weights named as published."""
    return _bare_network(unet.get_submodule("encoder"))


def fetch_encoder(encoder: str) -> nn.Module:
    """Build an encoder with ImageNet weights, which smp or timm download."""
    return _bare_network(smp.encoders.get_encoder(encoder, weights=True if _is_timm(encoder) else "imagenet"))


def _is_timm(encoder: str) -> bool:
    return encoder.startswith("tu-")


def _bare_network(encoder: nn.Module) -> nn.Module:
    """Remove the adapter that smp puts around a network of timm."""
    network: nn.Module = getattr(encoder, "model", encoder)
    return network


def _as_encoder_error(encoder: str) -> AbstractContextManager[None]:
    rule = "segmenter.encoder must be a network whose feature maps halve in size from one to the next, for images of any size"
    return as_value_error(f"{rule}, got {encoder!r}")
