"""The U-Net: output resolution, and accepted encoders."""

import pytest
import torch

from segpipe.models.unet import build_unet, require_mask


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "resnet18"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
def test_output_has_one_logit_per_pixel(encoder: str, height: int, width: int) -> None:
    unet = build_unet(encoder=encoder, decoder_channels=[16, 8, 8, 8, 8]).eval()
    with torch.no_grad():
        assert unet(torch.zeros(2, 3, height, width)).shape == (2, 1, height, width)


# The last two would make timm read a file elsewhere, the first of them by a download.
@pytest.mark.parametrize("encoder", ["nothing", "tu-nothing", "", "hf-hub:some/model", "tu-hf-hub:a/b", "tu-local-dir:/tmp"])
def test_unlisted_encoder_is_refused(encoder: str) -> None:
    text = f"encoder must be a network that segmentation-models-pytorch knows, .* one that timm knows, .* got '{encoder}'"
    with pytest.raises(ValueError, match=text):
        build_unet(encoder=encoder, decoder_channels=[8] * 5)


@pytest.mark.parametrize("encoder", ["tu-test_vit", "tu-swin_tiny_patch4_window7_224"])
def test_unusable_encoder_is_refused(encoder: str) -> None:
    text = f"segmenter.encoder must be a network whose feature maps halve .*, for images of any size, got '{encoder}' .[UI]n"
    with pytest.raises(ValueError, match=text):
        require_mask(build_unet(encoder=encoder, decoder_channels=[8] * 5), encoder)


def test_usable_encoder_is_left_in_training_mode() -> None:
    unet = build_unet(encoder="tu-resnet10t", decoder_channels=[8] * 5)
    require_mask(unet, "tu-resnet10t")
    assert unet.training


@pytest.mark.parametrize("count", [0, 4, 6])
def test_wrong_number_of_widths_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=r"decoder_channels must have 5 entries, deepest first, .*got \["):
        build_unet(encoder="tu-resnet10t", decoder_channels=[8] * count)
