"""Progress of long work: a bar, or lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

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
        self._done = self._failed = 0
        self._started = self._last_line = time.monotonic()
        disable = None if total > 1 else True
        self._bar = tqdm(total=total, desc=what or None, unit=" images", disable=disable, leave=False, delay=silent)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, images: int, *, failed: int = 0) -> None:
        """Count more images.

        Args:
            images: Number of images that were finished since the last call, failed ones included.
            failed: Number of all images that have failed so far.
        """
        self._done, self._failed = self._done + images, failed
        self._bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
        self._bar.update(images)
        now = time.monotonic()
        # tqdm itself is silent without a terminal: its bar would fill a log file with carriage returns.
        if self._bar.disable and now - self._last_line >= SECONDS_BETWEEN_LINES and self._total > 1:
            self._last_line = now
            sys.stderr.write(f"{self._what}{self._line(now - self._started)}\n")
            sys.stderr.flush()

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        left = tqdm.format_interval((self._total - self._done) / rate)
        return f"{self._done} of {self._total} images, {rate:.1f} images/s, {self._failed} failed, {left} left"


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
