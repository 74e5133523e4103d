"""Networks in channels_last layout: equal numbers, also where oneDNN fails."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from segpipe.inference.folding import fold_batch_norm
from segpipe.models.classifier import build_classifier, require_feature_map
from segpipe.models.networks import SubsampledConvolution, to_channels_last
from segpipe.models.unet import build_unet

# In its own process, which the fault ends without AVX-512, missing or disabled.
GRADIENT = """
import torch
from segpipe.models.networks import to_channels_last
from torch import nn
batch = torch.randn(8, 3, 64, 64)
for layout, place in ((torch.contiguous_format, lambda model: model), (torch.channels_last, to_channels_last)):
    torch.manual_seed(0)
    model = place(nn.Sequential(nn.Conv2d(3, 48, 1, stride=2)))
    model(batch.to(memory_format=layout)).square().sum().backward()
    print(float(model[0].weight.grad.double().abs().sum()))
"""


def test_gradient_of_a_strided_pointwise_convolution_without_avx512() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", GRADIENT], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    plain, ours = map(float, ended.stdout.split())
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("options", [{"stride": 2}, {"stride": (2, 3), "bias": False}, {"stride": 2, "groups": 4}])
def test_subsampled_convolution_gives_the_same_numbers(options: dict[str, object]) -> None:
    convolution = nn.Conv2d(4, 8, 1, **options)
    ours = to_channels_last(nn.Sequential(copy.deepcopy(convolution)))
    assert isinstance(ours[0], SubsampledConvolution)
    for side in (7, 8):
        batch = torch.randn(2, 4, side, side + 1)
        torch.testing.assert_close(ours(batch), convolution(batch))
    assert ours[0].state_dict().keys() == convolution.state_dict().keys()


@pytest.mark.parametrize(
    "options", [{"kernel_size": 3, "stride": 2}, {"kernel_size": 1}, {"kernel_size": 1, "padding": 1, "stride": 2}]
)
def test_other_convolutions_are_kept(options: dict[str, object]) -> None:
    assert type(to_channels_last(nn.Sequential(nn.Conv2d(3, 8, **options)))[0]) is nn.Conv2d
    assert type(to_channels_last(nn.Sequential(nn.Conv2d(16, 8, 1, stride=2)))[0]) is nn.Conv2d


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "lambda_resnet26t"])
def test_networks_that_failed_in_this_layout_run(name: str) -> None:
    model = build_classifier(name=name, classes=2, attention="none", dropout=0.0)
    require_feature_map(model, name)
    model.eval()
    batch = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(fold_batch_norm(model)(batch), model(batch), atol=1e-3, rtol=1e-3)


def test_encoders_are_in_channels_last_layout() -> None:
    unet = build_unet(encoder="tu-repvgg_a0", decoder_channels=[16, 16, 8, 8, 8])
    assert any(isinstance(module, SubsampledConvolution) for module in unet.modules())
