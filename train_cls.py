"""Train the classifier, which names a lesion, and score it end to end on the test split. Not a medical device."""

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from segpipe.cli import in_sweep, output_folder, run_script
from segpipe.config import optional_path
from segpipe.config_values import AUTO, check_values, refuse_values, threshold_targets
from segpipe.memory import keep_freed_memory
from segpipe.output import check_output
from segpipe.training.imbalance import double_remedy


def train(config: DictConfig, output: Path) -> dict[str, Any]:
    """Train a classifier, write its bundle, and return its metrics on the test split, with the U-Net's own crops."""
    check_values(config)
    check_output(output, overwrite=config.overwrite, ckpt_path=optional_path(config.ckpt_path))
    if warning := double_remedy(config):
        sys.stderr.write(f"warning: {warning}\n")
    keep_freed_memory()

    from segpipe.bundle import load_classifier, save_bundle
    from segpipe.evaluation.headline import headline
    from segpipe.evaluation.held_out import (
        calibrate,
        find_missing_masks,
        load_unseen_segmenter,
        present_targets,
        score_classifier,
    )
    from segpipe.evaluation.out_of_fold import predict_fold
    from segpipe.evaluation.score import scored_card
    from segpipe.inference.tta import VIEWS
    from segpipe.training.classifier import build_untrained, fit_head, train_classifier
    from segpipe.training.setup import prepare_data
    from segpipe.training.trial import try_parts

    with refuse_values():
        model, _ = build_untrained(config)
        try_parts(config, model)
    data = prepare_data(config, output, need_masks=False)
    print(data.report())
    if data.missing_classes:
        sys.stderr.write(f"warning: {data.missing_classes}\n")
    targets = present_targets(threshold_targets(config), data, required=config.threshold.diagnosis != AUTO)
    plan, start = fit_head(config, data, model)
    print(f"{start}\n{plan}")
    segmenter = load_unseen_segmenter(config, data)
    checked = data.parts  # with true masks only, by which alone masks are scored
    data, masks = find_missing_masks(segmenter, data, output / "found_masks")
    print(masks)
    card = train_classifier(config, data, model, plan, output)
    save_bundle(output / "bundle", model, card)
    answer = {"views": VIEWS[config.tta.views], "batch_size": config.batch_size}
    card = calibrate(
        segmenter, load_classifier(output / "bundle"), data.parts, method=config.calibration, targets=targets, **answer
    )
    save_bundle(output / "bundle", model, card)
    answer |= {"dataset": data.dataset.name}
    if config.data.fold is not None:
        predict_fold(segmenter, load_classifier(output / "bundle"), checked["val"], output, fold=config.data.fold, **answer)
    answer |= {"heatmaps": config.heatmap_sample}
    metrics = score_classifier(segmenter, load_classifier(output / "bundle"), checked["test"], output / "test", **answer)
    save_bundle(output / "bundle", model, scored_card(card, metrics))
    print(f"{headline(metrics)}\nbundle in {output / 'bundle'}")
    return metrics


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="train_cls")
def main(config: DictConfig) -> float | None:
    """Entry point for the shell and for a sweep, which goes by the score on the validation images."""
    if in_sweep():
        from segpipe.sweep.job import run_job

        return run_job(config, train)
    train(config, output_folder(config))
    return None


if __name__ == "__main__":
    sys.exit(run_script(main))
