"""Subcommands for trained models, such as `compare`, `export` and `app`."""

import socket
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from segpipe.cli.call import given_values, output_folder, say
from segpipe.config.composing import typed
from segpipe.config.fields import optional_path
from segpipe.config.values import check_values
from segpipe.errors import ConfigError, require_extra
from segpipe.io.run_files import SPLIT

PAGE = Path(__file__).parents[1] / "app" / "main.py"


def compare(config: DictConfig) -> None:
    """Run, score and time classifiers; prints the table."""
    check_values(config)

    from segpipe.comparison.compare import ComparisonSettings, compare_bundles
    from segpipe.comparison.table import name_folders
    from segpipe.inference.settings import PipelineSettings

    pipeline = PipelineSettings(
        segmenter=config.bundle.segmenter,
        localize=config.localize,
        tta=config.tta.views,
        explain="none",
        runtime=config.runtime,
        device=config.device,
        batch_size=config.batch_size,
    )
    given = ComparisonSettings(
        folder=config.folder,
        labels=Path(config.labels),
        output=output_folder(config),
        split=optional_path(config.split),
        part=config.part,
        pipeline=pipeline,
        overwrite=config.overwrite,
    )
    say(compare_bundles(name_folders(config.bundles, config.titles), given))


def ablations(config: DictConfig) -> None:
    """Compare finished runs; prints the table."""
    check_values(config)

    from segpipe.comparison.ablations import ablation_table
    from segpipe.comparison.table import name_folders
    from segpipe.evaluation.truth import read_truth

    folders = name_folders(config.runs, config.titles)
    say(ablation_table(folders, read_truth(labels=optional_path(config.labels), masks=optional_path(config.masks))))


def heatmaps(config: DictConfig) -> None:
    """Test the heatmaps of classifiers; prints the table."""
    check_values(config)

    from segpipe.bundle.card_file import SHIPPED
    from segpipe.comparison.table import name_folders
    from segpipe.evaluation.heatmap_faithfulness import HeatmapSample, results_text, score_bundles
    from segpipe.io.files import encode_json, write_file

    sample = HeatmapSample(
        folder=Path(config.folder),
        split=optional_path(config.split),
        part=config.part,
        images=config.heatmap_sample,
        segmenter=optional_path(config.bundle.segmenter) or SHIPPED / "segmenter",
        runtime=config.runtime,
        device=config.device,
    )
    results = score_bundles(name_folders(config.bundles, config.titles), sample)
    say(results_text(results))
    if config.output is not None:
        write_file(Path(config.output), encode_json(results))
        say(f"\n{config.output}")


def export(config: DictConfig) -> None:
    """Write half-precision copies and score them, or add graphs to bundles.

    Prints the headline metrics, or the parity of the graphs.
    """
    require_extra("torch", "export")
    if config.output is None:
        _export_in_place(config)
        return
    check_values(config)
    segmenter, classifier, split = find_models(config)

    from segpipe.data.check import load_dataset
    from segpipe.release.export import export_bundles

    headline = export_bundles(
        partial(load_dataset, typed(config).data),
        segmenter=segmenter,
        classifier=classifier,
        split=split,
        output=Path(config.output),
        results=optional_path(config.results),
    )
    say(f"{headline}\nbundles in {config.output}")


def _export_in_place(config: DictConfig) -> None:
    """Add graphs to the given bundles.

    Raises:
        ConfigError: No bundle is given, or a key that only the copies need.
    """
    folders = [Path(path) for path in (config.bundle.segmenter, config.bundle.classifier) if path is not None]
    others = [argument for argument in given_values(without=()) if not argument.startswith(("bundle.", "output="))]
    if others or not folders:
        given = ", ".join(others) or "no model"
        raise ConfigError(
            f"output must be given for copies, or else bundle.classifier or bundle.segmenter and nothing more, got {given}"
        )
    check_values(OmegaConf.masked_copy(config, ["bundle"]))

    from segpipe.release.export import export_in_place

    for folder in folders:
        say(export_in_place(folder))


def find_models(config: DictConfig) -> tuple[Path, Path, Path]:
    """Return the segmenter, the classifier and the split, given or in `output`.

    Raises:
        ConfigError: One model is given without the other, or there is no split.
    """
    segmenter, classifier = optional_path(config.bundle.segmenter), optional_path(config.bundle.classifier)
    if (segmenter is None) != (classifier is None):
        raise ConfigError(
            "bundle.segmenter and bundle.classifier must be given together, or neither, to score the copies in output again"
        )
    output = Path(config.output)
    segmenter, classifier = segmenter or output / "segmenter", classifier or output / "classifier"
    split = optional_path(config.split) or classifier.parent / SPLIT
    if not split.is_file():
        raise ConfigError(f"split must be the split.csv that both models were trained on, got none at {split}; give split=CSV")
    return segmenter, classifier, split


def card(config: DictConfig) -> None:
    """Write a model card to a file or to stdout."""
    check_values(config)

    from segpipe.bundle.card import ClassifierCard, SegmenterCard
    from segpipe.bundle.card_file import SHIPPED, read_model
    from segpipe.io.files import write_file
    from segpipe.release.model_card import model_card

    segmenter = read_model(Path(config.bundle.segmenter or SHIPPED / "segmenter"), "segmenter", SegmenterCard)
    classifier = read_model(Path(config.bundle.classifier or SHIPPED / "classifier"), "classifier", ClassifierCard)
    text = model_card(segmenter, classifier)
    if config.output is None:
        say(text.rstrip("\n"))
    else:
        write_file(Path(config.output), text.encode())
        say(f"model card in {config.output}")


def selftest(config: DictConfig) -> None:
    """Compare bundles with their golden outputs on stdout.

    Raises:
        SelfTestError: Some outputs differ.
    """
    check_values(config)

    from segpipe.bundle.card_file import SHIPPED
    from segpipe.workflows.selftest import require_passed, run_selftest, selftest_table

    segmenter = Path(config.bundle.segmenter or SHIPPED / "segmenter")
    checks = run_selftest(segmenter, Path(config.bundle.classifier or SHIPPED / "classifier"))
    say(selftest_table(checks))
    require_passed(checks)


def app(config: DictConfig) -> None:
    """Serve the web page until it is stopped."""
    check_values(config)
    require_extra("app", "the web page")
    check_port(config.address, config.port)

    from click import Abort
    from streamlit.web import cli

    flags = [f"--server.port={config.port}", f"--server.address={config.address}"]
    values = given_values(without=("port", "address"))
    try:
        cli.main(["run", str(PAGE), *flags, "--", *values], prog_name="streamlit", standalone_mode=False)
    except Abort as stop:  # click raises it when interrupted
        raise KeyboardInterrupt("the web page was stopped") from stop


def check_port(address: str, port: int) -> None:
    """Refuse an address of another machine and a port in use.

    Raises:
        ConfigError: The page cannot be served there.
    """
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise ConfigError(
            f"address and port must be free on this machine, got {address} and {port} ({error.strerror}); choose another "
            "port, for example port=8502"
        ) from error
