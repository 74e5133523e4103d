"""What can go wrong at the borders: each error is one clear line, and knows the exit status it leads to."""

import errno
from typing import ClassVar


class SegpipeError(Exception):
    """A problem that the user can mend; shown as one line, never as a traceback.

    Attributes:
        exit_status: what an entry script ends with: 2 for a wrong call, 1 for work that failed.
    """

    exit_status: ClassVar[int] = 2


class ConfigError(SegpipeError, ValueError):
    """A key or a value of the configuration is wrong."""


class ImageError(SegpipeError):
    """A file cannot be used as an image."""


class MaskError(ImageError):
    """A picture cannot be used as a mask."""


class DatasetError(SegpipeError):
    """A data set, a split or a table of labels cannot be used."""


class LeakError(SegpipeError):
    """The parts of a split share lesions or photographs, which are listed."""

    exit_status = 1


class BundleError(SegpipeError):
    """A model on disk is damaged, foreign, or of another kind."""


class OutputError(SegpipeError):
    """The output folder cannot be used."""


class WriteError(OutputError):
    """A file cannot be written, because the disk is full for one; what was there before is whole."""

    exit_status = 1


class PredictionError(SegpipeError):
    """A model gave a number that is not finite, so that nothing can be said of an image."""

    exit_status = 1


class ImagesFailedError(SegpipeError):
    """Some or all images of a folder failed; the others were done."""

    exit_status = 1


class RunStoppedError(SegpipeError):
    """A run over images cannot go on; what was done until then is kept."""

    exit_status = 1


class TrainingError(SegpipeError):
    """A training started and failed."""

    exit_status = 1


def one_line(text: str, longest: int = 300) -> str:
    """The beginning of a text of unknown origin on one line, see `escape_unprintable`."""
    return escape_unprintable(" ".join(text.split())[:longest])


def escape_unprintable(text: str) -> str:
    """A text of unknown origin as a terminal may take it: what cannot be printed stands as its escape, line breaks stay."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


# Of the disk and the rights on it, not of segpipe.
_DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
}


def as_write_error(error: BaseException) -> WriteError | None:
    """Turn an OSError of the disk into an error of segpipe; None where it is another one."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        where = f"{error.filename}: " if error.filename else ""
        return WriteError(f"{where}a file cannot be written or read ({error.strerror}); make room or name another folder")
    return None
