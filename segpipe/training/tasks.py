"""Lightning module of both stages: training step, validation, optimizer."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import Optimizer
from torchmetrics import MeanMetric, Metric

from segpipe.models.preprocessing import InputSpec, normalize
from segpipe.training.consistency import TurnConsistency
from segpipe.training.schedule import SchedulerFactory, fast_forward

_BATCHES_BETWEEN_CHECKS = 20  # reading a number waits for the device

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]


class DivergedError(ArithmeticError):
    """Raised when a loss or a weight is no longer finite."""


class Task(LightningModule):
    """Training of a model, the same for both stages.

    Args:
        model: Network that takes a normalized batch, float (N, 3, size, size), and returns logits.
        spec: Input specification of the model.
        loss: Loss of logits and targets; in training it also takes the other items of a batch, see `segpipe.losses`.
        metrics: Metric of the logits and targets of the validation images; it computes a dictionary of named values.
        optimizer: Function that makes the optimizer from parameters or parameter groups.
        scheduler: Function that makes the learning rate scheduler from the optimizer and the number of steps.
        groups: Parameters or parameter groups to train; None for all of the model.
        mixup_alpha: Strength of mixup (arXiv 1710.09412), which blends training images in pairs; 0 for none.
        sizes: Side in pixels that training images are scaled down to, by the first epoch that it applies to, counted from 0.
            Before the first entry the side is `spec.size`, which validation images always have. Smaller images early in a
            training cost less and lose little (arXiv 2104.00298).
        consistency: Consistency term for classifiers, in place of mixup; None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: InputSpec,
        loss: nn.Module,
        metrics: Metric,
        *,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
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
        self._scheduler = scheduler
        self._groups = groups
        self._mixup_alpha = mixup_alpha
        self._sizes = dict(sizes)
        self._consistency = consistency
        self.train_loss = MeanMetric(nan_strategy="disable")  # by default torchmetrics leaves NaN out of the mean
        self.val_loss = MeanMetric(nan_strategy="disable")

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the logits of images.

        Args:
            pixels: Images, uint8, shape (N, 3, size, size).
        """
        logits: Tensor = self.model(normalize(pixels, self.spec))
        return logits

    def training_step(self, batch: Sequence[Tensor], number: int) -> Tensor:
        """Compute the loss of a batch: pixels, targets, further arguments."""
        pixels, *targets = batch
        size = self.training_size(self.current_epoch)
        images, targets[0] = scale_down(normalize(pixels, self.spec), targets[0], size=size)
        loss = self._batch_loss(images, targets)
        self.train_loss.update(loss.detach(), weight=len(pixels))
        if number % _BATCHES_BETWEEN_CHECKS == 0:
            self._require_finite(train_loss=loss.detach())
        return loss

    def training_size(self, epoch: int) -> int:
        """Return the side of the training images in an epoch, in pixels."""
        begun = [first for first in self._sizes if first <= epoch]
        return self._sizes[max(begun)] if begun else self.spec.size

    def _batch_loss(self, images: Tensor, targets: Sequence[Tensor]) -> Tensor:
        if self._consistency is not None:
            return self._consistency(self.model, images, targets, self.loss)
        loss: Tensor = self._mixed_loss(images, targets) if self._mixup_alpha else self.loss(self.model(images), *targets)
        return loss

    def _mixed_loss(self, images: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Compute the loss of pairwise blends, weighted by Beta(alpha, alpha)."""
        weight = float(torch.distributions.Beta(self._mixup_alpha, self._mixup_alpha).sample())
        partner = torch.randperm(len(images), device=images.device)
        logits = self.model(weight * images + (1 - weight) * images[partner])
        partner_targets = [values[partner] for values in targets]
        loss: Tensor = weight * self.loss(logits, *targets) + (1 - weight) * self.loss(logits, *partner_targets)
        return loss

    def _require_finite(self, **values: Tensor) -> None:
        """Stop a diverged training before it writes a checkpoint or table.

        Raises:
            DivergedError: A value is NaN or infinite.
        """
        wrong = [name for name, value in values.items() if not bool(torch.isfinite(value).all())]
        if wrong:
            raise DivergedError(
                f"training diverged in epoch {self.current_epoch}: {wrong[0]} is not finite; lower optimizer.lr, which is "
                f"{self._rates[0][0]:g}, for example optimizer.lr={self._rates[0][0] / 10:g}"
            )

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Update loss and metrics with a batch; return its logits."""
        pixels, targets = batch
        logits: Tensor = self(pixels)
        self.val_loss.update(self.loss(logits, targets), weight=len(pixels))
        self.metrics.update(logits.float(), targets)
        return logits

    def on_validation_start(self) -> None:
        """Average the BatchNorm statistics over the processes."""
        self._average_statistics()

    def on_validation_epoch_start(self) -> None:
        """Average again for the moving average of the weights.

        By now it may have replaced the model's weights and statistics.
        """
        self._average_statistics()

    def _average_statistics(self) -> None:
        """Replace the BatchNorm statistics of each process by their mean."""
        for statistics in self.model.buffers():
            if statistics.is_floating_point():
                statistics.copy_(self.trainer.strategy.reduce(statistics, reduce_op="mean"))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the epoch before a checkpoint is saved.

        The values are those of all processes together, because the metrics add up the images of all of them.
        """
        losses = {"train_loss": self.train_loss.compute(), "val_loss": self.val_loss.compute()}
        self._require_finite(**losses, **{f"weights of {name}": values for name, values in self.model.state_dict().items()})
        self.log_dict({"val_loss": losses["val_loss"], **self.metrics.compute()})
        rates = [group["lr"] for group in self.trainer.optimizers[0].param_groups]
        self.log_dict({"train_loss": losses["train_loss"], "learning_rate": max(rates)})
        for metric in (self.train_loss, self.val_loss, self.metrics):
            metric.reset()

    def configure_optimizers(self) -> Any:
        """Make the optimizer and its scheduler, which steps with it."""
        optimizer = self._optimizer(self._groups if self._groups is not None else self.model.parameters())
        self._rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        scheduler = self._scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Restore the learning rates from the settings, not the checkpoint.

        With unchanged settings they are the same. With another number of epochs, another learning rate or batch size, the
        schedule is that of the whole training as it is configured now, from the first resumed step on.
        """
        if self.trainer.current_epoch == 0:
            return
        (optimizer,), (scheduling,) = self.trainer.optimizers, self.trainer.lr_scheduler_configs
        for group, (rate, decay) in zip(optimizer.param_groups, self._rates, strict=True):
            group.update(lr=rate, initial_lr=rate, weight_decay=decay)
        batches = math.ceil(int(self.trainer.num_training_batches) / self.trainer.accumulate_grad_batches)
        scheduler = self._scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        fast_forward(scheduler, self.trainer.current_epoch * batches)
        scheduling.scheduler = scheduler


def scale_down(images: Tensor, targets: Tensor, *, size: int) -> tuple[Tensor, Tensor]:
    """Scale a batch, and its masks, to smaller squares.

    Args:
        images: Images, float, shape (N, 3, side, side).
        targets: Labels, integer, shape (N,); or masks, float, shape (N, 1, side, side), 0 or 1.
        size: Side in pixels, at most that of `images`.
    """
    if size == images.shape[-1]:
        return images, targets
    smaller = interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    if targets.ndim > 1:
        targets = (interpolate(targets, size=(size, size), mode="bilinear", antialias=True) >= 0.5).float()
    return smaller.contiguous(memory_format=torch.channels_last), targets
