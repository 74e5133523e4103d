"""Report of a run, as chosen by the call, with the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.config.prediction import CONTACT_SHEET, HTML, NO_REPORT, RunPipelineConfig
from segpipe.errors import require_extra

if TYPE_CHECKING:
    from segpipe.evaluation.truth import GroundTruth
    from segpipe.runs.folder import RunResult


def check_report(config: RunPipelineConfig) -> None:
    """Refuse, before a run, a report whose libraries are not installed.

    Raises:
        MissingExtraError: A PDF needs the extra `plots`.
    """
    if config.report not in {NO_REPORT, HTML}:
        require_extra("plots", f"report={config.report}", "fpdf")


def write_reports(
    config: RunPipelineConfig, output: Path, result: "RunResult", truth: "GroundTruth | None", metrics: Mapping[str, Any]
) -> None:
    """Write the report that a call asks for, or none.

    Args:
        config: Configuration of the call.
        output: Output folder of the run, with the pictures of the report.
        result: Result of the run.
        truth: Ground truth of its images; None without.
        metrics: Content of `metrics.json`; empty without ground truth.

    Raises:
        OutputError: A file cannot be written.
    """
    if config.report == NO_REPORT:
        return

    from segpipe.report.truth import NO_TRUTH, ReportTruth

    known = NO_TRUTH if truth is None else ReportTruth(truth.diagnoses or {}, truth.masks or {}, metrics)
    contents = output, result.rows, result.names, result.failures, result.summary
    if config.report == HTML:
        from segpipe.report.html_report import write_report

        root = None if config.similar.root is None else Path(config.similar.root)
        write_report(*contents, training_images=root, truth=known)
        return

    from segpipe.report.pdf_report import write_pdf_report

    write_pdf_report(*contents, truth=known, pages=config.report != CONTACT_SHEET)
