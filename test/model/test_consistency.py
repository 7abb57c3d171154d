# SPDX-License-Identifier: Apache-2.0
"""Low-resolution measurements as means over their cells."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.demo_clip import DemoClip
from depth_sr_ros.model.averaging import averaging_matrix, spreading_matrix
from depth_sr_ros.model.consistency import (
    Cells,
    agreement,
    averaged,
    cells_of,
    consistent_gate,
)
from depth_sr_ros.model.interpolation import interpolate, valid_mask


@pytest.fixture(scope='module')
def frame():
    clip = DemoClip()
    return clip.rgb(0), clip.depth_truth(0)


def two_surfaces(size, low, edge, top=0.0):
    """A slanted edge between 1 m and 2 m, its area means, and the truth."""
    columns, rows = np.meshgrid(np.arange(size[1] * 8), np.arange(size[0] * 8))
    truth = np.where(columns / 8 > edge + 0.3 * (rows / 8 - top), 2.0, 1.0).astype(np.float32)
    truth = cv2.resize(truth, size[::-1], interpolation=cv2.INTER_AREA)
    depth = cv2.resize(truth, low[::-1], interpolation=cv2.INTER_AREA)
    return (torch.from_numpy(image)[None, None] for image in (truth, depth))


def gated(gate, position, reach, interpolated):
    return interpolated + reach * (torch.sigmoid(torch.logit(position) + gate) - position)


@pytest.mark.parametrize('low', [(12, 16), (13, 17)], ids=['whole pixels', 'split pixels'])
def test_the_means_of_cells_come_nearer_to_what_was_measured(low):
    truth, depth = two_surfaces((96, 128), low, 50)
    valid = valid_mask(depth)
    depth[..., 3, 5], valid[..., 3, 5] = 0.0, False
    interpolated = interpolate(depth, valid, (96, 128))
    cells = cells_of(depth, valid, interpolated)
    assert (cells.rows is None) == (low == (12, 16))
    position = (interpolated - 1.0).clamp(0.02, 0.98)
    reach = torch.ones_like(position)
    # An edge that the network drew two pixels beside the true one.
    gate = 3.0 * torch.roll((truth - 1.5).sign(), 2, dims=-1)
    options = {
        'position': position,
        'reach': reach,
        'fixed': torch.zeros_like(reach),
        'interpolated': interpolated,
        'cells': cells,
    }

    def error(gate):
        output = gated(gate, position, reach, interpolated)
        residual = (cells.mean(output) - depth) * cells.valid
        return residual.square().mean().sqrt(), (output - truth).square().mean().sqrt()

    trusted = consistent_gate(gate, torch.ones_like(gate), iterations=5, **options)
    assert error(trusted)[0] < 0.35 * error(gate)[0]
    assert error(trusted)[1] < 0.8 * error(gate)[1]
    untouched = consistent_gate(gate, torch.zeros_like(gate), iterations=3, **options)
    assert torch.equal(untouched, gate)
    # What else is added counts: all measured 10 cm farther, and put there, nothing changes.
    options['fixed'] = torch.full_like(reach, 0.1)
    options['cells'] = cells._replace(residual=cells.residual + 0.1 * cells.valid)
    moved = consistent_gate(gate, torch.ones_like(gate), iterations=5, **options)
    torch.testing.assert_close(moved, trusted, rtol=1e-3, atol=1e-3)


def test_pooling_and_matrices_agree():
    _, depth = two_surfaces((48, 64), (12, 16), 30)
    valid = valid_mask(depth)
    pooled = cells_of(depth, valid, interpolate(depth, valid, (48, 64)))
    matrices = pooled._replace(
        rows=averaging_matrix(12, 48)[None, None],
        columns=averaging_matrix(16, 64)[None, None],
        spread_rows=spreading_matrix(12, 48, beyond=False)[None, None],
        spread_columns=spreading_matrix(16, 64, beyond=False)[None, None],
    )
    image = torch.rand(1, 1, 48, 64)
    assert torch.allclose(pooled.mean(image), matrices.mean(image), atol=1e-6)
    values = torch.rand(1, 1, 12, 16)
    for smooth in (False, True):
        one, other = (cells.spread(values, (48, 64), smooth=smooth) for cells in (pooled, matrices))
        assert torch.allclose(one, other, atol=1e-6)


def test_maps_nearly_as_fine_as_rgb_have_no_cells():
    depth = torch.ones(1, 1, 30, 40)
    assert cells_of(depth, valid_mask(depth), torch.ones(1, 1, 59, 80)) is None
    assert cells_of(depth, valid_mask(depth), torch.ones(1, 1, 60, 80)) is not None


@pytest.mark.parametrize('factor', [4, 8])
@pytest.mark.parametrize('holes', ['', ',holes=0.1'])
def test_means_are_told_from_single_points(frame, factor, holes):
    def share(text):
        depth = parse_degradation(text + holes)(*frame, np.random.default_rng(0))
        tensor = torch.from_numpy(depth)[None, None]
        return averaged(tensor, valid_mask(tensor)).item()

    assert share(f'scale={factor}') > 0.8
    assert share(f'nearest={factor}') < 0.3
    assert share(f'scale={factor},noise=0.02') > 0.8


@pytest.mark.parametrize('shape', [(3, 4), (1, 1), (40, 50)])
def test_without_edges_cells_count_as_means(shape):
    depth = torch.full((1, 1, *shape), 2.0)
    assert averaged(depth, valid_mask(depth)).item() == 1.0
    assert averaged(depth, torch.zeros_like(depth, dtype=torch.bool)).item() == 1.0


def test_agreement_is_high_where_the_drawn_edges_are_those_measured():
    truth, depth = two_surfaces((96, 128), (12, 16), 50)
    valid = valid_mask(depth)
    interpolated = interpolate(depth, valid, (96, 128))
    cells = cells_of(depth, valid, interpolated)

    def share(shift, factor=1.0):
        drawn = factor * (torch.roll(truth, shift, dims=-1) - interpolated)
        drawn[..., :8] = drawn[..., -8:] = 0.0  # What the shift brings round.
        scaled = cells._replace(residual=factor * cells.residual)
        reach = torch.full_like(interpolated, factor)
        return agreement(drawn, reach, factor * interpolated, scaled).item()

    assert share(0) > 0.9
    assert share(1) > share(3)
    assert share(4) < 0.4 > share(-4)
    assert share(2, 10.0) == pytest.approx(share(2), abs=1e-4)


def test_without_edges_nothing_agrees():
    depth = torch.full((1, 1, 6, 8), 2.0)
    valid = valid_mask(depth)
    interpolated = interpolate(depth, valid, (48, 64))
    cells = cells_of(depth, valid, interpolated)
    drawn = torch.rand_like(interpolated).requires_grad_()
    share = agreement(drawn, torch.zeros_like(drawn), interpolated, cells)
    assert share.item() == 0.0
    share.sum().backward()
    assert torch.isfinite(drawn.grad).all()


def test_gradients_stay_finite_where_nothing_is_measured():
    size = (32, 32)
    depth = torch.rand(1, 1, 8, 8) + 1.0
    cells = Cells(
        residual=torch.zeros(1, 1, 16, 16),
        valid=torch.zeros(1, 1, 16, 16),
        rows=torch.zeros(1, 1, 16, 32),
        columns=torch.zeros(1, 1, 16, 32),
        spread_rows=torch.zeros(1, 1, 32, 16),
        spread_columns=torch.zeros(1, 1, 32, 16),
        averaged=torch.zeros(1, 1, 1, 1),
    )
    interpolated = functional.interpolate(depth, size=size, mode='bilinear')
    gate = torch.randn(1, 1, *size, requires_grad=True)
    trust = torch.rand(1, 1, *size, requires_grad=True)
    moved = consistent_gate(
        gate,
        trust,
        position=torch.full((1, 1, *size), 0.5),
        reach=torch.zeros(1, 1, *size),
        fixed=torch.zeros(1, 1, *size),
        interpolated=interpolated,
        cells=cells,
        iterations=2,
    )
    moved.square().sum().backward()
    assert torch.isfinite(gate.grad).all()
    assert torch.isfinite(trust.grad).all()
