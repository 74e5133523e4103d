"""The remedies against class imbalance, of which a training needs one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class Remedy:
    """A setting that makes up for classes of very different frequency.

    Attributes:
        key: in the configuration.
        acts: whether the remedy is on at a value of the key.
        on: the setting, as it is given on the command line; `{}` is its value.
        off: what to set to be without it.
    """

    key: str
    acts: Callable[[Any], bool]
    on: str
    off: str


# sampler=square_root is none of them: the losses count the classes as they are drawn, so it lessens what they have to make up for
# instead of doing it twice, and with it the balanced accuracy in docs/ablations.md is the best of all.
REMEDIES = (
    Remedy("loss.weighting", lambda weighting: weighting != "none", "loss.weighting={}", "loss.weighting=none"),
    Remedy("loss.gamma", lambda gamma: gamma > 0, "loss.gamma={}", "loss.gamma=0"),
    Remedy("loss.tau", lambda tau: tau > 0, "loss=logit_adjusted", "loss=cross_entropy"),
    Remedy("sampler", lambda sampler: sampler == "balanced", "sampler={}", "sampler=none"),
    Remedy("calibration", lambda method: method == "logit_adjustment", "calibration={}", "calibration=temperature"),
)


def double_remedy(config: DictConfig) -> str | None:
    """What to say of a training with more than one remedy against class imbalance; None where there is nothing to say.

    Class weights and the focal loss add up, and so do the focal loss and a balanced sampler. Classes that are drawn equally often
    leave class weights and the logit-adjusted loss nothing to do. And calibration by logit adjustment gives the answers the
    frequencies of the training data back, whatever the training did about these.

    Args:
        config: see `segpipe.config.schemas.TrainClsConfig`.
    """
    values = {remedy.key: OmegaConf.select(config, remedy.key) for remedy in REMEDIES}
    acting = [remedy for remedy in REMEDIES if values[remedy.key] is not None and remedy.acts(values[remedy.key])]
    if len(acting) < 2:
        return None
    *others, last = (remedy.on.format(values[remedy.key]) for remedy in acting)
    return (
        f"{', '.join(others)} and {last} act on class imbalance at once, so none does what it would do alone; "
        f"keep one of them ({', '.join(remedy.off for remedy in acting)} switch them off)"
    )
