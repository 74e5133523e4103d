"""Pipeline arguments as plain values, checked before torch is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.config.fields import require_choice, settings_of
from segpipe.config.prediction import ConformalConfig, ExplainConfig, RunPipelineConfig, TtaConfig
from segpipe.errors import ConfigError

if TYPE_CHECKING:
    from segpipe.config.commands import AppConfig

BundlePath = str | Path
_NUMBERS = {
    "coverage": settings_of(ConformalConfig)["coverage"],
    "mm_per_pixel": settings_of(RunPipelineConfig)["mm_per_pixel"],
}
_OPTIONS = {
    "tta": settings_of(TtaConfig)["views"],
    "explain": settings_of(ExplainConfig)["method"],
    "gate": settings_of(RunPipelineConfig)["gate"],
    "localize": settings_of(RunPipelineConfig)["localize"],
    "runtime": settings_of(RunPipelineConfig)["runtime"],
    "precision": settings_of(RunPipelineConfig)["precision"],
}


@dataclass(frozen=True)
class PipelineSettings:
    """Arguments of `segpipe.load_pipeline`, so that another machine can load the same pipeline.

    Attributes:
        classifier: Folders of the bundles whose probabilities are averaged; None for the shipped one.
        segmenter: Folder of the bundle; None for the shipped one.
        tta: Views for test-time augmentation, a key of `segpipe.inference.tta.VIEWS`.
        explain: Method of the heatmap, `gradcam` or `none`.
        localize: First mask source, a value of `segpipe.lesion.localization.MaskSource`.
        runtime: Runtime of the networks, see `segpipe.inference.runtimes.Runtime`.
        device: Name of the device, see `segpipe.inference.resources.choose_device`.
        precision: Key of `segpipe.inference.runtimes.PRECISIONS`.
        gate: Effect of the input gate, `warn`, `refuse` or `off`.
        coverage: Coverage of the prediction sets, in (0, 1); None for that of the card.
        mm_per_pixel: Side of a pixel of the photographs on the skin, millimeters; None if unknown.
        explain_diagnosis: Code of the class to explain; None for the predicted one.
        batch_size: Number of images, and of images x views, in one pass through a network; None for the device's default.

    Raises:
        ConfigError: An option has an invalid value.
    """

    classifier: tuple[str, ...] | None = None
    segmenter: str | None = None
    tta: str = "d4"
    explain: str = "gradcam"
    localize: str = "unet"
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    gate: str = "warn"
    coverage: float | None = None
    mm_per_pixel: float | None = None
    explain_diagnosis: str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, option in _OPTIONS.items():
            require_choice(name, getattr(self, name), option.choices, advice="see segpipe.load_pipeline for their meaning")
        if self.explain_diagnosis is not None and not isinstance(self.explain_diagnosis, str):
            raise ConfigError(f"explain_diagnosis must be the code of a class or None, got {self.explain_diagnosis!r}; try 'mel'")
        for name in ("coverage", "mm_per_pixel"):
            number, bounds = getattr(self, name), _NUMBERS[name].bounds
            if number is not None and not (isinstance(number, int | float) and bounds is not None and number in bounds):
                raise ConfigError(f"{name} must be a number {bounds}, or None, got {number!r}; leave it out")
        size = self.batch_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise ConfigError(f"batch_size must be 1 or more, or None for the default of the device, got {size!r}; leave it out")

    @classmethod
    def of(cls, config: "RunPipelineConfig | AppConfig") -> "PipelineSettings":
        """Take the settings from a configuration."""
        return cls(
            classifier=list_bundles(config.bundle.classifier),
            segmenter=config.bundle.segmenter,
            tta=config.tta.views,
            explain=config.explain.method,
            localize=config.localize,
            runtime=config.runtime,
            device=config.device,
            precision=config.precision,
            gate=config.gate,
            coverage=config.conformal.coverage,
            mm_per_pixel=config.mm_per_pixel,
            explain_diagnosis=config.explain.diagnosis,
            batch_size=config.batch_size,
        )


def list_bundles(classifier: BundlePath | Sequence[BundlePath] | None) -> tuple[str, ...] | None:
    """Return classifier folders as a tuple; None for None.

    Raises:
        ConfigError: `classifier` is neither a path nor a list of at least one path.
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
        ConfigError: `folder` is not a path.
    """
    if not isinstance(folder, str | Path) or not str(folder):
        raise ConfigError(f"{name} must be the path of a bundle's folder, got {folder!r}; a training writes OUTPUT/bundle")
    return str(folder)
