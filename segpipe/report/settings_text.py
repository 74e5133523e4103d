"""Settings of a run in words, from their help texts."""

import re
from collections.abc import Mapping
from typing import Any

from segpipe.config.fields import Setting, list_keys
from segpipe.config.prediction import RunPipelineConfig
from segpipe.report.wording import capitalized

# Labels of settings whose help text does not begin with one.
_LABELS = {
    "shard": "Part of the folder",
    "tta.views": "Views of the crop",
    "explain.method": "Heatmap",
    "explain.diagnosis": "Class that the heatmap explains",
    "workers": "Threads or actors",
    "batch_size": "Images or views in a forward pass",
    "max_pixels": "Largest accepted image, in pixels",
    "heatmap_sample": "Images whose heatmaps are tested",
    "mm_per_pixel": "Millimeters in a pixel",
}
# Words of settings that stand for themselves on the command line.
_WORDS = {
    "unet": "U-Net, then contour, then whole image",
    "contour": "contour, then whole image",
    "whole_image": "whole image",
    "gradcam": "Grad-CAM",
    "none": "none",
    "auto": "chosen automatically",
    "cpu": "CPU",
    "true": "yes",
    "false": "no",
}
_DEMAND = "True to "


def settings_in_words(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of each setting that is not null, in words.

    Args:
        settings: Settings by their dotted keys; unknown keys keep their names.
    """
    known = dict(list_keys(RunPipelineConfig))
    return [(_label(key, known.get(key)), _value(value, known.get(key))) for key, value in settings.items() if value is not None]


def setting_in_words(key: str, settings: Mapping[str, Any]) -> str | None:
    """Value of a setting in words; None if missing or null."""
    value = settings.get(key)
    return None if value is None else _value(value, dict(list_keys(RunPipelineConfig)).get(key))


def _label(key: str, setting: Setting | None) -> str:
    if setting is None:
        return key
    # Up to the first remark.
    return _LABELS.get(key) or capitalized(re.split(r" \(|[;:,]", setting.text.removeprefix(_DEMAND), maxsplit=1)[0])


def _value(value: Any, setting: Setting | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    word = str(value)
    # Paths and names that users chose are shown as they are.
    is_word = setting is not None and (word in setting.choices or setting.path is None)
    return (setting.choices.get(word) or _WORDS.get(word, word)) if setting is not None and is_word else word
