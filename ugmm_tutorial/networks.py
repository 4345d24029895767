"""The networks the book compares: MLP, UGMMNet, and a ConvNet with either of them as its head.

``preset(name)`` builds the network of that name in the paper's Table 2. Taught in chapters 5 to 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, overload

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels.arguments import integers, one_of
from ugmm_tutorial.layers.ablations import LAYERS

__all__ = ["MLP", "NORMS", "PRESETS", "ConvNet", "Stack", "UGMMNet", "preset"]

#: Where LayerNorms stand: nowhere; between layers; also before the first layer; also after the last.
NORMS = ("none", "layer", "before", "after")
HEADS = ("linear", "ugmm")


class Stack(nn.Sequential):
    """A Sequential whose slices are plain ones: PyTorch would pass the layers to our constructors.

    >>> type(MLP([4, 8, 3])[:2]).__name__
    'Sequential'
    """

    @overload
    def __getitem__(self, index: slice) -> nn.Sequential: ...

    @overload
    def __getitem__(self, index: int) -> nn.Module: ...

    def __getitem__(self, index: slice | int) -> nn.Module:
        return nn.Sequential(*self)[index] if isinstance(index, slice) else super().__getitem__(index)


class MLP(Stack):
    """Linear layers with ReLU between them: ``(*, widths[0])`` to ``(*, widths[-1])``.

    Args:
        widths: sizes from input to output, at least two.
        norm: ``"layer"`` puts a LayerNorm after each hidden linear layer, before its ReLU; ``"before"``
            normalises the inputs too. ``"after"`` normalises the outputs too, which must be at least three.
        dropout: probability of dropping an activation: one number for all hidden layers, or one per layer
            (``len(widths) - 1`` of them, the last 0).

    Raises:
        ValueError: too few widths, an unknown norm, or dropout that does not fit.
        TypeError: dropout is neither a number nor a sequence of numbers.

    >>> MLP([784, 128, 10])(torch.rand(32, 784)).shape
    torch.Size([32, 10])
    """

    def __init__(
        self, widths: Sequence[int], *, norm: str = "none", dropout: float | Sequence[float] = 0.0
    ) -> None:
        widths = _checked_widths(widths, norm)
        drops = _per_layer(dropout, len(widths) - 1)
        if drops[-1]:
            raise ValueError(f"expected no dropout on the outputs of an MLP, got {drops[-1]}")
        modules: list[nn.Module] = [nn.LayerNorm(widths[0])] if norm == "before" else []
        for k, j, p in zip(widths[:-2], widths[1:-1], drops, strict=False):
            modules.append(nn.Linear(k, j))
            modules += [nn.LayerNorm(j)] if norm != "none" else []
            modules.append(nn.ReLU())
            modules += [nn.Dropout(p)] if p else []
        modules.append(nn.Linear(widths[-2], widths[-1]))
        super().__init__(*modules, *([nn.LayerNorm(widths[-1])] if norm == "after" else []))


class UGMMNet(Stack):
    """Stacked :class:`~ugmm_tutorial.layers.UGMMLayer`: ``(*, widths[0])`` to ``(*, widths[-1])``, in nats.

    Args:
        widths: sizes from input to output, at least two.
        norm: ``"layer"`` puts a LayerNorm after each hidden uGMM layer and leaves inputs and outputs alone.
            ``"before"`` normalises the inputs too, so that a LayerNorm precedes every layer. ``"after"``
            normalises the outputs too, so that one follows every layer; the outputs are then no longer
            log-densities. It needs at least three outputs: normalising two numbers leaves only their order.
        dropout: probability of dropping a component: one number for all hidden layers, or one per
            layer (``len(widths) - 1`` of them).
        layer: a key of :data:`ugmm_tutorial.layers.ablations.LAYERS`; ``"ugmm"`` is the layer itself.
        layer_options: ``dropout_mode``, ``min_std``, ``init`` and whatever else the layer takes. ``missing``
            and ``input_dropout`` are for the first layer.

    Raises:
        ValueError: too few widths, an unknown norm, layer or mode, or dropout that does not fit.
        TypeError: an option that the layer does not take, or dropout that is neither a number nor a sequence.

    >>> UGMMNet([4, 8, 3], norm="layer")(torch.rand(32, 4)).shape
    torch.Size([32, 3])
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        norm: str = "none",
        dropout: float | Sequence[float] = 0.0,
        layer: str = "ugmm",
        **layer_options: Any,
    ) -> None:
        widths = _checked_widths(widths, norm)
        one_of("layer", layer, LAYERS)
        drops = _per_layer(dropout, len(widths) - 1)
        modules: list[nn.Module] = []
        for k, j, p in zip(widths[:-1], widths[1:], drops, strict=True):
            if norm == "before" or (modules and norm in ("layer", "after")):
                modules.append(nn.LayerNorm(k))
            modules.append(LAYERS[layer](k, j, dropout=p, **layer_options))
            for name in ("missing", "input_dropout"):  # for what comes from outside
                layer_options.pop(name, None)
        if norm == "after":
            modules.append(nn.LayerNorm(widths[-1]))
        super().__init__(*modules)


class ConvNet(nn.Module):
    """Two convolutions, then fully connected layers of either kind: (B, 1, 28, 28) to (B, 10).

    The paper replaces "the dense layers" of a CNN and does not say how many filters it has. This is the
    classic small network for MNIST: two blocks of 5 x 5 convolution, 2 x 2 maximum pooling and ReLU, with 32
    and 64 filters, give 1024 features. The 128-64-10 layers of the fully connected networks follow.

    Args:
        head: ``"linear"`` ends in an :class:`MLP`, ``"ugmm"`` in a :class:`UGMMNet`.
        widths: sizes of the head from its first hidden layer to the output.
        channels: filters of the two convolutions.
        head_options: ``norm``, ``dropout`` and whatever else the head's class takes. Only ``norm="before"``
            normalises the features themselves, which are not log-densities.

    Raises:
        ValueError: an unknown head, or sizes or options that do not fit.
        TypeError: an option that the head's class does not take.

    >>> ConvNet()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        head: str = "linear",
        widths: Sequence[int] = (128, 64, 10),
        channels: Sequence[int] = (32, 64),
        **head_options: Any,
    ) -> None:
        super().__init__()
        one_of("head", head, HEADS)
        channels = integers("channels", channels, 1, kind="two positive integers", count=2)
        widths = integers("widths", widths, 1, kind="positive integers")
        # ReLU after the pooling, not before it, changes no bit of outputs or gradients and works on a quarter
        # of the numbers.
        self.features = nn.Sequential(
            nn.Conv2d(1, channels[0], kernel_size=5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(channels[0], channels[1], kernel_size=5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
        )
        # Channels innermost in memory give the same numbers up to rounding, in less time on a CPU.
        self.features.to(memory_format=torch.channels_last)
        # 28 -> 24 -> 12 -> 8 -> 4 pixels a side.
        head_widths = (channels[1] * 4 * 4, *widths)
        self.head: nn.Sequential = (MLP if head == "linear" else UGMMNet)(head_widths, **head_options)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, 10) of images (B, 1, 28, 28)."""
        if images.dim() != 4 or images.shape[1:] != (1, 28, 28):
            raise ValueError(f"expected images of shape (B, 1, 28, 28), got {tuple(images.shape)}")
        return self.head(self.features(images))


_FULLY_CONNECTED = {"widths": (784, 128, 64, 10), "dropout": (0.5, 0.0, 0.0)}
_CONVOLUTIONAL = {"widths": (128, 64, 10), "dropout": (0.5, 0.0, 0.0)}
_PAPER_UGMM = {"init": "paper"}

#: The rows of the paper's Table 2 with the dropout of its Table 1 (0.5 on the 128-unit layer).
PRESETS: dict[str, tuple[type[nn.Module], dict]] = {
    "MLP": (MLP, _FULLY_CONNECTED),
    "uGMM-NN": (UGMMNet, _FULLY_CONNECTED | _PAPER_UGMM),
    "uGMM-NN + LayerNorm": (UGMMNet, _FULLY_CONNECTED | _PAPER_UGMM | {"norm": "layer"}),
    "CNN-uGMM": (ConvNet, _CONVOLUTIONAL | _PAPER_UGMM | {"head": "ugmm"}),
    "CNN-uGMM + LayerNorm": (ConvNet, _CONVOLUTIONAL | _PAPER_UGMM | {"norm": "layer", "head": "ugmm"}),
    "CNN-MLP": (ConvNet, _CONVOLUTIONAL | {"head": "linear"}),
}


def preset(name: str, **options: Any) -> nn.Module:
    """Build the network of a row of the paper's Table 2; ``options`` override its arguments.

    Raises:
        ValueError: no row has that name.

    >>> sum(p.numel() for p in preset("uGMM-NN").parameters())
    327552
    """
    one_of("preset", name, PRESETS)
    network, defaults = PRESETS[name]
    return network(**(defaults | options))


def _checked_widths(widths: Sequence[int], norm: str) -> list[int]:
    widths = integers("widths", widths, 1, kind="positive integers")
    if len(widths) < 2:
        raise ValueError(f"expected at least two widths, input and output, got {tuple(widths)}")
    one_of("norm", norm, NORMS)
    if norm == "after" and widths[-1] <= 2:
        raise ValueError(
            f"expected at least three outputs for norm='after', got {widths[-1]}: normalising two numbers "
            "leaves only their order. Use norm='layer' or 'before'"
        )
    return widths


def _per_layer(dropout: float | Sequence[float], layers: int) -> tuple[float, ...]:
    """One probability per layer; a single number, checked in any case, means all layers but the last."""
    # Arrays and tensors of no dimension cannot be iterated over.
    single = not isinstance(dropout, Iterable) or getattr(dropout, "ndim", 1) == 0
    given: tuple[Any, ...] = (dropout,) if single else tuple(dropout)  # type: ignore[arg-type]
    if not all(isinstance(p, Real) and not isinstance(p, bool) for p in given):
        raise TypeError(f"expected dropout to be a number, or one for each layer, got {dropout!r}")
    if not single and len(given) != layers:
        raise ValueError(f"expected one dropout, or one for each of the {layers} layers, got {given}")
    if not all(0.0 <= p <= 1.0 for p in given):
        raise ValueError(f"expected dropout between 0 and 1, got {dropout}")
    return tuple(float(p) for p in (given * (layers - 1) + (0.0,) if single else given))
