"""Images unlike those of the training: corrupted ones, and others that belong to no class.

Everything is fixed by a seed. Images are (N, 1, H, W) with values in [0, 1]. Taught in chapter 12.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ugmm_tutorial.kernels import arguments as check

__all__ = ["CORRUPTIONS", "corrupt", "outliers"]

#: What a severity from 1 to 5 means: the noise's standard deviation, degrees, the square's share of a side.
CORRUPTIONS: dict[str, tuple[float, ...]] = {
    "noise": (0.1, 0.2, 0.3, 0.4, 0.5),
    "rotation": (10.0, 20.0, 30.0, 40.0, 50.0),
    "occlusion": (1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7),
}


def corrupt(images: Tensor, kind: str, severity: int, *, seed: int = 0) -> Tensor:
    """Images with one corruption, of the same shape.

    ``"noise"`` adds Gaussian noise and clamps to [0, 1]; ``"rotation"`` turns half of the images left by
    the angle, the others right (bilinear, by torchvision); ``"occlusion"`` blackens a square at a random
    place. All severities draw the same noise, sides and, as far as the square fits, places.

    Args:
        images: (N, 1, H, W), N >= 1, in [0, 1].
        kind: a key of ``CORRUPTIONS``.
        severity: 1 to 5, or 0 for the images as they are.
        seed: of the random draws.

    Raises:
        TypeError: images are no floating-point tensor, or a number is no integer.
        ValueError: images of another shape or range, an unknown kind, or a severity out of range.

    >>> corrupt(torch.ones(2, 1, 28, 28), "occlusion", severity=1).sum(dim=(1, 2, 3))
    tensor([768., 768.])
    """
    _check(images)
    check.one_of("corruption", kind, CORRUPTIONS)
    severity = check.integer("severity", severity, 0, 5)
    if severity == 0:
        return images.clone()
    draw = torch.Generator().manual_seed(check.seed(seed))
    amount = CORRUPTIONS[kind][severity - 1]
    return {"noise": _noisy, "rotation": _rotated, "occlusion": _occluded}[kind](images, amount, draw)


def outliers(images: Tensor, *, other: Tensor | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Out-of-distribution images, by name, made from in-distribution ones.

    - ``"shrunk"``: at half the size, in the middle of a black image;
    - ``"inverted"``: black and white exchanged;
    - ``"permuted"``: all pixels in one random order, the same for every image;
    - ``"uniform noise"``: every pixel from U(0, 1);
    - ``"Gaussian noise"``: with the mean and standard deviation of the images' pixels, clamped to [0, 1];
    - ``"other"``, if given: resized bilinearly to the size of the images, (M, 1, H, W).

    Args:
        images: (N, 1, H, W), N >= 1, in [0, 1], test images for example.
        other: images of another source, (M, 1, h, w), in [0, 1].
        seed: of the order and the noise.

    Raises:
        TypeError, ValueError: as for :func:`corrupt`.

    >>> list(outliers(torch.rand(2, 1, 28, 28)))
    ['shrunk', 'inverted', 'permuted', 'uniform noise', 'Gaussian noise']
    """
    _check(images)
    draw = torch.Generator().manual_seed(check.seed(seed))
    size = images.shape[-2:]
    order = torch.randperm(size.numel(), generator=draw)
    std, mean = torch.std_mean(images)
    gaussian = mean + std * torch.randn(images.shape, generator=draw)
    found = {
        "shrunk": _shrunk(images),
        "inverted": 1.0 - images,
        "permuted": images.flatten(1)[:, order].reshape(images.shape),
        "uniform noise": torch.rand(images.shape, generator=draw),
        "Gaussian noise": gaussian.clamp(0.0, 1.0),
    }
    if other is not None:
        _check(other, "other")
        found["other"] = interpolate(other, tuple(size), mode="bilinear", align_corners=False)
    return found


def _noisy(images: Tensor, std: float, draw: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=draw)
    return (images + std * noise).clamp(0.0, 1.0)


def _rotated(images: Tensor, degrees: float, draw: torch.Generator) -> Tensor:
    from torchvision.transforms.functional import InterpolationMode, rotate

    to_the_left = torch.randperm(len(images), generator=draw) % 2 == 0
    turned = images.clone()
    for side, angle in ((to_the_left, degrees), (~to_the_left, -degrees)):
        if side.any():
            turned[side] = rotate(images[side], angle, interpolation=InterpolationMode.BILINEAR)
    return turned


def _occluded(images: Tensor, share: float, draw: torch.Generator) -> Tensor:
    height, width = images.shape[-2:]
    where = torch.rand(2, len(images), 1, generator=draw)
    covered = []
    for length, place in zip((height, width), where, strict=True):
        side = max(1, round(share * length))
        first = (place * (length - side + 1)).floor()
        covered.append((torch.arange(length) >= first) & (torch.arange(length) < first + side))
    square = covered[0].unsqueeze(2) & covered[1].unsqueeze(1)
    return images.masked_fill(square.unsqueeze(1), 0.0)


def _shrunk(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    # At half of an even size, every pixel is the mean of four.
    small = interpolate(images, (height // 2, width // 2), mode="bilinear", align_corners=False)
    top, left = (height - height // 2) // 2, (width - width // 2) // 2
    return pad(small, (left, width - width // 2 - left, top, height - height // 2 - top))


def _check(images: Tensor, name: str = "images") -> None:
    check.numbers_in(name, images, finite=False)
    if images.dim() != 4 or images.shape[1] != 1 or len(images) == 0 or min(images.shape[2:]) < 2:
        raise ValueError(f"expected {name} (N, 1, H, W), N >= 1 and H, W >= 2, got {tuple(images.shape)}")
    if not (images.min() >= 0.0 and images.max() <= 1.0):
        raise ValueError(f"expected {name} with values in [0, 1], got {images.min():g} to {images.max():g}")
