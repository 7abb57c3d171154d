# SPDX-License-Identifier: Apache-2.0
"""Noise is told from surfaces and edges, and averaged away."""

import numpy as np
import pytest
import torch

from depth_sr_ros.model.denoising import denoised, noise_level


def room(noise, seed=0):
    """A slanted wall with a box in front, and the same with relative noise; (1, 1, 60, 80)."""
    columns, rows = np.meshgrid(np.arange(80), np.arange(60))
    truth = 1.0 / (0.3 + 0.0006 * columns + 0.0008 * rows)
    truth[20:40, 30:50] = 1.2
    noisy = truth * (1 + noise * np.random.default_rng(seed).standard_normal(truth.shape))
    return tuple(torch.from_numpy(image.astype(np.float32))[None, None] for image in (truth, noisy))


@pytest.mark.parametrize('noise', [0.005, 0.02, 0.05])
def test_the_level_of_noise_is_found(noise):
    _, depth = room(noise)
    assert noise_level(1 / depth, depth > 0).item() == pytest.approx(noise, rel=0.15)


@pytest.mark.parametrize('noise', [0.01, 0.03])
def test_noise_goes_and_edges_stay(noise):
    truth, depth = room(noise)
    clean = denoised(depth, depth > 0)
    error = ((clean - truth) / truth).abs()
    assert error.square().mean().sqrt() < 0.5 * noise
    # The jump of the box is where it was.
    assert ((clean < 1.6) == (truth < 1.6)).float().mean() > 0.999


def test_a_map_without_noise_stays_as_it_is():
    truth, _ = room(0.0)
    assert torch.equal(denoised(truth, truth > 0), truth)
    in_millimetres = (truth * 1000).round() / 1000
    assert torch.equal(denoised(in_millimetres, in_millimetres > 0), in_millimetres)


def test_scale_does_not_matter_and_holes_count_for_nothing():
    _, depth = room(0.02)
    valid = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    expected = denoised(depth, valid)
    assert torch.allclose(denoised(100 * depth, valid), 100 * expected, rtol=1e-4)
    nonsense = torch.where(valid, depth, torch.full_like(depth, 50.0))
    assert torch.equal(denoised(nonsense, valid)[valid], expected[valid])


def test_strong_noise_is_not_averaged_with_what_was_not_measured():
    generator = torch.Generator().manual_seed(0)
    inverse = 0.5 + 0.15 * torch.randn(1, 1, 60, 80, generator=generator).clamp(-2, 2)
    valid = torch.rand(inverse.shape, generator=generator) < 0.7
    clean = 1.0 / denoised(1.0 / inverse, valid)
    assert clean[valid].mean().item() == pytest.approx(inverse[valid].mean().item(), rel=0.05)
    assert clean[valid].std() < 0.5 * inverse[valid].std()


def test_points_and_empty_maps_stay_as_they_are():
    depth = torch.zeros(1, 1, 30, 40)
    assert torch.equal(denoised(depth, depth > 0), depth)
    depth[..., ::7, ::9] = 2.0
    assert torch.equal(denoised(depth, depth > 0), depth)
    assert noise_level(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1, dtype=torch.bool)) == 0
