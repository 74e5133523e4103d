"""Layout of a run on a cluster; no test needs Ray."""

import socket
import sys

import pytest

from segpipe.errors import ConfigError
from segpipe.inference.settings import PipelineSettings
from segpipe.runs.ray_cluster import ActorLayout, Claims, Node, choose_actor_device, plan_actors
from segpipe.runs.ray_engine import RayEngine

LAPTOP: list[Node] = [{"CPU": 8.0}]
HEAD_AND_TWO: list[Node] = [{"CPU": 4.0}, {"CPU": 16.0}, {"CPU": 16.0}]
GPUS: list[Node] = [{"CPU": 2.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        (LAPTOP, 1, 0, ActorLayout(1, 8, 0)),
        (LAPTOP, None, 0, ActorLayout(2, 4, 0)),
        (LAPTOP, 3, 0, ActorLayout(3, 2, 0)),
        (LAPTOP, 20, 0, ActorLayout(20, 1, 0)),
        (HEAD_AND_TWO, 2, 0, ActorLayout(2, 16, 0)),
        (HEAD_AND_TWO, None, 0, ActorLayout(3, 8, 0)),
        ([{"memory": 1.0}, *HEAD_AND_TWO], None, 0, ActorLayout(3, 8, 0)),
        (GPUS, None, 1, ActorLayout(5, 4, 1)),
        (GPUS, 1, 1, ActorLayout(1, 16, 1)),
        (GPUS, 9, 1, ActorLayout(9, 1, 1)),
    ],
)
def test_actors_are_as_large_as_possible(nodes: list[Node], workers: int | None, gpus: int, expected: ActorLayout) -> None:
    assert plan_actors(nodes, workers, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("name", "nodes", "expected"),
    [("auto", LAPTOP, "cpu"), ("auto", GPUS, "cuda"), ("cpu", GPUS, "cpu"), ("cuda", GPUS, "cuda"), ("mps", LAPTOP, "mps")],
)
def test_auto_device_prefers_gpus(name: str, nodes: list[Node], expected: str) -> None:
    assert choose_actor_device(name, nodes) == expected


@pytest.mark.parametrize("name", ["cuda:1", "gpu"])
def test_gpu_numbers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device must be auto, cpu, cuda or mps with engine=ray, got '{name}'"):
        choose_actor_device(name, GPUS)


def test_cuda_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match=r"device=cuda is on no node of the Ray cluster; .*device=auto"):
        choose_actor_device("cuda", LAPTOP)


def test_first_file_of_a_content_is_processed_also_after_a_restart() -> None:
    claims = Claims({"known": "k.png"})
    files = [("known", "a.png"), ("new", "b.png"), ("new", "c.png"), ("new", "b.png")]
    assert [claims.claim(*file) for file in files] == ["k.png", "b.png", "b.png", "b.png"]
    assert [claims.begin(path) for path in ("a", "b", "a")] == [1, 1, 2]


def test_ray_needs_workers_and_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="workers must be 1 or more with engine=ray, got 0"):
        RayEngine(PipelineSettings(), workers=0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'^a run on Ray needs ray, .*pip install "segpipe\[ray\]"$'):
        RayEngine(PipelineSettings(), workers=1)


def test_unreachable_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="engine=ray needs Ray, which segpipe[ray] brings")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match=f"Ray: cannot reach the cluster of RAY_ADDRESS={address} .*refused"):
            RayEngine(PipelineSettings(), workers=1)
