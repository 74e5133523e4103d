"""Train the classifier, which names a lesion, and score it end to end on the test split. Not a medical device."""

import sys
from dataclasses import replace
from typing import Any

import hydra
from omegaconf import DictConfig

from segpipe.cli import run_script
from segpipe.config import require_paths
from segpipe.output import output_folder, prepare_output


def train(config: DictConfig) -> dict[str, Any]:
    """Train a classifier, write its bundle, and return its metrics on the test split, with the U-Net's own crops."""
    require_paths(config, "split", "ckpt_path", "bundle.segmenter")
    output = output_folder(config)
    prepare_output(output, overwrite=config.overwrite)

    from segpipe.bundle import load_classifier, save_bundle
    from segpipe.evaluation.score import headline
    from segpipe.evaluation.test_split import calibrate, load_unseen_segmenter, score_classifier
    from segpipe.training.classifier import build_untrained, train_classifier
    from segpipe.training.setup import prepare_data

    model, plan = build_untrained(config)
    print(plan)
    data = prepare_data(config, output, need_masks=False)
    print(data.dataset.report())
    segmenter = load_unseen_segmenter(config, data)
    card = train_classifier(config, data, model, plan, output)
    save_bundle(output / "bundle", model, card)
    card = replace(card, temperature=calibrate(segmenter, load_classifier(output / "bundle"), data.parts["val"], config))
    save_bundle(output / "bundle", model, card)
    metrics = score_classifier(segmenter, load_classifier(output / "bundle"), data.parts["test"], output / "test", config)
    save_bundle(output / "bundle", model, replace(card, metrics=metrics))
    print(f"{headline(metrics)}\nbundle in {output / 'bundle'}")
    return metrics


@hydra.main(version_base="1.3", config_path="conf", config_name="train_cls")
def main(config: DictConfig) -> None:
    """Entry point for the shell and for a sweep."""
    train(config)


if __name__ == "__main__":
    sys.exit(run_script(main))
