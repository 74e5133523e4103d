"""Results of a run over a folder, as Python takes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

# All other columns hold numbers, but for `flagged`.
_TEXTS = ("path", "sha256", "status", "diagnosis", "mask_source", "mask_reasons", "flagged_for", "warnings", "crop_border")


class Failure(NamedTuple):
    """An image without a result.

    Attributes:
        path: Path relative to the folder.
        reason: Reason, in one line.
    """

    path: str
    reason: str


class _TableAndFailures(NamedTuple):
    table: "pd.DataFrame"
    failures: list[Failure]


class FolderResult(_TableAndFailures):
    """Results of a run over a folder; `table, failures = result` unpacks them.

    Attributes:
        table: One row for each image with a result, sorted by path, with the columns of `results.csv`: texts as str (empty where
            there is none), `flagged` as boolean (missing where no operating point is known), numbers (NaN where there is none).
        failures: Images without a result, sorted by path.
        output: Folder that the run wrote into.
        metrics: Content of `metrics.json`; empty where neither labels nor masks were given.
    """

    output: Path
    metrics: Mapping[str, Any]

    @classmethod
    def read(cls, output: Path, failures: Sequence[tuple[str, str]], metrics: Mapping[str, Any]) -> "FolderResult":
        """Read the table of a run that has ended.

        Args:
            output: Folder of the run.
            failures: Path and reason of each image without a result.
            metrics: Metrics of the run.
        """
        result = cls(read_table(output / "results.csv"), [Failure(*failure) for failure in failures])
        result.output, result.metrics = output, metrics
        return result


def read_table(path: Path) -> "pd.DataFrame":
    """Read `results.csv` with the types of `FolderResult.table`."""
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["flagged"] = table["flagged"].map({"true": True, "false": False}).astype("boolean")
    numbers = table.columns.difference([*_TEXTS, "flagged"])
    table[numbers] = table[numbers].apply(pd.to_numeric)
    return table
