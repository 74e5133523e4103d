"""Words that the options of a pipeline may be, one list for the commands and for Python."""

from collections.abc import Collection

from segpipe.errors import ConfigError

PIPELINE_CHOICES: dict[str, tuple[str, ...]] = {
    "tta": ("none", "flips", "d4", "crops"),
    "explain": ("gradcam", "none"),
    "localize": ("unet", "contour", "whole_image"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
}


def require_choice(name: str, value: object, choices: Collection[str], *, advice: str) -> None:
    """Refuse a value that is not in a list of words.

    Args:
        name: option as the user wrote it.
        value: value of the option.
        choices: words that are allowed.
        advice: next step for the user.

    Raises:
        ConfigError: `value` is not one of `choices`.
    """
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}; {advice}")
