"""Progress of long work: a bar, or lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
_SILENT_SECONDS = 3.0

Item = TypeVar("Item")


class Progress:
    """Counter of images; use it in a `with` block.

    Args:
        total: Number of images; nothing is shown for fewer than two.
        what: Name of the work, shown before the numbers.
        silent: Seconds before the bar appears.
    """

    def __init__(self, total: int, what: str = "", *, silent: float = 0.0) -> None:
        self._total = total
        self._what = f"{what}: " if what else ""
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar = _start_bar(total, what, silent) if total > 1 else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, images: int, *, failed: int = 0) -> None:
        """Count more images.

        Args:
            images: Number of images that were finished since the last call, failed ones included.
            failed: Number of all images that have failed so far.
        """
        if self._bar is None:
            return
        self._done += images
        self._bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
        self._bar.update(images)
        now = time.monotonic()
        # tqdm itself is silent without a terminal: its bar would fill a log file with carriage returns.
        if self._bar.disable and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = self._done / (now - self._started)
            left = self._bar.format_interval((self._total - self._done) / rate)
            sys.stderr.write(
                f"{self._what}{self._done} of {self._total} images, {rate:.1f} images/s, {failed} failed, {left} left\n"
            )
            sys.stderr.flush()


def _start_bar(total: int, what: str, silent: float) -> "tqdm[NoReturn]":
    from tqdm import tqdm  # imported late: a single image needs no bar

    return tqdm(total=total, desc=what or None, unit=" images", disable=None, leave=False, delay=silent)


def follow(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield items and show the progress of their consumer.

    Args:
        items: Items, one for each image.
        total: Number of items.
        what: Name of the work.
    """
    with Progress(total, what, silent=_SILENT_SECONDS) as progress:
        for item in items:
            yield item
            progress.update(1)
