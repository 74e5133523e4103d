"""How a run is laid out on the machines of a cluster; none of it needs Ray."""

import socket
import sys

import pytest

from segpipe.errors import ConfigError
from segpipe.inference.settings import PipelineSettings
from segpipe.runs.ray_cluster import Actors, Claims, Node, choose_device, lay_out
from segpipe.runs.ray_engine import RayEngine

LAPTOP: list[Node] = [{"CPU": 8.0}]
HEAD_AND_TWO: list[Node] = [{"CPU": 4.0}, {"CPU": 16.0}, {"CPU": 16.0}]
GPUS: list[Node] = [{"CPU": 2.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        (LAPTOP, 1, 0, Actors(1, 8, 0)),
        (LAPTOP, None, 0, Actors(2, 4, 0)),
        (LAPTOP, 3, 0, Actors(3, 2, 0)),
        (LAPTOP, 20, 0, Actors(20, 1, 0)),
        (HEAD_AND_TWO, 2, 0, Actors(2, 16, 0)),
        (HEAD_AND_TWO, None, 0, Actors(3, 8, 0)),
        ([{"memory": 1.0}, *HEAD_AND_TWO], None, 0, Actors(3, 8, 0)),
        (GPUS, None, 1, Actors(5, 4, 1)),
        (GPUS, 1, 1, Actors(1, 16, 1)),
        (GPUS, 9, 1, Actors(9, 1, 1)),
    ],
)
def test_actors_are_as_large_as_all_can_be(nodes: list[Node], workers: int | None, gpus: int, expected: Actors) -> None:
    assert lay_out(nodes, workers, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("name", "nodes", "expected"),
    [("auto", LAPTOP, "cpu"), ("auto", GPUS, "cuda"), ("cpu", GPUS, "cpu"), ("cuda", GPUS, "cuda"), ("mps", LAPTOP, "mps")],
)
def test_gpus_are_taken_where_there_are_some(name: str, nodes: list[Node], expected: str) -> None:
    assert choose_device(name, nodes) == expected


@pytest.mark.parametrize("name", ["cuda:1", "gpu"])
def test_no_actor_is_told_which_gpu_it_has(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device must be auto, cpu, cuda or mps with engine=ray, got '{name}'"):
        choose_device(name, GPUS)


def test_gpus_must_be_there() -> None:
    with pytest.raises(ConfigError, match="device=cuda is on no node of the Ray cluster; device=auto takes what is there"):
        choose_device("cuda", LAPTOP)


def test_first_file_of_a_content_is_done_for_all_also_when_it_asks_again() -> None:
    claims = Claims({"known": "k.png"})
    asked = [("known", "a.png"), ("new", "b.png"), ("new", "c.png"), ("new", "b.png")]
    assert [claims.claim(*ask) for ask in asked] == ["k.png", "b.png", "b.png", "b.png"]
    assert [claims.begin(path) for path in ("a", "b", "a")] == [1, 1, 2]


def test_ray_needs_a_worker_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="workers must be 1 or more with engine=ray, got 0"):
        RayEngine(PipelineSettings(), workers=0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^Ray is not installed; install segpipe\[ray\]$"):
        RayEngine(PipelineSettings(), workers=1)


def test_cluster_that_is_not_there_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="engine=ray needs Ray, which segpipe[ray] brings")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match=f"Ray: cannot reach the cluster of RAY_ADDRESS={address} .*refused"):
            RayEngine(PipelineSettings(), workers=1)
