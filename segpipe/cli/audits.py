"""Subcommands that measure the trust in a trained model or in labels."""

from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig

from segpipe.cli.call import output_folder, say
from segpipe.config.composing import typed
from segpipe.config.fields import optional_path
from segpipe.config.values import check_values
from segpipe.errors import ConfigError, require_extra
from segpipe.io.run_files import GATE_AUDIT, SPLIT


def gate(config: DictConfig) -> None:
    """Measure the input gate; prints the table."""
    check_values(config)

    from segpipe.bundle.card_file import SHIPPED
    from segpipe.data.check import load_dataset
    from segpipe.data.splits import assign_parts, read_split
    from segpipe.evaluation.gate_audit import audit_segmenter, dataset_sets, folder_set, gate_table
    from segpipe.inference.runtimes import Runtime
    from segpipe.io.files import encode_json, write_file

    folder = optional_path(config.bundle.segmenter) or SHIPPED / "segmenter"
    listed = read_split(find_split(config.split, folder))
    outside = typed(config).outside or []
    folders = outside if isinstance(outside, list) else [outside]
    of_folders = [folder_set(Path(path), images=config.images) for path in folders]
    dataset = load_dataset(typed(config).data)
    sets = dataset_sets(assign_parts(dataset.table, listed), images=config.images)
    audit = audit_segmenter(Runtime.of(config.runtime, device=config.device), folder, [*sets, *of_folders])
    say(gate_table(audit.sets))
    if not audit.has_score:
        say("\nrules alone: the segmenter has no reference data of a gate, or its graph returns no features")
    if config.output is not None:
        path = Path(config.output, GATE_AUDIT)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, encode_json({"dataset": dataset.name, **asdict(audit)}))
        say(f"\n{path}")


def labels(config: DictConfig) -> None:
    """Rank likely label errors; prints a summary."""
    check_values(config)
    require_extra("metrics", "segpipe audit labels")

    from segpipe.evaluation.label_audit import draw_sheet, find_files, rank_labels, ranking_text, read_predictions, write_ranking

    output = output_folder(config)
    labeled = read_predictions(Path(config.predictions), optional_path(config.labels))
    ranked = rank_labels(labeled)
    files = {} if config.folder is None else find_files(config.folder, list(ranked["image_id"][: config.shown]))
    say(ranking_text(ranked, labeled))
    say(f"\n{write_ranking(output, ranked)}")
    if files:
        say(f"{draw_sheet(output, ranked[ranked['image_id'].isin(files)], files)}")


def find_split(given: str | None, folder: Path) -> Path:
    """Return the given split, or the one beside the bundle.

    Raises:
        ConfigError: There is none.
    """
    split = optional_path(given) or folder.parent / SPLIT
    if not split.is_file():
        raise ConfigError(f"split must be the split.csv that the segmenter was trained on, got none at {split}; give split=CSV")
    return split
