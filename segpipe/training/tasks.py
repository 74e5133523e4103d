"""What one step of a training does: the model, its loss, its metrics, its optimizer."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, Metric
from torchmetrics.utilities import dim_zero_cat

from segpipe.models.preprocessing import InputSpec, normalize
from segpipe.training.consistency import TurnConsistency


class MaskMetrics(Metric):
    """Dice and IoU of masks at a threshold of 0.5, in the network's resolution, each the mean over images."""

    dice: Tensor
    iou: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("dice", "iou", "images"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, masks: Tensor) -> None:
        """Args: logits and masks (0 or 1), float (N, 1, H, W)."""
        predicted, true = logits > 0, masks > 0.5
        both = (predicted & true).sum((1, 2, 3))
        either = (predicted | true).sum((1, 2, 3))
        self.dice += torch.where(either > 0, 2 * both / (either + both), 1.0).sum()
        self.iou += torch.where(either > 0, both / either, 1.0).sum()
        self.images += len(logits)

    def compute(self) -> dict[str, Tensor]:
        """`val_dice` and `val_iou`, in [0, 1]; two empty masks agree."""
        return {"val_dice": self.dice / self.images, "val_iou": self.iou / self.images}


class DiagnosisMetrics(Metric):
    """Accuracy, balanced accuracy and macro AUROC in one view, on crops as in training: of true masks, else of found ones."""

    probs: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probs", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Args: logits, float (N, C); labels, integer (N,)."""
        self.probs.append(logits.softmax(1))
        self.labels.append(labels)

    def compute(self) -> dict[str, Tensor]:
        """`val_accuracy`, `val_balanced_accuracy`, `val_auroc`, in [0, 1]; the last two are means over the classes that occur.

        There is no `val_auroc` where all images are of one class.
        """
        probs, labels = dim_zero_cat(self.probs).cpu(), dim_zero_cat(self.labels).cpu()
        hits = (probs.argmax(1) == labels).float()
        present = torch.unique(labels)
        areas = [roc_auc_score(labels == code, probs[:, code]) for code in present if len(present) > 1]
        scores = {
            "val_accuracy": hits.mean(),
            "val_balanced_accuracy": torch.stack([hits[labels == code].mean() for code in present]).mean(),
        }
        return scores | ({"val_auroc": torch.tensor(areas).mean()} if areas else {})


_CHECKED_EVERY = 20  # batches; to look at a number waits for the device

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
Schedule = Callable[[int, int], float]


class DivergedError(ArithmeticError):
    """A loss or weights of a training are no longer finite."""


class Task(LightningModule):
    """A model in training, the same for both stages.

    Args:
        model: takes a normalised batch, float (N, 3, size, size), and returns logits.
        spec: of the model's input.
        loss: takes logits and targets; in training also what a batch holds behind the targets, see `segpipe.losses.distillation`.
        metrics: takes logits and targets of the validation images; computes a dictionary of named figures.
        optimizer: builds the optimizer from parameters or parameter groups.
        schedule: the factor on the learning rate, by step and number of steps.
        groups: parameters or parameter groups to train; all of the model's where None.
        mixup_alpha: how much training images are mixed in pairs (arXiv 1710.09412); 0 leaves them as they are.
        sizes: side in pixels that training images are scaled down to, by the epoch from which it holds, counted from 0; before
            the first one, and where there is none, it is `spec.size`. Validation images always have `spec.size`. Smaller images
            early in a training cost less and lose little (arXiv 2104.00298).
        consistency: a term for classifiers, in place of mixup; None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: InputSpec,
        loss: nn.Module,
        metrics: Metric,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        groups: list[dict[str, Any]] | None = None,
        mixup_alpha: float = 0.0,
        sizes: Mapping[int, int] = {},
        consistency: TurnConsistency | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.spec = spec
        self.loss = loss
        self.metrics = metrics
        self._optimizer = optimizer
        self._schedule = schedule
        self._groups = groups
        self._mixup_alpha = mixup_alpha
        self._sizes = dict(sizes)
        self._consistency = consistency
        self.train_loss = MeanMetric(nan_strategy="disable")  # else torchmetrics leaves NaN out of the mean
        self.val_loss = MeanMetric(nan_strategy="disable")

    def forward(self, pixels: Tensor) -> Tensor:
        """Args: pixels, uint8 (N, 3, size, size). Returns: logits."""
        logits: Tensor = self.model(normalize(pixels, self.spec))
        return logits

    def on_train_start(self) -> None:
        """Set the rates of this run where a checkpoint brought back its own, at the point of the schedule that the epoch gives.

        Without a change in the settings these are the same. With another number of epochs, or another batch size, the schedule is
        that of the whole training as it is set now, from the first resumed step on.
        """
        (optimizer,), (scheduling,) = self.trainer.optimizers, self.trainer.lr_scheduler_configs
        batches = math.ceil(int(self.trainer.num_training_batches) / self.trainer.accumulate_grad_batches)
        scheduler: LambdaLR = scheduling.scheduler  # type: ignore[assignment]
        scheduler.last_epoch = self.trainer.current_epoch * batches
        scheduler.base_lrs = [rate for rate, _ in self._rates]
        factor = self._schedule(scheduler.last_epoch, int(self.trainer.estimated_stepping_batches))
        for group, (rate, decay) in zip(optimizer.param_groups, self._rates, strict=True):
            group.update(lr=rate * factor, initial_lr=rate, weight_decay=decay)
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]

    def training_step(self, batch: Sequence[Tensor], number: int) -> Tensor:
        """Loss of one batch: pixels, labels or masks, and what else the loss takes."""
        pixels, *targets = batch
        size = self.training_size(self.current_epoch)
        images, targets[0] = scale_down(normalize(pixels, self.spec), targets[0], size=size)
        loss = self._batch_loss(images, targets)
        self.train_loss.update(loss.detach(), weight=len(pixels))
        if number % _CHECKED_EVERY == 0:
            self._require_finite(train_loss=loss.detach())
        return loss

    def _require_finite(self, **values: Tensor) -> None:
        """Stop a training that has diverged, before its numbers reach a checkpoint or a table.

        Raises:
            DivergedError: A value is NaN or infinite.
        """
        wrong = [name for name, value in values.items() if not bool(torch.isfinite(value).all())]
        if wrong:
            raise DivergedError(
                f"training diverged in epoch {self.current_epoch}: {wrong[0]} is not finite; lower optimizer.lr, which is "
                f"{self._rates[0][0]:g}, for example optimizer.lr={self._rates[0][0] / 10:g}"
            )

    def _batch_loss(self, images: Tensor, targets: Sequence[Tensor]) -> Tensor:
        if self._consistency is not None:
            return self._consistency(self.model, images, targets, self.loss)
        loss: Tensor = self._mixed_loss(images, targets) if self._mixup_alpha else self.loss(self.model(images), *targets)
        return loss

    def training_size(self, epoch: int) -> int:
        """Side of the training images in an epoch, pixels."""
        begun = [first for first in self._sizes if first <= epoch]
        return self._sizes[max(begun)] if begun else self.spec.size

    def _mixed_loss(self, images: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Mixup: each image is laid over another of its batch and answers for both, by a share drawn from Beta(alpha, alpha)."""
        share = float(torch.distributions.Beta(self._mixup_alpha, self._mixup_alpha).sample())
        partner = torch.randperm(len(images), device=images.device)
        logits = self.model(share * images + (1 - share) * images[partner])
        of_partner = [values[partner] for values in targets]
        loss: Tensor = share * self.loss(logits, *targets) + (1 - share) * self.loss(logits, *of_partner)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Loss and metrics of one batch."""
        pixels, targets = batch
        logits = self(pixels)
        self.val_loss.update(self.loss(logits, targets), weight=len(pixels))
        self.metrics.update(logits.float(), targets)

    def on_validation_start(self) -> None:
        """Share the BatchNorm statistics."""
        self._share_statistics()

    def on_validation_epoch_start(self) -> None:
        """Share them again: a moving average of the weights, which has its own, may have taken the model's place since."""
        self._share_statistics()

    def _share_statistics(self) -> None:
        """Of several processes each has statistics of its own images; all go on with their mean."""
        for statistics in self.model.buffers():
            if statistics.is_floating_point():
                statistics.copy_(self.trainer.strategy.reduce(statistics, reduce_op="mean"))

    def on_validation_epoch_end(self) -> None:
        """Note the figures of the epoch, which ends with the validation; all of them at once, and before a checkpoint is saved.

        Each figure is that of all processes together: the metrics add up what these saw.
        """
        losses = {"train_loss": self.train_loss.compute(), "val_loss": self.val_loss.compute()}
        self._require_finite(**losses, **{f"weights of {name}": values for name, values in self.model.state_dict().items()})
        self.log_dict({"val_loss": losses["val_loss"], **self.metrics.compute()}, prog_bar=True)
        rates = [group["lr"] for group in self.trainer.optimizers[0].param_groups]
        self.log_dict({"train_loss": losses["train_loss"], "learning_rate": max(rates)})
        for metric in (self.train_loss, self.val_loss, self.metrics):
            metric.reset()

    def configure_optimizers(self) -> Any:
        """The optimizer, its learning rate moved at every step."""
        optimizer = self._optimizer(self._groups if self._groups is not None else self.model.parameters())
        self._rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = LambdaLR(optimizer, lambda step: self._schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def scale_down(images: Tensor, targets: Tensor, *, size: int) -> tuple[Tensor, Tensor]:
    """Scale a batch to smaller squares, its targets likewise where they are masks.

    Args:
        images: float, shape (N, 3, side, side).
        targets: labels, integer (N,); or masks, float (N, 1, side, side), 0 or 1.
        size: side in pixels, at most that of `images`.
    """
    if size == images.shape[-1]:
        return images, targets
    smaller = interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    if targets.ndim > 1:
        targets = (interpolate(targets, size=(size, size), mode="bilinear", antialias=True) >= 0.5).float()
    return smaller.contiguous(memory_format=torch.channels_last), targets
