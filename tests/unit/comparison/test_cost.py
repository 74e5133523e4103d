"""Cost of a classifier: exact counts of operations, throughput measured in turn."""

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.comparison.candidates import count_macs, count_parameters, measure_rates, on_one_core
from segpipe.inference.loading import load_pipeline

# Multiply-accumulate operations of one image of 32 x 32 pixels: outputs x inputs of each.
NETWORKS = {
    "one convolution": (nn.Conv2d(3, 8, 3, padding=1), 32 * 32 * 8 * 3 * 9),
    "a stride": (nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), 16 * 16 * 8 * 3 * 9),
    "groups": (nn.Conv2d(3, 6, 5, padding=2, groups=3), 32 * 32 * 6 * 25),
    "a linear layer": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7)), 3 * 7),
    "an activation": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)), 32 * 32 * 4 * 3),
}


@pytest.mark.parametrize(("network", "macs"), NETWORKS.values(), ids=list(NETWORKS))
def test_operations_of_a_network(network: nn.Module, macs: int) -> None:
    assert count_macs(network.eval(), 32) == macs


def test_counting_does_not_change_the_network() -> None:
    network = nn.Conv2d(3, 8, 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_macs(network, 16)
    assert network.weight.grad is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert count_parameters(network) == 8 * 3 * 9 + 8


def test_workers_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    rates = measure_rates([lambda: calls.append("a"), lambda: calls.append("b")], 4, rounds=3, seconds=0)
    assert "".join(calls) == "ab" + "ab" * 3
    assert rates.shape == (2, 3)
    assert (rates > 0).all()


def test_pipelines_have_one_core_and_their_number_is_restored(bundles: Path) -> None:
    pipeline = load_pipeline(bundles / "classifier", bundles / "segmenter")
    before = pipeline.threads
    with pytest.raises(ZeroDivisionError), on_one_core([pipeline]):
        assert pipeline.threads == 1
        raise ZeroDivisionError
    assert pipeline.threads == before


def test_rates_are_items_per_second() -> None:
    fast, slow = measure_rates([lambda: time.sleep(0.01), lambda: time.sleep(0.04)], 8, rounds=2, seconds=0.1)
    assert fast.max() <= 800 and slow.max() <= 200
    assert (fast > slow).all()
