"""Corrupted images and outliers: what each does to pixels, at which size, and that a seed fixes it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from ugmm_tutorial import data
from ugmm_tutorial.uncertainty import CORRUPTIONS, corrupt, outliers

KINDS = list(CORRUPTIONS)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return data.digits(size=28).test.x[:100]


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_are_fixed_by_their_seed_and_leave_their_input_alone(images, kind):
    before, state = images.clone(), torch.get_rng_state()
    first, again, other = (corrupt(images, kind, 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_grow_with_their_severity_from_nothing(images, kind):
    away = [(corrupt(images, kind, s) - images).square().mean().item() for s in range(6)]
    assert away[0] == 0.0
    assert away == sorted(set(away))
    for severity in range(6):
        shifted = corrupt(images, kind, severity)
        assert shifted.shape == images.shape
        assert shifted.min() >= 0.0
        assert shifted.max() <= 1.0


@pytest.mark.parametrize("severity", [1, 2])
def test_noise_has_the_standard_deviation_it_says(severity):
    grey = torch.full((50, 1, 28, 28), 0.5)
    noise = corrupt(grey, "noise", severity) - grey
    # At 0.2 a hundredth of the values is clamped.
    assert noise.std().item() == pytest.approx(CORRUPTIONS["noise"][severity - 1], rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.005)


def test_rotation_turns_half_of_the_images_to_either_side(images):
    turned = corrupt(images, "rotation", 3)
    sides = []
    for image, found in zip(images[:, 0].numpy(), turned[:, 0].numpy(), strict=True):
        candidates = [
            scipy.ndimage.rotate(image, angle, reshape=False, order=1, mode="constant") for angle in (30, -30)
        ]
        errors = [np.abs(c - found).mean() for c in candidates]
        # Their interpolation differs where the image ends.
        assert min(errors) < 0.02 < 0.1 < max(errors)
        sides.append(int(np.argmin(errors)))
    assert sorted(np.bincount(sides)) == [50, 50]


@pytest.mark.parametrize("severity", range(1, 6))
def test_occlusion_is_one_black_square_of_its_size_inside_the_image(severity):
    white = torch.ones(300, 1, 28, 28)
    black = corrupt(white, "occlusion", severity)[:, 0] == 0.0
    side = 4 * severity
    rows, columns = black.any(dim=2), black.any(dim=1)
    assert (rows.sum(dim=1) == side).all()
    assert (columns.sum(dim=1) == side).all()
    assert (black.sum(dim=(1, 2)) == side**2).all()
    first = rows.float().argmax(dim=1)
    assert (first.min(), first.max()) == (0, 28 - side)  # everywhere, up to both edges


def test_small_images_are_occluded_in_proportion():
    black = corrupt(torch.ones(4, 1, 8, 8), "occlusion", 5) == 0.0
    assert (black.sum(dim=(1, 2, 3)) == 36).all()


def test_outliers_are_what_they_say(images):
    found = outliers(images, other=data.digits().train.x[:7])
    assert list(found) == ["shrunk", "inverted", "permuted", "uniform noise", "Gaussian noise", "other"]
    assert all(x.shape[1:] == (1, 28, 28) for x in found.values())
    assert all(x.min() >= 0.0 and x.max() <= 1.0 for x in found.values())
    assert [len(x) for x in found.values()] == [100] * 5 + [7]
    torch.testing.assert_close(found["inverted"] + images, torch.ones_like(images))
    sort = lambda x: x.flatten(1).sort(dim=1).values  # noqa: E731
    assert torch.equal(sort(found["permuted"]), sort(images))
    assert not torch.equal(found["permuted"], images)
    # One order for all images: what is equal in all images stays equal, somewhere else.
    assert torch.equal(outliers(images[:3])["permuted"], found["permuted"][:3])
    torch.testing.assert_close(found["other"], data.digits(size=28).train.x[:7])


def test_shrunk_images_are_means_of_four_pixels_in_the_middle_of_black(images):
    shrunk = outliers(images)["shrunk"]
    torch.testing.assert_close(shrunk[..., 7:21, 7:21], torch.nn.functional.avg_pool2d(images, 2))
    border = shrunk.clone()
    border[..., 7:21, 7:21] = 0.0
    assert border.abs().max() == 0.0


def test_noise_has_the_moments_it_says(images):
    found = outliers(images)
    uniform = found["uniform noise"]
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 12, rel=0.02)
    # Clamping cuts off the lower part of a normal distribution: its mean is known.
    mean, std = images.mean().item(), images.std().item()
    normal = torch.distributions.Normal(0.0, 1.0)
    grid = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    weights = normal.log_prob(grid).exp() * (grid[1] - grid[0])
    expected = ((mean + std * grid).clamp(0, 1) * weights).sum().item()
    assert found["Gaussian noise"].mean().item() == pytest.approx(expected, abs=0.005)


def test_outliers_are_fixed_by_their_seed(images):
    first, again, other = (outliers(images, seed=seed) for seed in (0, 0, 1))
    for name in first:
        assert torch.equal(first[name], again[name])
    for name in ("permuted", "uniform noise", "Gaussian noise"):
        assert not torch.equal(first[name], other[name])


def test_what_is_no_image_or_corruption_is_refused(images):
    for wrong in (images[:, 0], images[:0], images.expand(-1, 3, -1, -1)):
        with pytest.raises(ValueError, match=r"images \(N, 1, H, W\)"):
            corrupt(wrong, "noise", 1)
        with pytest.raises(ValueError, match=r"other \(N, 1, H, W\)"):
            outliers(images, other=wrong)
    for wrong in (images * 255, images - 0.1, images * float("nan")):
        with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
            outliers(wrong)
    with pytest.raises(ValueError, match="unknown corruption 'fog': expected one of noise, rotation"):
        corrupt(images, "fog", 1)
    for severity, error in ((-1, ValueError), (6, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match=f"severity (from 0 to 5|to be an integer), got {severity}"):
            corrupt(images, "noise", severity)
