"""Hydra's launcher for Ray: each job of a sweep is a task on the cluster, or on this machine where there is none.

Hydra takes launchers only from a package of the name `hydra_plugins`. The `hydra-ray-launcher` of PyPI asks for Ray's dashboard
and for old versions of other libraries, which do not go together with today's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

Context = tuple[HydraContext, TaskFunction, DictConfig]


class RayLauncher(Launcher):
    """Runs jobs as tasks of Ray; `RAY_ADDRESS` names a cluster, whose machines see the same folders as this one.

    Args:
        num_cpus: cores of each job.
        num_gpus: GPUs of each job; a fraction lets several share one.
    """

    def __init__(self, num_cpus: int, num_gpus: float) -> None:
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self._job = (hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Called by Hydra; runs one batch of jobs.

        Raises:
            ConfigError: Ray is not installed, or cannot be reached or started.
        """
        from segpipe.runs.ray_cluster import connect

        ours = connect()
        import ray

        task = ray.remote(**self._resources, max_retries=0)(run_one)
        try:
            state = ray.put(Singleton.get_state())
            jobs = [
                task.remote(self._job, list(overrides), initial_job_idx + place, state)
                for place, overrides in enumerate(job_overrides)
            ]
            return [self._wait(ray.get, job) for job in jobs]
        finally:
            if ours:
                ray.shutdown()

    def _wait(self, get: Callable[[Any], JobReturn], job: Any) -> JobReturn:
        ended = get(job)
        # What the job itself printed stays with Ray.
        print(f"{' '.join(ended.overrides or [])}: {ended.status.name.lower()}")
        return ended


def run_one(context: Context, overrides: list[str], number: int, singletons: dict[Any, Any]) -> JobReturn:
    """One job, in a process of Ray; `singletons` is what Hydra knows in the process that launched it."""
    hydra_context, task_function, config = context
    setup_globals()
    Singleton.set_state(singletons)
    job = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = f"{job.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(job)
    return run_job(
        hydra_context=hydra_context,
        config=job,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
