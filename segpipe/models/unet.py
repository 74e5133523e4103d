"""The segmenter: a U-Net (arXiv 1505.04597) by segmentation-models-pytorch with an encoder from timm."""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import nn


def build_unet(*, encoder: str, decoder_channels: Sequence[int]) -> nn.Module:
    """Build a U-Net with one output channel: logits of "lesion", float (N, 1, H, W) for an input (N, 3, H, W).

    Args:
        encoder: any encoder of smp; timm's networks have the prefix `tu-`. H and W must be multiples of 32.
        decoder_channels: width of the five decoder blocks, deepest first.

    Raises:
        ValueError: the encoder is unknown, or there are not five widths.
    """
    if len(decoder_channels) != 5:
        raise ValueError(f"decoder_channels must have 5 entries, deepest first, got {list(decoder_channels)}")
    try:
        unet: nn.Module = smp.Unet(encoder, encoder_weights=None, decoder_channels=tuple(decoder_channels))
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"encoder must be one that segmentation-models-pytorch knows, got {encoder!r}") from error
    return unet.to(memory_format=torch.channels_last)
