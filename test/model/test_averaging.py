# SPDX-License-Identifier: Apache-2.0
"""Means over squares, and planes through them."""

import cv2
import numpy as np
import pytest
import torch

from depth_sr_ros.model.averaging import averaging_matrix, fitted, smoothed, softened


@pytest.mark.parametrize(('count', 'length'), [(8, 32), (7, 30), (5, 11), (4, 4)])
def test_averaging_is_that_of_area_downsampling(count, length):
    image = np.random.default_rng(0).random((length, 3), np.float32)
    expected = cv2.resize(image, (3, count), interpolation=cv2.INTER_AREA)
    assert np.allclose(averaging_matrix(count, length).numpy() @ image, expected, atol=1e-6)


def test_training_may_use_what_inference_made():
    with torch.inference_mode():
        made = averaging_matrix(3, 17)
    assert averaging_matrix(3, 17) is made
    image = torch.ones(17, 2, requires_grad=True)
    (averaging_matrix(3, 17) @ image).sum().backward()
    torch.testing.assert_close(image.grad.sum(), torch.tensor(6.0))


@pytest.mark.parametrize(('shape', 'size'), [((96, 128), 12), ((75, 113), 20), ((20, 30), 48)])
def test_smoothing_takes_the_noise_and_leaves_planes(shape, size):
    columns, rows = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    plane = torch.from_numpy(1.0 / (0.4 + 0.001 * columns + 0.0015 * rows))[None, None].float()
    assert torch.allclose(smoothed(plane, size), plane, rtol=1e-4)
    noise = torch.randn(plane.shape, generator=torch.Generator().manual_seed(0))
    left = smoothed(plane * (1.0 + 0.01 * noise), size) / plane - 1.0
    assert left.std() < 0.003


def test_smoothing_stays_positive_where_a_slope_would_run_into_the_ground():
    steep = torch.logspace(-1, 2, 64)[None, None, None].expand(1, 1, 64, 64)
    smooth = smoothed(steep, 40)
    assert (smooth > 0).all()
    assert smooth.max() < 1000.0


def test_softening_widens_edges_and_leaves_planes():
    columns, rows = np.meshgrid(np.arange(40), np.arange(30))
    plane = torch.from_numpy(1.0 / (0.4 + 0.001 * columns + 0.0015 * rows))[None, None].float()
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    assert torch.allclose(softened(plane, 7)[inner], plane[inner], rtol=1e-5)
    edge = torch.where(torch.arange(40) < 20, 1.0, 2.0).expand(1, 1, 30, 40)
    changed = (softened(edge, 3) / edge - 1.0).abs()[0, 0, 0] > 1e-5
    assert changed.nonzero().flatten().tolist() == [19, 20]
    assert torch.allclose(softened(torch.full((1, 1, 5, 5), 3.0), 7), torch.tensor(3.0))


def test_a_guide_is_fitted_whatever_its_scale_and_offset():
    columns, rows = np.meshgrid(np.arange(128), np.arange(96))
    surface = np.where(columns > 60 + 0.2 * rows, 0.8, 0.3) + 0.0005 * columns
    truth = torch.from_numpy(1.0 / surface)[None, None].float()
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    low = torch.nn.functional.avg_pool2d(truth, 4) * (1.0 + 0.02 * noise[..., :24, :32])
    blurred = torch.nn.functional.interpolate(low, size=(96, 128), mode='bilinear')
    guide = (1.0 / truth - 0.5) * 3.0

    def error(depth):
        return (depth / truth - 1.0).square().mean().sqrt()

    assert error(fitted(blurred, guide, 32)) < 0.55 * error(blurred)
    assert torch.equal(fitted(blurred, torch.zeros_like(guide), 32), blurred)
    scaled = fitted(100.0 * blurred, guide, 32)
    assert torch.allclose(scaled, 100.0 * fitted(blurred, guide, 32), rtol=1e-4)
