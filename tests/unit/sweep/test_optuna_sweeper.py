"""Hydra's grammar of sweeps as distributions of Optuna."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hydra_plugins.segpipe_optuna import distribution

optuna = pytest.importorskip("optuna")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=interval(0.1,0.5)", optuna.distributions.FloatDistribution(0.1, 0.5)),
        ("a=interval(1,8)", optuna.distributions.FloatDistribution(1.0, 8.0)),
        ("a=int(interval(1,8))", optuna.distributions.IntDistribution(1, 8)),
        ("a=tag(log,interval(1e-4,1e-2))", optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)),
        ("a=range(2,9,3)", optuna.distributions.IntDistribution(2, 8, step=3)),
        ("a=range(3)", optuna.distributions.IntDistribution(0, 2)),
        ("a=choice(x,y)", optuna.distributions.CategoricalDistribution(["x", "y"])),
        ("a=1,0.5", optuna.distributions.CategoricalDistribution(["1", "0.5"])),
        ("a=[1,2],[3]", optuna.distributions.CategoricalDistribution(["[1,2]", "[3]"])),
    ],
)
def test_each_sweep_becomes_its_distribution(override: str, expected: object) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    assert distribution(parsed) == expected
