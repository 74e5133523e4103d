"""Networks as ONNX graphs: forward pass and explicit Grad-CAM."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import onnx
import onnxscript
import torch
from onnxscript import optimizer
from torch import Tensor, nn
from torch.func import functionalize, grad
from torch.fx.experimental.proxy_tensor import make_fx

from segpipe.models.classifier import LesionClassifier
from segpipe.models.unet import logits_and_features

AnyModel = TypeVar("AnyModel", bound=nn.Module)

OPSET = 20
FOLDED_VALUES = 64  # largest constant that is computed with at export: the weights must stay as they are stored
INLINE_VALUES = 1024  # largest constant that is computed at export
_BATCH = torch.export.Dim("N", min=1)


def trace_segmenter(unet: nn.Module, size: int) -> onnx.ModelProto:
    """Trace a U-Net.

    Args:
        unet: Network in eval mode, on the CPU.
        size: Input size in pixels.

    Returns:
        Graph from `images`, float32 (N, 3, size, size), to `logits`, float32 (N, 1, size, size), and `features`, float32 (N, D),
        see `segpipe.models.unet.pool_stages`.
    """
    return _export(_WithEncoder(_plain_layout(unet)).eval(), [torch.zeros(2, 3, size, size)], ["images"], ["logits", "features"])


class _WithEncoder(nn.Module):
    """A U-Net that returns the pooled features of its encoder, too."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, 1, size, size) and features (N, D)."""
        return logits_and_features(self.unet, images)


class _WithFeatures(nn.Module):
    """A classifier that returns its last feature map, too."""

    def __init__(self, model: LesionClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, classes) and features (N, C, h, w)."""
        features = self.model.features(images)
        return self.model.head(features), features


def trace_classifier(model: LesionClassifier, size: int) -> onnx.ModelProto:
    """Trace a classifier.

    Args:
        model: Network in eval mode, on the CPU.
        size: Input size in pixels.

    Returns:
        Graph from `images`, float32 (N, 3, size, size), to `logits`, float32 (N, classes), and `features`, the last feature map,
        float32 (N, C, h, w).
    """
    return _export(
        _WithFeatures(_plain_layout(model)).eval(), [torch.zeros(2, 3, size, size)], ["images"], ["logits", "features"]
    )


def trace_gradcam(model: LesionClassifier, size: int) -> onnx.ModelProto:
    """Trace Grad-CAM, see `segpipe.inference.torch_runtime.HeadPass.maps`.

    ONNX has no gradients, so the backward pass through the head becomes operators of the graph.

    Args:
        model: Network in eval mode, on the CPU.
        size: Input size in pixels.

    Returns:
        Graph from `features`, float32 (N, C, h, w), and `target`, int64 (N,), to `maps`, float32 (N, h, w).
    """
    plain = _plain_layout(model)

    def maps(features: Tensor, target: Tensor) -> Tensor:
        def chosen_logits(features: Tensor) -> Tensor:
            logits: Tensor = plain.head(features)
            return (logits * (target[:, None] == torch.arange(logits.shape[1]))).sum()

        gradient: Tensor = grad(chosen_logits)(features)
        return (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu()

    with torch.no_grad():
        features = plain.features(torch.zeros(2, 3, size, size)).contiguous()
    example = [features, torch.zeros(2, dtype=torch.int64)]
    trace = make_fx(functionalize(maps), _BACKWARD, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    return _export(trace(*example).eval(), example, ["features", "target"], ["maps"])


def _plain_layout(model: AnyModel) -> AnyModel:
    """Copy a model with contiguous weights; strided ones cannot be exported."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)


def _export(model: nn.Module, example: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """Export a module whose inputs share the dynamic first dimension N."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the name N, and of the exporter's own parts
        program = torch.onnx.export(
            model,
            tuple(example),
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: _BATCH} for _ in example),
            optimize=False,  # which would compute with the weights
            verbose=False,
        )
    assert program is not None  # as it is only without dynamo=True
    for _ in range(2):  # the second round removes what the first has made constant
        optimizer.fold_constants(program.model, input_size_limit=FOLDED_VALUES, output_size_limit=INLINE_VALUES)
        optimizer.remove_unused_nodes(program.model)
    return onnxscript.ir.to_proto(program.model)


def _convolution_backward(gradient: Tensor, features: Tensor, weight: Tensor, *others: Any) -> tuple[Tensor, None, None]:
    """Compute the gradient at the input of a convolution."""
    _, stride, padding, dilation, _, _, groups, _ = others
    sizes = zip(features.shape[2:], gradient.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    # Rows and columns at the end of the input that no step of the kernel reaches.
    unreached = [size - ((steps - 1) * step - 2 * pad + (kernel - 1) * gap + 1) for size, steps, kernel, step, pad, gap in sizes]
    aten = torch.ops.aten
    back = aten.convolution.default(gradient, weight, None, stride, padding, dilation, True, unreached, groups)
    return back, None, None


def _adaptive_pooling_backward(gradient: Tensor, features: Tensor) -> Tensor:
    """Compute the gradient at the input of adaptive average pooling."""
    rows, columns = (_pooling_matrix(features.shape[axis], gradient.shape[axis]) for axis in (2, 3))
    return rows.T @ gradient @ columns


def _pooling_matrix(size: int, cells: int) -> Tensor:
    """Return adaptive average pooling of one axis as a matrix, (cells, size)."""
    matrix = torch.zeros(cells, size)
    for cell in range(cells):
        first, end = cell * size // cells, -(-(cell + 1) * size // cells)
        matrix[cell, first:end] = 1 / (end - first)
    return matrix


# Gradients that torch cannot write in ONNX.
_BACKWARD: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.convolution_backward.default: _convolution_backward,
    torch.ops.aten._adaptive_avg_pool2d_backward.default: _adaptive_pooling_backward,
}
