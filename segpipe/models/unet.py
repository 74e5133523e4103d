"""The segmenter: a U-Net (arXiv 1505.04597) by segmentation-models-pytorch with an encoder from timm."""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn


def build_unet(*, encoder: str, decoder_channels: Sequence[int]) -> nn.Module:
    """Build a U-Net with one output channel: logits of "lesion", float (N, 1, H, W) for an input (N, 3, H, W).

    Args:
        encoder: `tu-` and timm's name of a convolutional network. H and W must be multiples of 32.
        decoder_channels: width of the five decoder blocks, deepest first.

    Raises:
        ValueError: the encoder cannot be used, or there are not five widths.
    """
    # Names are looked up by timm's own list: it would take `hf-hub:...` too, and ask the network.
    if not (encoder.startswith("tu-") and timm.is_model(encoder.removeprefix("tu-"))):
        raise ValueError(f"encoder must be tu- and a network that timm knows, tu-resnet18 for one, got {encoder!r}")
    if len(decoder_channels) != 5:
        raise ValueError(f"decoder_channels must have 5 entries, deepest first, got {list(decoder_channels)}")
    try:
        unet: nn.Module = smp.Unet(encoder, encoder_weights=None, decoder_channels=tuple(decoder_channels))
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:  # what timm and smp raise varies with the network
        raise ValueError(f"encoder must be a convolutional network with five stages of features, got {encoder!r}") from error
    return unet.to(memory_format=torch.channels_last)
