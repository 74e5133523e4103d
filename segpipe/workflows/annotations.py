"""Conversion of masks and labels from and to annotation files."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.config.commands import AnnotationsConfig
from segpipe.data.annotations.coco import write_coco
from segpipe.data.annotations.cvat import write_cvat
from segpipe.data.annotations.files import is_annotation_file, read_annotations
from segpipe.data.annotations.label_studio import labeling_interface, write_label_studio
from segpipe.data.annotations.outlines import AnnotatedImage, Outline
from segpipe.data.identity import KnownImages, parse_name
from segpipe.data.masks import find_masks
from segpipe.errors import ConfigError, OutputError
from segpipe.evaluation.run import read_run
from segpipe.evaluation.truth import read_truth
from segpipe.io.files import counted, display_path, write_file
from segpipe.io.images import read_mask, write_png
from segpipe.io.passes import follow
from segpipe.io.run_files import LABELS, MASKS, RESULTS
from segpipe.lesion.localization import MaskSource
from segpipe.runs.results import write_csv
from segpipe.runs.source import images_of_folder, result_names
from segpipe.types import BoolMask

UNLABELED = "lesion"  # label of outlines without any
_WITH_SIZES = ("coco", "cvat")


def convert_annotations(config: AnnotationsConfig) -> str:
    """Convert masks and labels, and write the output.

    Args:
        config: Configuration with checked values.

    Returns:
        Report in a few lines, with the labeling interface for Label Studio.

    Raises:
        ConfigError: Not exactly one of `run` and `masks` is given, or `run` is not the folder of a run.
        DatasetError: Masks or labels cannot be used.
        ImageError: A mask cannot be read.
        OutputError: The output exists, cannot be written, or holds masks of other images.
    """
    output = Path(config.output)
    _check_output(output, config)
    found = _labeled(_collect(config), config.labels)
    # Files of COCO and CVAT state the size of each image; Label Studio knows it for annotated ones alone.
    images = [image for image in found if image.height is not None] if config.format in _WITH_SIZES else found
    if config.format == "masks":
        _write_masks(output, images)
    else:
        write_file(output, _encode(images, config))
    labels = Counter(image.labels[0] for image in images if image.labels)
    outlined = sum(image.outline is not None for image in images)
    lines = [
        f"{counted(len(images), 'image')}, {outlined} with an outline, in {output}",
        "images per label: " + (", ".join(f"{label} {number}" for label, number in sorted(labels.items())) or "none"),
    ]
    if len(images) < len(found):
        lines.append(f"left out, because their size is unknown: {counted(len(found) - len(images), 'image')} without an outline")
    if config.format == "label_studio":
        lines += ["labeling interface of the project:", labeling_interface(sorted(_names(images)), polygons=_is_polygon(config))]
    return "\n".join(lines)


def _check_output(output: Path, config: AnnotationsConfig) -> None:
    """Refuse an output that exists, unless it may be replaced."""
    if output.is_dir() and config.format != "masks":
        raise OutputError(f"output must be a file with format={config.format}, got the folder {output}; name a file in it")
    is_used = any(output.iterdir()) if output.is_dir() else output.exists()
    if is_used and not config.overwrite:
        raise OutputError(f"output must not exist yet, got {output}; overwrite=true replaces it, or name another one")


def _is_polygon(config: AnnotationsConfig) -> bool:
    return config.shape == "polygon"


def _collect(config: AnnotationsConfig) -> list[AnnotatedImage]:
    """Read the images of a run, a folder or an annotation file."""
    if (config.run is None) == (config.masks is None):
        raise ConfigError("give exactly one of run=DIR, the results of segpipe predict, and masks=DIR or FILE; see --help")
    if config.run is not None:
        return _of_run(Path(config.run))
    masks = Path(str(config.masks))
    if is_annotation_file(masks):
        return list(read_annotations(masks).images)
    if config.folder is None:
        raise ConfigError("folder must be given with a folder of masks, got none; it has the images that the masks belong to")
    return _of_folder(masks, Path(config.folder))


def _of_run(folder: Path) -> list[AnnotatedImage]:
    """Read masks and diagnoses of a run; no lesion, no outline."""
    if not (folder / RESULTS).is_file():
        raise ConfigError(f"run must be a folder with {RESULTS} and {MASKS}, as segpipe predict writes it, got {folder}")
    run = read_run(folder)
    rows = run.results.to_dict("records")
    images = []
    for row in follow(rows, len(rows), "reading masks"):
        mask = run.read_mask(row["path"])
        outline = None if row["mask_source"] == MaskSource.WHOLE_IMAGE else Outline.of_mask(mask)
        labels, confidence = (str(row["diagnosis"]),), float(row["confidence"])
        images.append(
            AnnotatedImage(row["path"], *_size(mask), labels=labels, outline=outline, predicted=True, confidence=confidence)
        )
    return images


def _of_folder(masks: Path, folder: Path) -> list[AnnotatedImage]:
    """Read the masks of the images in a folder."""
    files = images_of_folder(folder).by_path
    found = KnownImages(files).assign(find_masks(masks), what="masks")
    if not found:
        raise ConfigError(f"masks must be named after images in folder, got none of {counted(len(files), 'image')} in {folder}")
    images = []
    for path, file in follow(sorted(found.items()), len(found), "reading masks"):
        mask = read_mask(file)
        images.append(AnnotatedImage(path, *_size(mask), outline=Outline.of_mask(mask)))
    return images


def _size(mask: BoolMask) -> tuple[int, int]:
    height, width = mask.shape
    return height, width


def _labeled(images: Sequence[AnnotatedImage], labels: str | None) -> list[AnnotatedImage]:
    """Replace labels and lesion ids by those of a table, if given."""
    if labels is None:
        return list(images)
    truth = read_truth(labels=Path(labels), masks=None).match_images({image.name: None for image in images})
    known: Mapping[str, str] = truth.diagnoses or {}
    return [
        replace(
            image,
            labels=(known[image.name],) if image.name in known else (),
            lesion_id=truth.lesions.get(image.name, image.lesion_id),
            confidence=None,
        )
        for image in images
    ]


def _encode(images: Sequence[AnnotatedImage], config: AnnotationsConfig) -> bytes:
    """Encode images as a file; those without a label get `UNLABELED`."""
    named = [replace(image, labels=image.labels or (UNLABELED,)) for image in images]
    if config.format == "label_studio":
        return write_label_studio(named, polygons=_is_polygon(config), images_url=config.images_url)
    write = {"coco": write_coco, "cvat": write_cvat}[config.format]
    return write(named, polygons=_is_polygon(config))


def _names(images: Sequence[AnnotatedImage]) -> set[str]:
    return {image.labels[0] if image.labels else UNLABELED for image in images}


def _path_of(name: str) -> Path:
    """Return the relative path of an image, its suffix as given."""
    parsed = parse_name(name)
    return Path(parsed.without_ending + name.strip()[-len(parsed.ending) :] if parsed.ending else parsed.without_ending)


def _refuse_others(folder: Path, written: Collection[Path]) -> None:
    """Refuse a folder with other masks or labels."""
    others = sorted({*folder.glob(f"{MASKS}/**/*.png"), *folder.glob(LABELS)} - set(written))
    if others:
        raise OutputError(
            f"output must hold no other masks or labels, got {len(others)} in {folder}, such as {others[0].relative_to(folder)}; "
            "remove them, or name another output"
        )


def _write_masks(folder: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write `masks/` and, where there are labels, `labels.csv`."""
    paths = {image.name: _path_of(image.name) for image in images}
    names = result_names(list(paths.values()))
    files = {folder / MASKS / names[paths[image.name]]: image.outline for image in images if image.outline is not None}
    _refuse_others(folder, {*files, *([folder / LABELS] if any(image.labels for image in images) else [])})
    for file, outline in follow(files.items(), len(files), "writing masks"):
        write_png(file, outline.mask())
    lesions = [image.lesion_id or "" for image in images]
    columns = ["image", "label", *(["lesion_id"] if any(lesions) else [])]
    rows = [
        [display_path(paths[image.name]), image.labels[0], lesion][: len(columns)]
        for image, lesion in zip(images, lesions, strict=True)
        if image.labels
    ]
    if rows:
        write_csv(folder / LABELS, columns, rows)
