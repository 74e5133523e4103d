"""The U-Net answers in the resolution of its input, and only networks that timm itself lists can be its encoder."""

import pytest
import torch

from segpipe.models.unet import build_unet


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
def test_it_gives_one_logit_for_each_pixel(height: int, width: int) -> None:
    unet = build_unet(encoder="tu-resnet10t", decoder_channels=[16, 8, 8, 8, 8]).eval()
    with torch.no_grad():
        assert unet(torch.zeros(2, 3, height, width)).shape == (2, 1, height, width)


# The last two would have timm look for a file outside, the first of them in the network.
@pytest.mark.parametrize("encoder", ["resnet18", "tu-nothing", "", "tu-hf-hub:some/model", "tu-local-dir:/tmp"])
def test_an_encoder_that_is_not_timms_own_is_refused(encoder: str) -> None:
    with pytest.raises(ValueError, match=f"encoder must be tu- and a network that timm knows, .* got '{encoder}'"):
        build_unet(encoder=encoder, decoder_channels=[8] * 5)


def test_a_network_without_five_stages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder must be a convolutional network .* got 'tu-vit_tiny_patch16_224'"):
        build_unet(encoder="tu-vit_tiny_patch16_224", decoder_channels=[8] * 5)


@pytest.mark.parametrize("count", [0, 4, 6])
def test_another_number_of_widths_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=r"decoder_channels must have 5 entries, deepest first, got \["):
        build_unet(encoder="tu-resnet10t", decoder_channels=[8] * count)
