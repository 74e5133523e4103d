"""The segmenter: a U-Net (arXiv 1505.04597) by segmentation-models-pytorch, its encoder from there or from timm."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

import segpipe.models.baseline_cnn  # noqa: F401, makes itself known to timm
from segpipe.models.layout import example_batch, lay_out, refuse_failing

WIDEST = 2048  # channels of a decoder block


def build_unet(*, encoder: str, decoder_channels: Sequence[int]) -> nn.Module:
    """Build a U-Net with one output channel: logits of "lesion", float (N, 1, H, W) for an input (N, 3, H, W).

    Args:
        encoder: a network of segmentation-models-pytorch, or `tu-` and one of timm. H and W must be multiples of 32.
        decoder_channels: width of the five decoder blocks, deepest first.

    Raises:
        ValueError: the encoder cannot be used, or there are not five widths of 1 to 2,048.
    """
    # Names are looked up in the libraries' own lists: they would take `hf-hub:...` too, and ask the network.
    listed = timm.is_model(encoder.removeprefix("tu-")) if _is_of_timm(encoder) else encoder in smp.encoders.get_encoder_names()
    if not listed:
        raise ValueError(
            "segmenter.encoder must be a network that segmentation-models-pytorch knows, resnet18 for one, or tu- and one that "
            f"timm knows, tu-resnet18 for one, got {encoder!r}"
        )
    if len(decoder_channels) != 5 or not all(1 <= width <= WIDEST for width in decoder_channels):
        raise ValueError(
            f"segmenter.decoder_channels must have 5 entries, deepest first, got {list(decoder_channels)}; each is 1 to {WIDEST}"
        )
    with _refuse_failing(encoder):
        unet: nn.Module = smp.Unet(encoder, encoder_weights=None, decoder_channels=tuple(decoder_channels))
    return lay_out(unet)


def require_mask(model: nn.Module, encoder: str) -> None:
    """See, before a training, that a U-Net answers each pixel of an image, whatever the size of the image.

    Args:
        model: a fresh one; it is left in training mode.
        encoder: its name.

    Raises:
        ValueError: it does not, because its encoder takes images of one size only, for example.
    """
    batch = example_batch()
    with _refuse_failing(encoder):
        model.eval()
        with torch.no_grad():
            logits = model(batch)
        if logits.shape != (1, 1, *batch.shape[2:]):
            raise ValueError(f"its answer to {tuple(batch.shape)} has the shape {tuple(logits.shape)}")
        model.train()


def encoder_network(unet: nn.Module) -> nn.Module:
    """The network that a U-Net has for its encoder, its weights named as where they are published."""
    return _bare_network(unet.get_submodule("encoder"))


def fetch_encoder(encoder: str) -> nn.Module:
    """The network of an encoder with its ImageNet weights, which smp or timm download."""
    return _bare_network(smp.encoders.get_encoder(encoder, weights=True if _is_of_timm(encoder) else "imagenet"))


def _is_of_timm(encoder: str) -> bool:
    return encoder.startswith("tu-")


def _bare_network(encoder: nn.Module) -> nn.Module:
    """Without the adapter that smp puts around a network of timm."""
    network: nn.Module = getattr(encoder, "model", encoder)
    return network


def _refuse_failing(encoder: str) -> AbstractContextManager[None]:
    rule = "segmenter.encoder must be a network whose feature maps halve in size from one to the next, for images of any size"
    return refuse_failing(f"{rule}, got {encoder!r}")
