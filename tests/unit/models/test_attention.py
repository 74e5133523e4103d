"""Attention by channel and by position, as in CBAM."""

import pytest
import torch
from torch import nn

from segpipe.models.classifier import ChannelAttention, SpatialAttention, build_attention

FEATURES = torch.randn(2, 32, 5, 6, generator=torch.Generator().manual_seed(0))
KINDS = ("none", "channel", "spatial", "cbam")


@pytest.mark.parametrize("kind", KINDS)
def test_shape_is_kept_and_images_are_independent(kind: str) -> None:
    attention = build_attention(kind, 32)
    weighed = attention(FEATURES)
    assert weighed.shape == FEATURES.shape
    torch.testing.assert_close(attention(FEATURES[1:]), weighed[1:])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_features_keep_their_sign_and_do_not_grow(kind: str) -> None:
    gates = build_attention(kind, 32)(FEATURES) / FEATURES
    assert ((gates > 0) & (gates < 1)).all()


def test_channel_gate_ignores_positions() -> None:
    attention = ChannelAttention(32)
    gates = attention(FEATURES) / FEATURES
    torch.testing.assert_close(gates, gates[:, :, :1, :1].expand_as(gates))
    turned = FEATURES.flip(2).transpose(2, 3)
    torch.testing.assert_close(attention(turned), attention(FEATURES).flip(2).transpose(2, 3))


def test_spatial_gate_ignores_the_order_of_channels() -> None:
    attention = SpatialAttention()
    gates = attention(FEATURES) / FEATURES
    torch.testing.assert_close(gates, gates[:, :1].expand_as(gates))
    torch.testing.assert_close(attention(FEATURES.flip(1)), attention(FEATURES).flip(1))


def test_channel_gate_follows_the_paper() -> None:
    attention = ChannelAttention(2, reduction=2)
    nn.init.constant_(attention.mlp[0].weight, 0.5)
    nn.init.constant_(attention.mlp[2].weight, 2.0)
    features = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])
    # Means 2 and 1, peaks 3 and 2: the hidden unit is 1.5 and 2.5, its output twice that, their sum 8.
    torch.testing.assert_close(attention(features), features * torch.sigmoid(torch.tensor(8.0)))


def test_spatial_gate_follows_the_paper() -> None:
    attention = SpatialAttention(kernel_size=1)
    with torch.no_grad():
        attention.conv.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    features = torch.tensor([[[[1.0, 3.0]], [[0.0, 5.0]]]])
    gates = torch.sigmoid(torch.tensor([0.5 - 1, 4.0 - 5]))
    torch.testing.assert_close(attention(features), features * gates)


def test_cbam_is_channel_then_spatial_and_none_is_the_identity() -> None:
    cbam = build_attention("cbam", 32)
    channel, spatial = cbam
    assert (type(channel), type(spatial)) == (ChannelAttention, SpatialAttention)
    torch.testing.assert_close(cbam(FEATURES), spatial(channel(FEATURES)))
    assert build_attention("none", 32)(FEATURES) is FEATURES


def test_few_channels_still_have_a_hidden_unit() -> None:
    assert build_attention("cbam", 3)(FEATURES[:, :3]).shape == (2, 3, 5, 6)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="attention must be one of none, channel, spatial, cbam, got 'se'"):
        build_attention("se", 32)
