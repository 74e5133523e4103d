"""Arguments of a pipeline as plain values, checked before anything heavy is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from segpipe.config.choices import PIPELINE_CHOICES, require_choice
from segpipe.errors import ConfigError

BundlePath = str | Path


@dataclass(frozen=True)
class PipelineSettings:
    """Arguments of `segpipe.load_pipeline` as plain values, so that another machine can load the same pipeline.

    Attributes:
        classifier: folders of the bundles whose probabilities are averaged; None for the shipped one.
        segmenter: folder of the bundle; None for the shipped one.
        tta: views for test-time augmentation, a key of `segpipe.inference.tta.VIEWS`.
        explain: method of the heatmap, `gradcam` or `none`.
        localize: first mask source, a value of `segpipe.lesion.localizer.MaskSource`.
        device: name of the device, see `segpipe.inference.loading.choose_device`.
        precision: key of `segpipe.inference.loading.PRECISIONS`.
        explain_diagnosis: code of the class to explain; None for the predicted one.
        batch_size: images, and images x views, that run through a network at once; None for what suits the device.

    Raises:
        ConfigError: a value is not one that the option may have.
    """

    classifier: tuple[str, ...] | None = None
    segmenter: str | None = None
    tta: str = "d4"
    explain: str = "gradcam"
    localize: str = "unet"
    device: str = "auto"
    precision: str = "auto"
    explain_diagnosis: str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, choices in PIPELINE_CHOICES.items():
            require_choice(name, getattr(self, name), choices, advice="see segpipe.load_pipeline for what they mean")
        if self.explain_diagnosis is not None and not isinstance(self.explain_diagnosis, str):
            raise ConfigError(f"explain_diagnosis must be the code of a class or None, got {self.explain_diagnosis!r}; try 'mel'")
        size = self.batch_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise ConfigError(f"batch_size must be 1 or more, or None for what suits the device, got {size!r}; leave it out")

    @classmethod
    def of(cls, config: DictConfig) -> "PipelineSettings":
        """Return the settings that a configuration asks for, of `segpipe predict` or of the web page."""
        return cls(
            classifier=list_bundles(config.bundle.classifier),
            segmenter=config.bundle.segmenter,
            tta=config.tta.views,
            explain=config.explain.method,
            localize=config.localize,
            device=config.device,
            precision=config.precision,
            explain_diagnosis=config.explain.diagnosis,
            batch_size=config.batch_size,
        )


def list_bundles(classifier: BundlePath | Sequence[BundlePath] | None) -> tuple[str, ...] | None:
    """Return the folders of one or more classifiers as a tuple; None for None.

    Raises:
        ConfigError: it is neither a path nor a list of at least one path.
    """
    if classifier is None:
        return None
    if isinstance(classifier, str | Path):
        return (bundle_path("classifier", classifier),)
    if not isinstance(classifier, Sequence) or isinstance(classifier, bytes):
        raise ConfigError(
            f"classifier must be a path, a list of paths or None, got {classifier!r}; None takes the shipped classifier"
        )
    if not classifier:
        raise ConfigError("classifier must name at least one bundle, got an empty list; None takes the shipped classifier")
    return tuple(bundle_path(f"classifier[{number}]", folder) for number, folder in enumerate(classifier))


def bundle_path(name: str, folder: object) -> str:
    """Return the path of a bundle as text.

    Raises:
        ConfigError: it is not a path.
    """
    if not isinstance(folder, str | Path) or not str(folder):
        raise ConfigError(f"{name} must be the path of a bundle's folder, got {folder!r}; a training writes OUTPUT/bundle")
    return str(folder)
