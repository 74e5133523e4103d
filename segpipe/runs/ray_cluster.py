"""Ray clusters: connection, layout of the actors, and claims on duplicate files."""

import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from segpipe.errors import ConfigError, require_extra


class Claims:
    """Registry of duplicate files, and of the starts of each batch.

    Args:
        paths: Paths of the files that have results already, by SHA-256.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        self._starts: Counter[str] = Counter()

    def claim(self, sha256: str, path: str) -> str:
        """Return the path of the first file with this content."""
        return self._paths.setdefault(sha256, path)

    def begin(self, path: str) -> int:
        """Count and return the starts of the batch that begins with `path`."""
        self._starts[path] += 1
        return self._starts[path]


Node = Mapping[str, float]  # resources by name, such as `CPU` and `GPU`


@dataclass(frozen=True)
class ActorLayout:
    """Number and size of the actors on a cluster.

    Attributes:
        number: Number of actors.
        cores: Cores of each actor; it processes as many batches in parallel.
        gpus: GPUs of each actor, 1 or 0.
    """

    number: int
    cores: int
    gpus: int


def choose_actor_device(name: str, nodes: Sequence[Node]) -> str:
    """Choose the device of each actor.

    Args:
        name: `auto`, which takes GPUs if there are any, `cpu`, `cuda` (the one GPU that Ray assigns) or `mps`.
        nodes: Nodes of the cluster.

    Raises:
        ConfigError: The name is unknown, or no node has a GPU.
    """
    has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    if name == "auto":
        return "cuda" if has_gpus else "cpu"
    if name not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device must be auto, cpu, cuda or mps with engine=ray, got {name!r}; Ray assigns the GPUs")
    if name == "cuda" and not has_gpus:
        raise ConfigError("device=cuda is on no node of the Ray cluster; use device=auto for what is available")
    return name


def plan_actors(nodes: Sequence[Node], workers: int | None, *, gpus: int) -> ActorLayout:
    """Divide a cluster into the largest actors of equal size.

    Args:
        nodes: Nodes of the cluster.
        workers: Number of actors, at least 1; those that do not fit wait for another node. None takes one for each GPU, or
            without GPUs one for each node and at least two.
        gpus: GPUs of each actor, 1 or 0.
    """

    def capacity(cores: int) -> int:
        """Count the actors of this size that fit on the nodes."""
        return sum(int(min(node.get("CPU", 0) // cores, node.get("GPU", 0) if gpus else float("inf"))) for node in nodes)

    number = workers or (max(1, capacity(1)) if gpus else max(2, sum(node.get("CPU", 0) >= 1 for node in nodes)))
    most = int(max(node.get("CPU", 0) for node in nodes))
    return ActorLayout(number, next((cores for cores in range(most, 0, -1) if capacity(cores) >= number), 1), gpus)


def connect() -> bool:
    """Connect to the cluster of RAY_ADDRESS, or start Ray on this machine.

    Returns:
        True where the caller must shut Ray down; false where this process was connected before.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: Ray cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    require_extra("ray", "a run on Ray")
    import ray.data

    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _check_reachable(address)
        with _silenced_stderr():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"reach the cluster of RAY_ADDRESS={address}" if address else "start Ray on this machine"
        hint = "; if the cluster asks for a token, set RAY_AUTH_MODE=token" if address else ""
        raise ConfigError(f"Ray: cannot {where} ({first_line(error)}){hint}") from error
    return True


def _check_reachable(address: str) -> None:
    """Check that the port accepts connections: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def nodes_of_cluster() -> list[Node]:
    """Return the current nodes; an autoscaling cluster may add more."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Silence what Ray's core writes to stderr outside of Python."""
    sys.stderr.flush()
    original, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(nowhere)


def first_line(error: BaseException) -> str:
    """Return the first line of a Ray error, without hints and traces."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
