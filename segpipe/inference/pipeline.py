"""Inference pipeline from images to findings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, TypeAlias, TypeVar, overload

from segpipe.bundle.card import fingerprint
from segpipe.inference.ensemble import ClassifierEnsemble, EnsembleCrops, Prediction
from segpipe.inference.evidence import GateResult
from segpipe.inference.finding import Finding
from segpipe.inference.gate import Gate
from segpipe.inference.given_masks import GivenMask, pair_masks
from segpipe.inference.image_sources import ImageSource, predict_all, read_source
from segpipe.inference.networks import Network
from segpipe.inference.similar import SimilarIndex
from segpipe.inference.stages import Localizer
from segpipe.io.image_decoding import DEFAULT_MAX_PIXELS
from segpipe.lesion.localization import Localization
from segpipe.types import BoolMask, Photograph, RgbImage, kind_of

# Photographs may be read reduced, but no further than to sides of this many times the input size of the networks: the crop of a
# lesion that fills a sixth of the image's side still has as many pixels as the network can take, with a margin of 0.5.
OVERSAMPLING = 3

AnySource = TypeVar("AnySource", bound=ImageSource)  # to a type checker, a list[str] is not a list[ImageSource]
GivenMasks: TypeAlias = Sequence[GivenMask | None]


class Pipeline:
    """Pipeline that localizes, crops and classifies lesions, loaded by `segpipe.load_pipeline`. Thread-safe.

    A single image is a batch of one. In float32 the other images of a batch change the numbers by rounding only (1e-5).

    Args:
        localizer: Localizer of the lesions.
        ensemble: Classifiers of the lesions.
        gate: Input gate; None for no gate.
        refuse: True to report images that the gate rejects as failures.
        index: Training cases of the first classifier; None for none.
        mm_per_pixel: Side of a pixel of the photographs on the skin, millimeters; None if unknown.

    Attributes:
        localizer: Localizer of the lesions.
        ensemble: Classifiers of the lesions.
        least_side: Smallest side, in pixels, to which a large photograph may be reduced.
    """

    def __init__(
        self,
        localizer: Localizer,
        ensemble: ClassifierEnsemble,
        *,
        gate: Gate | None = None,
        refuse: bool = False,
        index: SimilarIndex | None = None,
        mm_per_pixel: float | None = None,
    ) -> None:
        self.localizer = localizer
        self.ensemble = ensemble
        self.gate = gate
        self.index = index
        self._refuse = refuse
        self._mm_per_pixel = mm_per_pixel
        sizes = [network.card.input.size for network in self.networks]
        self.least_side = OVERSAMPLING * max(sizes)

    @overload
    def predict(self, source: ImageSource, *, mask: GivenMask | None = ..., max_pixels: int = ...) -> Finding: ...

    @overload
    def predict(
        self, source: list[ImageSource] | tuple[ImageSource, ...], *, mask: GivenMasks | None = ..., max_pixels: int = ...
    ) -> list[Finding]: ...

    @overload
    def predict(self, source: list[AnySource], *, mask: GivenMasks | None = ..., max_pixels: int = ...) -> list[Finding]: ...

    @overload
    def predict(self, source: Iterator[ImageSource], *, max_pixels: int = ...) -> Iterator[Finding]: ...

    def predict(
        self, source: object, *, mask: object = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> Finding | list[Finding] | Iterator[Finding]:
        """Localize, crop and classify the lesion of one image, or of many.

        Files are read as `segpipe predict` reads them, and give the same numbers: EXIF orientation applied, transparent parts on
        white, large photographs reduced as far as both sides keep `least_side` pixels. A PIL image or an array of that size is
        reduced by the same factor, but by averaging pixels, not in the JPEG decoder; its numbers differ slightly from the file's.

        Args:
            source: A path, a URL that fsspec opens (`https://...`, `s3://...`), the bytes of an image file, a PIL image of any
                mode, or an RGB array, uint8, shape (H, W, 3). A list or tuple of these gives a list; an iterator gives an
                iterator that reads and predicts one batch at a time. The order of the colors cannot be detected: an array
                that OpenCV read is BGR and becomes RGB with `image[..., ::-1]`.
            mask: Mask to use in place of the one that the localizer finds: bool, shape (H, W) of the image as shown, or the path
                of a mask file of this size. For a list of images a list with a mask, or None to find it, for each. The finding
                then has the mask source `given`; the input gate judges the photograph and the given mask.
            max_pixels: Largest accepted number of pixels (height x width) of an image; checked before decoding.

        Returns:
            One finding per image, in order.

        Raises:
            ImageError: An image or a mask file cannot be used, or needs more memory than there is. In a list or an iterator the
                message begins with the index of the image; an iterator has yielded the findings of all images before it.
            PredictionError: A model returned a number that is not finite.
            ValueError: `source` is of another type, an array is not an RGB image, a mask does not fit its image or is empty, or
                `max_pixels` is not a positive integer.
        """
        if not isinstance(max_pixels, int) or max_pixels < 1:
            raise ValueError(f"max_pixels must be an integer of 1 or more, got {max_pixels!r}; leave it out for the default")
        predict = partial(predict_all, self, partial(read_source, least_side=self.least_side, max_pixels=max_pixels))
        if isinstance(source, list | tuple):
            return list(predict(pair_masks(source, mask), batch_size=self.ensemble.batch_size, numbered=True))
        if isinstance(source, Iterator) and not hasattr(source, "read"):
            return predict(pair_masks(source, mask), batch_size=self.ensemble.batch_size, numbered=True)
        return next(predict([(source, mask)], batch_size=1, numbered=False))

    def __call__(
        self,
        images: Sequence[RgbImage],
        *,
        masks: Sequence[BoolMask | None] | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> list[Finding]:
        """Localize, crop and classify a batch of arrays at full size.

        Args:
            images: RGB uint8, shape (H, W, 3) each, sides of at least `MIN_SIDE` pixels; at least one. The order of the colors
                cannot be detected: an array that OpenCV read is BGR and becomes RGB with `image[..., ::-1]`.
            masks: Given mask of each image, bool, shape (H, W), or None to find it; None to find all.
            on_step: Callback between the steps; an exception that it raises ends the work.

        Returns:
            One finding per image.

        Raises:
            PredictionError: A model returned a number that is not finite for one of them; without that one the others succeed.
            ValueError: An image is not such an array, see `segpipe.types.require_image`, or a mask does not fit its image, see
                `segpipe.lesion.localization.accept_mask`.
        """
        if not isinstance(images, list | tuple):
            raise ValueError(f"images must be a list of RGB arrays, got {kind_of(images)}; use pipeline.predict(image)")
        for network in self.ensemble.networks:
            network.preload()
        localizations, features = self.localizer.with_features(images, masks)
        gates = [
            None if self.gate is None else self.gate.judge(*seen) for seen in zip(images, localizations, features, strict=True)
        ]
        on_step()
        crops = [self.ensemble.cut(image, localization) for image, localization in zip(images, localizations, strict=True)]
        predictions = self.ensemble(crops, on_step=on_step)
        return [self._finding(*parts) for parts in zip(images, localizations, gates, crops, predictions, strict=True)]

    def _finding(
        self, image: RgbImage, localization: Localization, gate: GateResult | None, crops: EnsembleCrops, prediction: Prediction
    ) -> Finding:
        crop = crops[0][0]
        return Finding(
            photograph=Photograph(image, *image.shape[:2]),
            localization=localization,
            window=crop.box,
            crop=crop.pixels,
            border=crop.border,
            mm_per_pixel=self._mm_per_pixel,
            gate=gate,
            refused=self._refuse and gate is not None and not gate.ok,
            conformal=self.ensemble.conformal,
            find_similar=None if self.index is None else partial(self.index.find, prediction.features),
            rules=self.ensemble.rules,
            probabilities=dict(zip(self.ensemble.classes, map(float, prediction.probs), strict=True)),
            malignant=self.ensemble.malignant,
            operating_points=self.ensemble.operating_points,
            tta_spread=prediction.tta_spread,
            class_map=prediction.class_map,
        )

    @property
    def networks(self) -> tuple[Network, ...]:
        """Networks of the segmenter, if there is one, and of the classifiers."""
        segmenter = self.localizer.network
        return (*(() if segmenter is None else (segmenter,)), *self.ensemble.networks)

    @property
    def threads(self) -> int:
        """Number of cores that a network uses in this thread."""
        return self.ensemble.networks[0].threads

    def use_threads(self, count: int) -> None:
        """Set the number of cores that a network uses in this thread."""
        for network in self.networks:
            network.use_threads(count)

    def identity(self) -> dict[str, Any]:
        """Return the bundles and settings that determine findings, by key."""
        localizer, ensemble = self.localizer, self.ensemble
        return {
            "bundle.segmenter": None if localizer.network is None else _fingerprint(localizer.network),
            "bundle.classifier": _one_or_all([_fingerprint(network) for network in ensemble.networks]),
            "localize": str(localizer.start),
            "tta": [asdict(view) for view in ensemble.views],
            "explain": ensemble.explained,
            "gate": None if self.gate is None else "refuse" if self._refuse else "warn",
            "coverage": None if ensemble.conformal is None else ensemble.conformal.coverage,
            "mm_per_pixel": self._mm_per_pixel,
            "runtime": sorted({network.runtime for network in self.networks}),
            "precision": sorted({network.precision for network in self.networks}),
        }

    def describe_models(self) -> dict[str, Any]:
        """Return the fields on the models in `summary.json`.

        Returns:
            Plain values: `models`, the SHA-256 of the weights by role (None without a segmenter, a list for several
            classifiers), `malignant` and `operating_points`.
        """
        segmenter, ensemble = self.localizer.network, self.ensemble
        return {
            "models": {
                "segmenter": None if segmenter is None else segmenter.sha256,
                "classifier": _one_or_all([network.sha256 for network in ensemble.networks]),
            },
            "malignant": list(ensemble.malignant),
            "operating_points": [{"target": point.target, "threshold": point.threshold} for point in ensemble.operating_points],
        }


def _fingerprint(network: Network) -> str:
    return fingerprint(network.card, network.sha256)


def _one_or_all(values: Sequence[Any]) -> Any:
    """Unwrap a single value; keep several as a list, in order."""
    return values[0] if len(values) == 1 else list(values)
