"""Error classes, each with the exit status that it leads to."""

import errno
from typing import ClassVar


class SegpipeError(Exception):
    """Problem that the user can solve; shown as one line.

    Attributes:
        exit_status: Exit status of the command: 2 for a wrong call, 1 for work that failed.
    """

    exit_status: ClassVar[int] = 2


class ConfigError(SegpipeError, ValueError):
    """Wrong key or value of the configuration."""


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


class ImagesFailedError(SegpipeError):
    """Run over a folder in which some or all images failed."""

    exit_status = 1


class RunStoppedError(SegpipeError):
    """Run over images that cannot continue; its results so far are kept."""

    exit_status = 1


class TrainingError(SegpipeError):
    """Training that started and failed."""

    exit_status = 1


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
