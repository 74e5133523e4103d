"""Error classes, each with the exit status that it leads to."""

import errno
from importlib.util import find_spec
from typing import ClassVar

# Libraries of each extra in setup.cfg, as imported and the best known first. A library of two extras belongs to the first.
EXTRAS = {
    "plots": ("matplotlib", "fpdf"),
    "metrics": ("pandas", "scipy", "sklearn", "matplotlib"),
    "torch": (
        "torch",
        "lightning",
        "timm",
        "segmentation_models_pytorch",
        "torchmetrics",
        "albumentations",
        "onnx",
        "onnxscript",
    ),
    "openvino": ("openvino",),
    "heif": ("pillow_heif",),
    "app": ("streamlit", "starlette", "click", "matplotlib"),
    "annotations": ("pycocotools",),
    "ray": ("ray", "pyarrow"),
    "sweeps": ("optuna",),
    "tracking": ("wandb", "tensorboard", "mlflow", "sqlalchemy", "alembic"),
}


class SegpipeError(Exception):
    """Problem that the user can solve; shown as one line.

    Attributes:
        exit_status: Exit status of the command: 2 for a wrong call, 1 for work that failed.
    """

    exit_status: ClassVar[int] = 2


class ConfigError(SegpipeError, ValueError):
    """Wrong key or value of the configuration."""


class MissingExtraError(ConfigError, ImportError):
    """Call that needs an extra of segpipe that is not installed."""


class ImageError(SegpipeError):
    """File that cannot be used as an image."""


class MaskError(ImageError):
    """Image that cannot be used as a mask."""


class DatasetError(SegpipeError):
    """Data set, split or table of labels that cannot be used."""


class LeakError(SegpipeError):
    """Parts of a split that share lesions or photographs."""

    exit_status = 1


class BundleError(SegpipeError):
    """Model on disk that is damaged, foreign or of another kind."""


class OutputError(SegpipeError):
    """Output folder that cannot be used."""


class WriteError(OutputError):
    """File that cannot be written; the previous file stays intact."""

    exit_status = 1


class PredictionError(SegpipeError):
    """Model output that is not finite."""

    exit_status = 1


class SelfTestError(SegpipeError):
    """Outputs of a bundle that differ from its golden ones."""

    exit_status = 1


class ImagesFailedError(SegpipeError):
    """Run over a folder in which some or all images failed."""

    exit_status = 1


class RunStoppedError(SegpipeError):
    """Run over images that cannot continue; its results so far are kept."""

    exit_status = 1


class TrainingError(SegpipeError):
    """Training that started and failed."""

    exit_status = 1


def require_extra(extra: str, feature: str, *libraries: str) -> None:
    """Refuse a feature whose libraries are not installed.

    Args:
        extra: Key of `EXTRAS`.
        feature: Feature that the user chose, the start of the message.
        *libraries: Names of the libraries as imported; none for all of the extra.

    Raises:
        MissingExtraError: A library is not installed.
    """
    for library in libraries or EXTRAS[extra]:
        if not _is_installed(library):
            raise MissingExtraError(_advice(feature, library, extra))


def as_missing_extra(error: BaseException) -> MissingExtraError | None:
    """Convert the failed import of an extra's library; otherwise return None."""
    if isinstance(error, ModuleNotFoundError):
        library = str(error.name).partition(".")[0]
        for extra, libraries in EXTRAS.items():
            if library in libraries:
                return MissingExtraError(_advice("this call", library, extra))
    return None


def _advice(feature: str, library: str, extra: str) -> str:
    return f'{feature} needs {library}, which is not installed; pip install "segpipe[{extra}]"'


def _is_installed(library: str) -> bool:
    try:
        # A folder of that name, such as wandb makes where it is called, has no origin.
        return getattr(find_spec(library), "origin", None) is not None
    except ImportError:
        return False


# Errors of the disk and its permissions, not of segpipe.
_DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
}


def as_write_error(error: BaseException) -> WriteError | None:
    """Convert a disk error to a WriteError; None for other errors."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        name = f"{error.filename}: " if error.filename else ""
        return WriteError(f"{name}a file cannot be written or read ({error.strerror}); make room or name another folder")
    return None
