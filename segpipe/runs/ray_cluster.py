"""The cluster of Ray: joined or started, and shared out among the actors of a run."""

import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from segpipe.errors import ConfigError


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


Node = Mapping[str, float]  # its resources by name, `CPU` and `GPU` among them


@dataclass(frozen=True)
class Actors:
    """How the work is laid out on a cluster.

    Attributes:
        number: of the actors.
        cores: of each; it works on as many batches side by side.
        gpus: of each, 1 or 0.
    """

    number: int
    cores: int
    gpus: int


def choose_device(name: str, nodes: Sequence[Node]) -> str:
    """The device of each actor; `cuda` is the one GPU that Ray gives it.

    Args:
        name: `auto`, which takes GPUs if there are any, `cpu`, `cuda` or `mps`.
        nodes: of the cluster.

    Raises:
        ConfigError: it is none of them, or no node has a GPU.
    """
    has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    if name == "auto":
        return "cuda" if has_gpus else "cpu"
    if name not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device must be auto, cpu, cuda or mps with engine=ray, got {name!r}; Ray says which GPU an actor has")
    if name == "cuda" and not has_gpus:
        raise ConfigError("device=cuda is on no node of the Ray cluster; device=auto takes what is there")
    return name


def lay_out(nodes: Sequence[Node], workers: int | None, *, gpus: int) -> Actors:
    """Share a cluster out among actors, each of them as large as all can be.

    Args:
        nodes: of the cluster.
        workers: actors, at least 1; those that find no room wait for a node to come. None takes one for each GPU, or without
            GPUs one for each node and at least two.
        gpus: of each actor, 1 or 0.
    """

    def rooms(cores: int) -> int:
        """Actors of this size that the nodes hold."""
        return sum(int(min(node.get("CPU", 0) // cores, node.get("GPU", 0) if gpus else float("inf"))) for node in nodes)

    number = workers or (max(1, rooms(1)) if gpus else max(2, sum(node.get("CPU", 0) >= 1 for node in nodes)))
    most = int(max(node.get("CPU", 0) for node in nodes))
    return Actors(number, next((cores for cores in range(most, 0, -1) if rooms(cores) >= number), 1), gpus)


def connect() -> bool:
    """Join the cluster that RAY_ADDRESS names, or else start Ray on this machine, unless this process has done so before.

    Returns:
        Whether it is for the caller to end.

    Raises:
        ConfigError: Ray is not installed, or cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray.data
    except ImportError as error:
        raise ConfigError("Ray is not installed; install segpipe[ray]") from error
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _knock(address)
        with _muted():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"reach the cluster of RAY_ADDRESS={address}" if address else "start Ray on this machine"
        hint = "; if the cluster asks for a token, set RAY_AUTH_MODE=token" if address else ""
        raise ConfigError(f"Ray: cannot {where} ({first_line(error)}){hint}") from error
    return True


def _knock(address: str) -> None:
    """See that somebody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def nodes_of_cluster() -> list[Node]:
    """What is there now; a cluster that scales may get more."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _muted() -> Iterator[None]:
    """Keep off the terminal what Ray's core writes there past Python: that it was told to write nothing, for one."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def first_line(error: BaseException) -> str:
    """Of the text of an error of Ray, which goes on with hints and traces."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
