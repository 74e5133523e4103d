"""Train the segmenter, a U-Net that finds the lesion, and score it on the test split. Not a medical device."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from segpipe.cli import in_sweep, output_folder, run_script
from segpipe.config import optional_path
from segpipe.config_values import check_values, refuse_values
from segpipe.memory import keep_freed_memory
from segpipe.output import check_output


def train(config: DictConfig, output: Path) -> dict[str, Any]:
    """Train a segmenter, write its bundle, and return its metrics on the test split."""
    check_values(config)
    check_output(output, overwrite=config.overwrite, ckpt_path=optional_path(config.ckpt_path))
    keep_freed_memory()

    from segpipe.bundle import load_segmenter, save_bundle
    from segpipe.evaluation.headline import headline
    from segpipe.evaluation.score import segmenter_figures
    from segpipe.evaluation.segmenter_alone import score_segmenter
    from segpipe.training.segmenter import build_untrained, train_segmenter
    from segpipe.training.setup import prepare_data
    from segpipe.training.trial import try_parts

    with refuse_values():
        model = build_untrained(config)
        try_parts(config, model)
    data = prepare_data(config, output, need_masks=True)
    print(data.report())
    card = train_segmenter(config, data, model, output)
    save_bundle(output / "bundle", model, card)
    tested = load_segmenter(output / "bundle")
    metrics = score_segmenter(tested, data.parts["test"], output / "test", dataset=data.dataset.name)
    save_bundle(output / "bundle", model, replace(card, metrics=segmenter_figures(metrics)))
    print(f"{headline(metrics)}\nbundle in {output / 'bundle'}")
    return metrics


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="train_seg")
def main(config: DictConfig) -> float | None:
    """Entry point for the shell and for a sweep, which goes by the score on the validation images."""
    if in_sweep():
        from segpipe.sweep.job import run_job

        return run_job(config, train)
    train(config, output_folder(config))
    return None


if __name__ == "__main__":
    sys.exit(run_script(main))
