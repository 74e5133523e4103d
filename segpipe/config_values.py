"""Values that no type can judge: paths that must exist, words from a short list, counts; checked in the first second."""

import os
from typing import Any

from omegaconf import DictConfig, OmegaConf

from segpipe.errors import ConfigError

PATHS = ("bundle.segmenter", "bundle.classifier", "labels", "masks", "split", "ckpt_path")
COUNTS = ("batch_size", "max_pixels", "trainer.max_epochs", "data.limit")
CHOICES: dict[str, tuple[str, ...]] = {
    "localize": ("unet", "contour", "whole_image"),
    "figures": ("auto", "true", "false"),
    "part": ("train", "val", "test"),
    "tta.views": ("none", "flips", "d4"),
    "explain.method": ("gradcam", "none"),
}


def check_values(config: DictConfig) -> None:
    """Stop at the first value that cannot be meant; keys that are null, or not in this configuration, pass.

    Args:
        config: the whole configuration of a script.

    Raises:
        ConfigError: a path does not exist, a word is none of its list, or a count is below 1.
    """
    for key in PATHS:
        path = _value(config, key)
        if path is not None and not os.path.exists(path):
            raise ConfigError(f"{key} must be an existing path, got {path!r}; check its spelling")
    for key, choices in CHOICES.items():
        word = _value(config, key)
        if word is not None and word.lower() not in choices:
            raise ConfigError(f"{key} must be one of {', '.join(choices)}, got {word!r}; --help says what they mean")
    for key in COUNTS:
        count = _value(config, key)
        if count is not None and count < 1:
            raise ConfigError(f"{key} must be 1 or more, got {count}")


def _value(config: DictConfig, key: str) -> Any:
    return OmegaConf.select(config, key)
