"""The data set that a configuration names."""

from functools import lru_cache

from omegaconf import DictConfig, OmegaConf

from segpipe.config.building import build
from segpipe.data.check import CheckedDataset

_NOT_OF_THE_LOADER = ("limit", "cache", "fold", "folds", "extra")


def load_dataset(data: DictConfig) -> CheckedDataset:
    """Find and check a data set; the jobs of a sweep check it once.

    Args:
        data: see `segpipe.config.groups.DataConfig`.

    Raises:
        DatasetError: it cannot be used.
    """
    arguments = {str(key): value for key, value in data.items() if key not in _NOT_OF_THE_LOADER}
    return _load(OmegaConf.to_yaml(OmegaConf.create(arguments)))


@lru_cache(maxsize=1)
def _load(settings: str) -> CheckedDataset:
    dataset: CheckedDataset = build(OmegaConf.create(settings), "data")
    return dataset
