"""Hydra launcher that runs each job as a task of Ray.

Hydra finds launchers only in a package with the name `hydra_plugins`. `hydra-ray-launcher` from PyPI needs Ray's dashboard and
old versions of other libraries that conflict with current ones.
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
    """Run jobs as tasks of Ray.

    The environment variable `RAY_ADDRESS` names a cluster whose machines share their folders with this one. Without it the jobs
    run on this machine.

    Args:
        num_cpus: Cores of each job.
        num_gpus: GPUs of each job; with a fraction, several jobs share a GPU.
    """

    def __init__(self, num_cpus: int, num_gpus: float) -> None:
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Receive the context of the sweep from Hydra."""
        self._job = (hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run one batch of jobs.

        Raises:
            MissingExtraError: Ray is not installed.
            ConfigError: Ray cannot be reached or started.
        """
        from segpipe.runs.ray_cluster import connect

        started = connect()
        import ray

        task = ray.remote(**self._resources, max_retries=0)(run_one)
        try:
            state = ray.put(Singleton.get_state())
            jobs = [
                task.remote(self._job, list(overrides), number, state)
                for number, overrides in enumerate(job_overrides, initial_job_idx)
            ]
            return [self._wait(ray.get, job) for job in jobs]
        finally:
            if started:
                ray.shutdown()

    def _wait(self, get: Callable[[Any], JobReturn], job: Any) -> JobReturn:
        result = get(job)
        # The output of the job itself stays in Ray's logs.
        print(f"{' '.join(result.overrides or [])}: {result.status.name.lower()}")
        return result


def run_one(context: Context, overrides: list[str], number: int, singletons: dict[Any, Any]) -> JobReturn:
    """Run one job in a process of Ray.

    Args:
        context: Arguments of `RayLauncher.setup`.
        overrides: Arguments of the job.
        number: Number of the job in the sweep.
        singletons: State of Hydra in the launching process.
    """
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
