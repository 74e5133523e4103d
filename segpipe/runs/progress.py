"""How far a run is: a bar in a terminal, a plain line now and then in a log file."""

import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts images; use it in a `with` block.

    Args:
        total: number of images; of fewer than two nothing is shown.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._failed = 0
        self._begun = self._last_line = time.monotonic()
        self._bar = tqdm(total=total, unit=" images", disable=None if total > 1 else True, leave=False)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, images: int, *, failed: int) -> None:
        """Say that more images are through.

        Args:
            images: how many, whatever became of them.
            failed: how many have failed in all.
        """
        self._done, self._failed = self._done + images, failed
        self._bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
        self._bar.update(images)
        now = time.monotonic()
        # tqdm itself is silent where there is no terminal: its bar would fill a log file with carriage returns.
        if self._bar.disable and now - self._last_line >= SECONDS_BETWEEN_LINES and self._total > 1:
            self._last_line = now
            sys.stderr.write(self._line(now - self._begun) + "\n")
            sys.stderr.flush()

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        left = tqdm.format_interval((self._total - self._done) / rate)
        return f"{self._done} of {self._total} images, {rate:.1f} images/s, {self._failed} failed, {left} left"
