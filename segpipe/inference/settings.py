"""What a pipeline is made from, in plain values; nothing heavy is imported for it."""

from dataclasses import dataclass

from omegaconf import DictConfig


@dataclass(frozen=True)
class PipelineSettings:
    """What a pipeline is made from; plain values, so that another machine can make the same one.

    Attributes:
        segmenter: folder of its bundle; None takes the shipped one.
        classifier: folders of the bundles whose answers are averaged; none takes the shipped one.
        localize: first way to a mask, a value of `segpipe.lesion.localizer.MaskSource`.
        views: for test-time augmentation, a key of `segpipe.inference.tta.VIEWS`.
        explained: code of the class to explain, `predicted`, or None.
        device: see `segpipe.inference.loading.choose_device`.
        batch_size: images, and images x views, that run through a network at once; None takes what suits the device.
        precision: a key of `segpipe.inference.loading.PRECISIONS`.
    """

    segmenter: str | None = None
    classifier: tuple[str, ...] = ()
    localize: str = "unet"
    views: str = "d4"
    explained: str | None = "predicted"
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "float32"

    @classmethod
    def of(cls, config: DictConfig) -> "PipelineSettings":
        """Those that a configuration asks for, of run_pipeline.py or of the web page."""
        classifier = config.bundle.classifier
        return cls(
            segmenter=config.bundle.segmenter,
            classifier=() if classifier is None else (classifier,) if isinstance(classifier, str) else tuple(classifier),
            localize=config.localize,
            views=config.tta.views,
            explained=None if config.explain.method == "none" else config.explain.diagnosis or "predicted",
            device=config.device,
            batch_size=config.batch_size,
            precision=config.precision,
        )
