"""Settings of a run in words."""

from segpipe.config.fields import list_keys
from segpipe.config.prediction import RunPipelineConfig
from segpipe.report.settings_text import setting_in_words, settings_in_words


def test_values_are_words() -> None:
    settings = {"tta.views": "d4", "explain.method": "gradcam", "device": "auto", "crops": False, "max_pixels": 150_000_000}
    assert dict(settings_in_words(settings)) == {
        "Views of the crop": "8, flips and quarter turns",
        "Heatmap": "Grad-CAM",
        "Device": "chosen automatically",
        "Write the crops": "no",
        "Largest accepted image, in pixels": "150,000,000",
    }
    assert setting_in_words("localize", {"localize": "unet"}) == "U-Net, then contour, then whole image"


def test_paths_and_unknown_settings_are_shown_as_they_are() -> None:
    assert settings_in_words({"folder": "none", "other": "auto", "part": None}) == [
        ("Folder of images", "none"),
        ("other", "auto"),
    ]
    assert settings_in_words({"image": ["a.jpg", "b.jpg"]}) == [("Image", "a.jpg, b.jpg")]


def test_labels_are_short_and_name_no_key() -> None:
    labels = [label for label, _ in settings_in_words(dict.fromkeys(dict(list_keys(RunPipelineConfig)), 1))]
    assert len(set(labels)) == len(labels)
    for label in labels:
        assert 3 < len(label) <= 80 and label[0].isupper() and "=" not in label and "(" not in label
