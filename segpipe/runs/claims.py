"""What the workers of several machines must agree on; it has a process of its own, which needs no models and no torch."""

from collections import Counter
from collections.abc import Mapping


class Claims:
    """Says who does a file that is there more than once, and how often a batch was begun.

    Args:
        paths: of the files that have their results already, by their SHA-256.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        self._begun: Counter[str] = Counter()

    def claim(self, sha256: str, path: str) -> str:
        """The path of the first file with this content; the same again to one who asks again, because it has to start over."""
        return self._paths.setdefault(sha256, path)

    def begin(self, path: str) -> int:
        """How often the batch whose first file is `path` was begun, this time included."""
        self._begun[path] += 1
        return self._begun[path]
