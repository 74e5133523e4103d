"""Networks in channels_last layout: the same numbers, also where oneDNN has a fault."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from segpipe.inference.networks import fold_batch_norm
from segpipe.models.classifier import build_classifier, require_feature_map
from segpipe.models.layout import SubsampledConvolution, lay_out
from segpipe.models.unet import build_unet

# In a process of its own: the fault ends it, on processors without AVX-512 and on others that are told to do without.
GRADIENT = """
import torch
from segpipe.models.layout import lay_out
from torch import nn
batch = torch.randn(8, 3, 64, 64)
for layout, place in ((torch.contiguous_format, lambda model: model), (torch.channels_last, lay_out)):
    torch.manual_seed(0)
    model = place(nn.Sequential(nn.Conv2d(3, 48, 1, stride=2)))
    model(batch.to(memory_format=layout)).square().sum().backward()
    print(float(model[0].weight.grad.double().abs().sum()))
"""


def test_gradient_of_a_strided_pointwise_convolution_is_right_without_avx512() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", GRADIENT], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    plain, ours = map(float, ended.stdout.split())
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("options", [{"stride": 2}, {"stride": (2, 3), "bias": False}, {"stride": 2, "groups": 4}])
def test_subsampling_first_changes_nothing(options: dict[str, object]) -> None:
    convolution = nn.Conv2d(4, 8, 1, **options)
    ours = lay_out(nn.Sequential(copy.deepcopy(convolution)))
    assert isinstance(ours[0], SubsampledConvolution)
    for side in (7, 8):
        batch = torch.randn(2, 4, side, side + 1)
        torch.testing.assert_close(ours(batch), convolution(batch))
    assert ours[0].state_dict().keys() == convolution.state_dict().keys()


@pytest.mark.parametrize(
    "options", [{"kernel_size": 3, "stride": 2}, {"kernel_size": 1}, {"kernel_size": 1, "padding": 1, "stride": 2}]
)
def test_other_convolutions_stay(options: dict[str, object]) -> None:
    assert type(lay_out(nn.Sequential(nn.Conv2d(3, 8, **options)))[0]) is nn.Conv2d
    assert type(lay_out(nn.Sequential(nn.Conv2d(16, 8, 1, stride=2)))[0]) is nn.Conv2d


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "lambda_resnet26t"])
def test_networks_that_failed_in_this_layout_answer(name: str) -> None:
    model = build_classifier(name=name, classes=2, attention="none", dropout=0.0)
    require_feature_map(model, name)
    model.eval()
    batch = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(fold_batch_norm(model)(batch), model(batch), atol=1e-3, rtol=1e-3)


def test_encoders_are_laid_out_alike() -> None:
    unet = build_unet(encoder="tu-repvgg_a0", decoder_channels=[16, 16, 8, 8, 8])
    assert any(isinstance(module, SubsampledConvolution) for module in unet.modules())
