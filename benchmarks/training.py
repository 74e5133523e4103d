"""Speed of segpipe's trainings relative to plain steps on random tensors.

    python benchmarks/training.py
    python benchmarks/training.py data.root=data/ham10000
    python benchmarks/training.py --device cuda --size 224 --batch 256 --images 8192 data.root=data/ham10000 workers=14

The difference is the cost of data, augmentation and Lightning; freezing saves time. By default the images are synthetic, so no
data set is needed. `key=value` arguments go to both trainings, as in train_cls.py.

"bare steps" are forward, loss, backward and optimizer on one random batch: same network, batch, precision and optimizer, without
data and without Lightning. "training" is the loop of train_cls.py and train_seg.py: cached examples, augmentation, clipping,
metrics, progress bar; validation and checkpoints, which run between epochs, are not timed. Each epoch is one measurement, and the
measurements take turns within each round, so that other load slows all of them alike; a ratio is the median over the rounds. The
first epoch is not counted.

Exit status: 1 if a training reaches less than 0.9 of the throughput of bare steps; else 0.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from segpipe.config.composing import typed
from segpipe.config.schemas import TrainConfig, TrainSegConfig
from segpipe.data.splits import PARTS
from segpipe.diagnosis import CODES
from segpipe.inference.resources import keep_freed_memory
from segpipe.training import classifier, segmenter
from segpipe.training.parts import build_optimizer, fit_as_configured
from segpipe.training.preparation import prepare_data
from segpipe.training.schedule import UnfreezePlan

CONF = Path(__file__).parents[1] / "conf"
LEAST_RATE = 0.9
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
BARE, TRAINING, LOADER = "bare steps", "training", "its loader alone"


@dataclass
class BareSteps:
    """Training steps of a copy of the model on one random batch."""

    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    inputs: Tensor
    targets: Tensor
    autocast: torch.dtype | None

    def __call__(self, steps: int) -> None:
        """Run this many steps."""
        for _ in range(steps):
            with torch.autocast(self.inputs.device.type, self.autocast, enabled=self.autocast is not None):
                loss = self.loss(self.model(self.inputs), self.targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def bare_steps(trainer: Trainer, task: LightningModule, config: TrainConfig, size: int) -> BareSteps:
    """Make the bare steps of a training that is about to start."""
    model, batch, device = copy.deepcopy(task.model).train(), config.batch_size, task.device
    inputs = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    of_masks = isinstance(config, TrainSegConfig)
    targets = (
        torch.rand(batch, 1, size, size, device=device).round()
        if of_masks
        else torch.randint(len(CODES), (batch,), device=device)
    )
    optimizer = build_optimizer(config.optimizer)(model.parameters())
    return BareSteps(model, task.loss, optimizer, inputs, targets, AUTOCAST.get(trainer.precision))


def now() -> float:
    """Return the time in seconds, after pending work of the accelerator."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


class EpochTimer(Callback):
    """Timer of the epochs of a training and of bare steps.

    Each epoch has its own frozen stages; bare steps run before the epochs in which all stages are trained.

    Attributes:
        times: Milliseconds per image in each round, by variant.
    """

    def __init__(self, variants: dict[str, Sequence[str]], config: TrainConfig, size: int) -> None:
        self._variants = variants
        self._config = config
        self._size = size
        self.times: dict[str, list[float]] = defaultdict(list)
        self.precision = ""

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Hook of Lightning."""
        self.precision = str(trainer.precision)
        self._bare = bare_steps(trainer, task, self._config, self._size)
        self._bare(1)

    def on_train_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Hook of Lightning, after the callback that unfreezes."""
        self._variant = list(self._variants)[(trainer.current_epoch - 1) % len(self._variants)]
        if len(self._variants) > 1:
            task.model.freeze(self._variants[self._variant])
        if self._variant == TRAINING and trainer.current_epoch > 0:
            start = now()
            self._bare(trainer.num_training_batches)
            self._record(BARE, start, trainer)
        self._start = now()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Hook of Lightning."""
        if trainer.is_last_batch and trainer.current_epoch > 0:
            self._record(self._variant, self._start, trainer)

    def on_train_end(self, trainer: Trainer, _: LightningModule) -> None:
        """Hook of Lightning."""
        start = now()
        for _batch in trainer.train_dataloader:
            pass
        self._record(LOADER, start, trainer)

    def _record(self, variant: str, start: float, trainer: Trainer) -> None:
        images = trainer.num_training_batches * self._config.batch_size
        self.times[variant].append((now() - start) * 1000 / images)


def configure(stage: str, options: argparse.Namespace, folder: Path) -> TrainConfig:
    """Compose the configuration with synthetic images, or those of `data.root`."""
    network = "classifier" if stage == "cls" else "segmenter"
    images = math.ceil(options.images / 0.7)  # the fraction of the train part
    synthetic = ["data=synthetic", f"data.root={folder / 'data'}", f"data.cache={folder / 'cache'}"]
    synthetic += [f"data.lesions={images}", "data.images_per_lesion=1"]
    accelerator = {"cuda": "gpu"}.get(options.device, options.device)
    keys = [
        *([f"data.limit={images}"] if any(key.startswith("data.root=") for key in options.keys) else synthetic),
        *(["unfreeze=all_at_once"] if stage == "cls" else []),
        *(f"{network}.input_size={options.size}", f"{network}.init=random", f"batch_size={options.batch}"),
        *(f"trainer.accelerator={accelerator}", "trainer.devices=1", "trainer.patience=1000000"),
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose(f"train_{stage}", [*keys, *options.keys]))


def frozen_stages(plan: UnfreezePlan) -> dict[str, Sequence[str]]:
    """List the frozen stages of each variant, from none to all."""
    names = [stage.name for stage in reversed(plan.stages)]
    return {TRAINING: []} | {f"{', '.join(names[depth:])} only": names[:depth] for depth in range(1, len(names))}


def run(stage: str, options: argparse.Namespace, folder: Path) -> tuple[EpochTimer, int]:
    """Train one network; return its timer and the images of an epoch."""
    config = configure(stage, options, folder)
    module = classifier if stage == "cls" else segmenter
    built = module.build_untrained(config)
    model, variants = (built[0], frozen_stages(built[1])) if stage == "cls" else (built, {TRAINING: []})
    config.trainer.max_epochs = 1 + options.rounds * len(variants)
    timer = EpochTimer(variants, config, options.size)

    def timed_fit(*arguments: Any, callbacks: Sequence[Callback] = (), **named: Any) -> Any:
        return fit_as_configured(*arguments, callbacks=[*callbacks, timer], **named)

    output = folder / stage
    output.mkdir()
    data = prepare_data(config, output, need_masks=stage == "seg")
    with patch.object(module, "fit_as_configured", timed_fit), redirect_stdout(sys.stderr):
        if stage == "cls":
            classifier.fit_classifier(config, data, model, built[1], output)
        else:
            segmenter.fit_segmenter(config, data, model, output)
    return timer, len(data.parts[PARTS[0]])


def report(name: str, timer: EpochTimer, images: int) -> dict[str, Any]:
    """Print one block of the table, and return its values."""
    times = timer.times
    print(f"\n{name}, {timer.precision}, {images} images an epoch, {len(times[BARE])} rounds")
    print(f"{'':42}{'ms / image':>12}{'rate x bare':>13}{'rate x training':>17}")
    table = {}
    for variant in (BARE, TRAINING, *(variant for variant in times if variant not in (BARE, TRAINING, LOADER)), LOADER):
        rates = {
            "x_bare": [bare / mine for bare, mine in zip(times[BARE], times[variant], strict=False)],
            "x_training": [training / mine for training, mine in zip(times[TRAINING], times[variant], strict=False)],
        }
        row = {"ms_per_image": statistics.median(times[variant])} | {key: statistics.median(rate) for key, rate in rates.items()}
        print(f"{variant:42}{row['ms_per_image']:12.2f}{row['x_bare']:13.2f}{row['x_training']:17.2f}")
        table[variant] = row | {"rounds_ms_per_image": times[variant]}
    return {"precision": timer.precision, "images": images, "routes": table}


def parse() -> argparse.Namespace:
    """Parse the arguments of the call."""
    parser = argparse.ArgumentParser(description="Speed of segpipe's trainings relative to bare steps on random tensors.")
    parser.add_argument("--size", type=int, default=192, help="side of the square input, pixels; a multiple of 32")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--images", type=int, default=448, help="approximate images per epoch, enough for seconds on a GPU")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each variant")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--only", choices=("cls", "seg"), help="only the classifier, only the U-Net")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("keys", nargs="*", metavar="key=value", help="settings of both, such as data.root=DIR workers=8")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parse()
    keep_freed_memory()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() and options.device != "cpu" else "CPU"
    setting = {
        **{"torch": torch.__version__, "device": device, "threads": torch.get_num_threads()},
        **{key: getattr(options, key) for key in ("size", "batch", "rounds")},
        "keys": [key for key in options.keys if not key.startswith(("data.root=", "data.cache="))],  # paths of one machine
        "images from": "data.root" if any(key.startswith("data.root=") for key in options.keys) else "synthetic",
    }
    print(", ".join(f"{key} {value}" for key, value in setting.items() if value))
    results = {}
    for stage, name in (("cls", "classifier"), ("seg", "U-Net")):
        if options.only in (None, stage):
            with tempfile.TemporaryDirectory() as folder:
                results[name] = report(name, *run(stage, options, Path(folder)))
    if options.output is not None:
        options.output.write_text(json.dumps(setting | results, indent=1) + "\n", encoding="utf-8")
    passed = all(result["routes"][TRAINING]["x_bare"] >= LEAST_RATE for result in results.values())
    print("\npassed" if passed else f"\nFAILED: at least {LEAST_RATE} of the throughput of bare steps is required")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
