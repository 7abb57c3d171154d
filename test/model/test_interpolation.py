# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from depth_sr_ros.model.interpolation import (
    fill_holes,
    interpolate,
    interpolate_depth,
    local_range,
    roughness,
    valid_mask,
)


def sparse_map(height, width, count, seed=0):
    generator = np.random.default_rng(seed)
    depth = np.zeros((height, width), np.float32)
    index = generator.choice(height * width, count, replace=False)
    depth.flat[index] = generator.uniform(0.5, 5.0, count)
    return torch.from_numpy(depth)[None, None]


def test_dense_input_is_plain_bilinear():
    depth = torch.rand(2, 1, 15, 20) + 1.0
    expected = functional.interpolate(depth, size=(121, 163), mode='bilinear')
    assert torch.equal(interpolate(depth, valid_mask(depth), (121, 163)), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 99))
def test_filled_values_stay_between_the_measured_ones(height, width, count, seed):
    depth = sparse_map(height, width, min(count, height * width), seed)
    valid = valid_mask(depth)
    filled = fill_holes(depth, valid)
    assert torch.equal(filled[valid], depth[valid])
    assert filled.min() >= depth[valid].min() * (1 - 1e-5)
    assert filled.max() <= depth[valid].max() * (1 + 1e-5)


def test_nan_never_enters():
    depth = np.full((12, 16), np.nan, np.float32)
    depth[3, 4] = 2.0
    depth[5, 5] = np.inf
    assert np.allclose(interpolate_depth(depth, (48, 64)), 2.0)


def test_no_measurement_gives_zero():
    assert not interpolate_depth(np.zeros((8, 8), np.float32), (16, 16)).any()


@pytest.mark.parametrize('count', [1, 3, 40, 800])
def test_range_encloses_the_interpolated_input_of_a_dense_map_and_is_ordered(count):
    depth = sparse_map(30, 40, count)
    lower, upper = local_range(depth, valid_mask(depth), (60, 80))
    assert torch.isfinite(lower).all()
    assert torch.isfinite(upper).all()
    assert (lower <= upper).all()
    assert lower.min() >= depth[depth > 0].min() * (1 - 1e-6)
    assert upper.max() <= depth.max() * (1 + 1e-6)


def test_range_of_a_dense_map_is_the_3x3_window():
    depth = torch.rand(1, 1, 10, 10) + 1.0
    lower, upper = local_range(depth, valid_mask(depth), (30, 30))
    lower, upper = lower[..., 1::3, 1::3], upper[..., 1::3, 1::3]
    window = depth[0, 0, 3:6, 4:7]
    assert lower[0, 0, 4, 5] == window.min()
    assert upper[0, 0, 4, 5] == window.max()
    up = interpolate(depth, valid_mask(depth), (80, 80))
    lower, upper = local_range(depth, valid_mask(depth), (80, 80))
    assert (lower <= up + 1e-6).all()
    assert (up <= upper + 1e-6).all()


def test_range_of_a_map_as_fine_as_rgb_reaches_beyond_its_neighbours():
    """A sensor's edges lie some pixels beside those of the RGB image."""
    depth = torch.full((1, 1, 41, 50), 3.0)
    depth[..., 20:] = 1.0
    lower, upper = local_range(depth, valid_mask(depth), (41, 50))
    assert lower.shape == upper.shape == (1, 1, 41, 50)
    assert (lower[..., 17:] < 2.0).all()
    assert (upper[..., :23] > 2.0).all()
    assert (lower[..., :10] == 3.0).all()


def inverse_plane(height, width):
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return torch.from_numpy(1.0 / (0.3 + 0.004 * columns + 0.002 * rows))[None, None].float()


@pytest.mark.parametrize('size', [(240, 320), (30, 40)])
def test_planes_are_smooth_and_edges_noise_and_holes_are_rough(size):
    plane = inverse_plane(30, 40)
    everywhere = valid_mask(plane)
    assert roughness(plane, everywhere, size).max() == 0
    edge = plane.clone()
    edge[..., 20:] *= 1.05
    rough = roughness(edge, everywhere, size)
    middle = size[1] // 2
    assert (rough[..., middle - 2 : middle + 2] == 1).all()
    assert (rough[..., : size[1] // 4] == 0).all()
    noisy = plane * (
        1 + 0.02 * torch.randn(plane.shape, generator=torch.Generator().manual_seed(0))
    )
    assert roughness(noisy, everywhere, size).mean() > 0.95
    scale = size[0] // 30
    # Inside a hole in a plane, in one that an edge runs through, and far from both.
    step = plane.clone()
    step[..., 20:] *= 1.5
    inside = []
    for surface in (plane, step):
        holed = surface.clone()
        holed[..., 10:14, 18:23] = torch.nan
        rough = roughness(holed, valid_mask(holed), size)
        inside.append(rough[..., 10 * scale : 14 * scale, 18 * scale : 22 * scale])
        assert rough[..., 34 * scale :].max() == 0
    # Cells of which a part is missing bend even a plane.
    assert inside[0].min() >= 0.5
    assert inside[0].max() < 0.95
    assert inside[1].min() > 0.95


def test_a_hole_in_a_slanted_surface_is_filled_with_its_slant():
    columns, rows = np.meshgrid(np.arange(80), np.arange(60))
    plane = torch.from_numpy(1.0 + 0.02 * columns + 0.01 * rows)[None, None].float()
    valid = torch.ones_like(plane, dtype=torch.bool)
    valid[..., 20:40, 30:50] = False
    filled = fill_holes(torch.where(valid, plane, 0.0), valid)
    # A constant would be 0.13 m off, push-pull without relaxation 0.041 m.
    assert (filled - plane)[~valid].square().mean().sqrt() < 0.03


def test_whole_millimetres_are_smooth():
    plane = (inverse_plane(60, 80) * 1000).round() / 1000
    assert roughness(plane, valid_mask(plane), (480, 640)).max() < 0.05


def test_everything_follows_the_scale():
    depth = sparse_map(30, 40, 200)
    valid = valid_mask(depth)
    for factor in (0.125, 8.0):
        assert torch.allclose(
            interpolate(depth * factor, valid, (60, 80)),
            factor * interpolate(depth, valid, (60, 80)),
        )
        for one, other in zip(
            local_range(depth * factor, valid, (60, 80)),
            local_range(depth, valid, (60, 80)),
            strict=False,
        ):
            assert torch.allclose(one, factor * other)
        one, other = (roughness(d, valid, (60, 80)) for d in (depth * factor, depth))
        assert torch.allclose(one, other, atol=1e-5)
