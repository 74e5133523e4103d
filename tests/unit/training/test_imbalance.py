"""Warning about several remedies against class imbalance."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from segpipe.config.composing import typed
from segpipe.training.trial import REMEDIES, double_remedy

CONF = Path(__file__).parents[3] / "conf"
PLAIN = ("loss=cross_entropy", "sampler=none", "calibration=temperature")
# Settings that switch each remedy on, in the order of REMEDIES.
ALONE = (
    ("loss=weighted_cross_entropy",),
    ("loss=focal",),
    ("loss=logit_adjusted",),
    ("sampler=balanced",),
    ("calibration=logit_adjustment",),
)


def warning(*arguments: str) -> str | None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return double_remedy(typed(compose("train_cls", ["data=synthetic", *PLAIN, *arguments])))


@pytest.mark.parametrize("arguments", [(), *ALONE, ("loss=logit_adjusted", "loss.tau=0", "sampler=balanced")])
def test_fewer_than_two_remedies_need_no_warning(arguments: tuple[str, ...]) -> None:
    assert warning(*arguments) is None


@pytest.mark.parametrize(
    ("arguments", "named", "off"),
    [
        (
            ["loss=focal", "loss.weighting=effective"],
            "loss.weighting=effective and loss.gamma=2.0",
            "loss.weighting=none, loss.gamma=0",
        ),
        (
            ["loss=weighted_cross_entropy", "sampler=balanced"],
            "loss.weighting=effective and sampler=balanced",
            "loss.weighting=none, sampler=none",
        ),
        (
            ["loss=focal", "loss.gamma=0.5", "sampler=balanced"],
            "loss.gamma=0.5 and sampler=balanced",
            "loss.gamma=0, sampler=none",
        ),
        (
            ["loss=logit_adjusted", "sampler=balanced"],
            "loss=logit_adjusted and sampler=balanced",
            "loss=cross_entropy, sampler=none",
        ),
        (
            ["loss=logit_adjusted", "calibration=logit_adjustment"],
            "loss=logit_adjusted and calibration=logit_adjustment",
            "loss=cross_entropy, calibration=temperature",
        ),
        (
            ["loss=focal", "loss.weighting=inverse", "sampler=balanced"],
            "loss.weighting=inverse, loss.gamma=2.0 and sampler=balanced",
            "loss.weighting=none, loss.gamma=0, sampler=none",
        ),
    ],
)
def test_several_remedies_are_named_with_the_settings_that_switch_them_off(arguments: list[str], named: str, off: str) -> None:
    said = warning(*arguments)
    assert said is not None
    assert said.startswith(f"{named} act on class imbalance at once, ")
    assert said.endswith(f"keep one of them ({off} switch them off)")
    assert "\n" not in said


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.key)
def test_advised_setting_switches_the_remedy_off(remedy) -> None:
    alone = dict(zip((one.key for one in REMEDIES), ALONE, strict=True))[remedy.key]
    other = "sampler=balanced" if remedy.key != "sampler" else "calibration=logit_adjustment"
    assert warning(*alone, other) is not None
    assert warning(*alone, other, remedy.off) is None


@pytest.mark.parametrize("loss", ["logit_adjusted", "focal", "weighted_cross_entropy"])
def test_square_root_sampling_is_no_second_remedy(loss: str) -> None:
    assert warning(f"loss={loss}", "sampler=square_root") is None


def test_defaults_and_experiments_need_no_warning() -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert double_remedy(compose("train_cls")) is None
        for path in (CONF / "experiment").glob("*.yaml"):
            if not path.stem.endswith("_segmenter"):
                assert double_remedy(compose("train_cls", [f"+experiment={path.stem}", "data=synthetic"])) is None
