"""Typed schemas of the config groups for data, images and models.

The yaml files of conf/ hold the values. A key, its field and its documentation share one name.
"""

from dataclasses import dataclass
from typing import Any

from segpipe.config.fields import LARGEST_SEED, LARGEST_SIDE, MISSING, setting

STARTS = ("random", "imagenet", "shipped")
_WITHOUT_IDS = "True to treat an image without a lesion id as a lesion of its own"


@dataclass
class ExtraDataConfig:
    """Further data set to train on, see `segpipe.data.check`.

    `_target_` names its loader, whose arguments `root`, `table` and `without_lesion_ids` are.
    """

    _target_: str = "segpipe.data.loaders.load_csv"
    root: str = setting(MISSING, "Folder of the data set", path="existing")
    table: str | None = setting(None, "Table of the data set, for a loader that takes one", path="existing")
    without_lesion_ids: bool = setting(False, _WITHOUT_IDS)
    classes: list[str] | None = setting(None, "Classes taken from it; null: all classes of the training")
    split: str | None = setting(None, "split.csv whose training part is taken; null: all images", path="existing")
    weight: float = setting(1.0, "Sampling weight of an image, relative to the main data set", above=0)


@dataclass
class DataConfig:
    """Data set; `_target_` names the function that finds and checks it."""

    _target_: str = MISSING
    root: str = setting(
        MISSING,
        "Folder of the data set, see data/README.md for its layout",
        path="folder",
        advice="see data/README.md, or use data=synthetic",
    )
    masks: str | None = setting(
        None,
        "Masks that take precedence over those in data.root: a folder, or a file of COCO, Label Studio or CVAT; null: none",
        path="existing",
    )
    without_lesion_ids: bool = setting(False, _WITHOUT_IDS)
    limit: int | None = setting(None, "Approximate number of images to use; null: all", least=1)
    fold: int | None = setting(None, "Fold held out in place of the validation part; null: no folds", least=0)
    folds: int = setting(5, "Number of folds", least=1)
    cache: str | None = setting(
        "outputs/cache", "Folder for decoded images, reused by later epochs and trainings; null: no cache", path="new_folder"
    )
    extra: list[ExtraDataConfig] = setting(
        list, "List of further data sets to train on, each as {root:DIR,table:CSV,split:CSV,weight:1}"
    )


@dataclass
class SyntheticConfig(DataConfig):
    """Data set that is drawn before the training."""

    root: str = setting(MISSING, "Folder of the data set; it is drawn there where it does not exist", path="any")
    lesions: int = setting(84, "Number of lesions drawn", least=1)
    images_per_lesion: int = setting(3, "Largest number of images of a lesion", least=1)
    height: int = setting(150, "Height of an image in pixels", least=32)
    width: int = setting(200, "Width of an image in pixels", least=32)
    seed: int = setting(0, "Seed of the drawing", least=0, most=LARGEST_SEED)


@dataclass
class ClassesConfig(DataConfig):
    """Images of any classes."""

    malignant: list[str] | None = setting(None, "Malignant classes, as [a,b]; null: those known to be malignant")


@dataclass
class FoldersConfig(ClassesConfig):
    """Images in a folder for each class."""

    split_folders: bool | None = setting(
        None, "True to use folders train, val and test above the classes as the split, false to split their images anew"
    )


@dataclass
class CsvConfig(ClassesConfig):
    """Images whose classes are listed in a table."""

    table: str = setting(
        MISSING,
        "Table with columns image,label,lesion_id, or in the form of HAM10000 or ISIC, or a file of COCO, Label Studio or CVAT, "
        "whose outlines are the masks",
        path="existing",
    )


@dataclass
class Isic2019Config(ClassesConfig):
    """ISIC 2019."""

    classes: list[str] | None = setting(None, "Classes to keep, as [bcc,bkl,mel,nv]; null: all")


@dataclass
class AugmentConfig:
    """Random changes to training images, see `segpipe.training.tasks.Task`."""

    transforms: list[Any] = setting(list, "Transforms of albumentations, applied in order")
    mixup_alpha: float = setting(
        0.0,
        "Mixup of pairs of images, with fractions drawn from Beta(alpha, alpha), for example 0.2; 0: no mixup",
        least=0.01,
        most=100,
        or_zero=True,
    )
    sizes: list[list[int]] = setting(
        list,
        "Pairs of an epoch and the image size in pixels from that epoch on, such as [[0,160],[8,224]]",
        least=0,
        most=LARGEST_SIDE,
    )
    margin_fraction: float | None = setting(
        None, "Margin of the crops that a classifier's transforms start from; null: crop.margin_fraction", least=0, most=10
    )
    turn_consistency: float = setting(
        0.0, "Weight of a loss that makes the heatmap of a classifier turn with the image; excludes mixup", least=0
    )


@dataclass
class CropConfig:
    """Crop of the lesion, see `segpipe.lesion.crop.CropRule`."""

    whole_image: bool = setting(False, "True to use the whole image in place of a crop")
    margin_fraction: float = setting(0.25, "Margin around the lesion as a fraction of its longer side", least=0, most=10)
    keep_background: bool = setting(True, "False to black out the skin around the lesion")
    border: str = setting(
        "squeeze",
        "Treatment of crops that are too close to the border to be square",
        choices={"squeeze": "scaled to a square", "reflect": "proportions kept, filled by reflection"},
    )


@dataclass
class SegmenterConfig:
    """U-Net that finds the lesion."""

    encoder: str = setting(
        MISSING, "Encoder in segmentation-models-pytorch (mit_b0, mobilenet_v2), or tu- and a network in timm (tu-regnety_002)"
    )
    decoder_channels: list[int] = setting(MISSING, "Widths of the five decoder blocks, deepest first", least=1)
    input_size: int = setting(MISSING, "Side of the square input in pixels, a multiple of 32", least=32, most=LARGEST_SIDE)
    init: str = setting(
        "random",
        "Starting weights: imagenet or a safetensors file for the encoder, shipped or the folder of a bundle for the whole U-Net",
        choices=STARTS,
        path="existing",
    )


@dataclass
class ClassifierConfig:
    """Classifier: a backbone of timm with attention on its last feature map."""

    name: str = setting(MISSING, "Name of the network in timm")
    attention: str = setting(
        "none", "Attention on the last feature map", choices={"none": "", "channel": "", "spatial": "", "cbam": "both"}
    )
    dropout: float = setting(0.2, "Dropout probability before the linear layer", least=0, below=1)
    drop_path: float = setting(
        0.0, "Drop-path probability of the last residual block, decreasing towards the first", least=0, below=1
    )
    padding: str = setting("zeros", "Padding of the convolutions", choices=("zeros", "replicate"))
    input_size: int = setting(192, "Side of the square input in pixels", least=16, most=LARGEST_SIDE)
    init: str = setting(
        "random",
        "Starting weights; a path is a safetensors file or the folder of a bundle; imagenet needs segpipe[start] or a download",
        choices=STARTS,
        path="existing",
    )
