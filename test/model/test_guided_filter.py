# SPDX-License-Identifier: Apache-2.0
"""The fit of depth to colour: edges where the image has them, nothing where it has none."""

import pytest
import torch

from depth_sr_ros.model.guided_filter import guided_filter


def filtered(depth, validity, rgb, cell):
    (result,) = guided_filter(depth, validity, rgb, (cell,))
    return result


def image_of(shape, left=(0.2, 0.3, 0.3), right=(0.7, 0.6, 0.3), edge=50):
    rgb = torch.empty(1, 3, *shape)
    rgb[..., :edge] = torch.tensor(left).view(1, 3, 1, 1)
    rgb[..., edge:] = torch.tensor(right).view(1, 3, 1, 1)
    return rgb


def blurred_step(shape, near=1.0, far=2.0, edge=50, width=8):
    share = ((torch.arange(float(shape[1])) - edge + width / 2 + 0.5) / width).clamp(0, 1)
    return (1 / (1 / near + share * (1 / far - 1 / near))).expand(1, 1, *shape).contiguous()


@pytest.mark.parametrize(
    'colours', [((0.2, 0.3, 0.3), (0.7, 0.6, 0.3)), ((0.2, 0.5, 0.9), (0.9, 0.5, 0.2))]
)
def test_edges_become_those_of_the_image(colours):
    shape = (64, 96)
    depth = blurred_step(shape)
    fit = filtered(depth, torch.ones_like(depth), image_of(shape, *colours), 4)
    row = fit[0, 0, 32]
    # Two pixels are a block; what is left is a blend over the edge, and no pixel of a third depth.
    assert (row[:46] < 1.25).all()
    assert (row[54:] > 1.6).all()
    assert row[50] - row[49] > 0.5 * (2.0 - 1.0)
    assert depth[0, 0, 32, 50] - depth[0, 0, 32, 49] < 0.2


def test_without_contrast_planes_stay():
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing='ij')
    depth = (1 / (0.5 + 0.002 * rows + 0.001 * columns))[None, None]
    for cell in (4, 8):
        fit = filtered(depth, torch.ones_like(depth), torch.full((1, 3, 64, 96), 0.4), cell)
        inner = (..., slice(2 * cell, -2 * cell), slice(2 * cell, -2 * cell))
        # Blocks of 2x2 pixels share a value.
        torch.testing.assert_close(fit[inner], depth[inner], rtol=5e-3, atol=0)


def test_what_was_not_measured_weighs_little():
    depth = torch.full((1, 1, 64, 96), 2.0)
    validity = torch.ones_like(depth)
    depth[..., 20:40, 30:60] = 9.0
    validity[..., 20:40, 30:60] = 0.0
    fit = filtered(depth, validity, torch.full((1, 3, 64, 96), 0.4), 16)
    assert fit[0, 0, 24, 40] < 2.2
    ignored = filtered(depth, torch.ones_like(depth), torch.full((1, 3, 64, 96), 0.4), 16)
    assert ignored[0, 0, 24, 40] > 2.4


@pytest.mark.parametrize('shape', [(64, 96), (61, 83), (16, 16), (7, 9)])
@pytest.mark.parametrize('cell', [2, 4, 16])
def test_any_size_positive_and_proportional(shape, cell):
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, 3, *shape, generator=generator)
    depth = 1 + torch.rand(2, 1, *shape, generator=generator)
    validity = (torch.rand(2, 1, *shape, generator=generator) > 0.3).float()
    fit = filtered(depth, validity, rgb, cell)
    assert fit.shape == depth.shape
    assert torch.isfinite(fit).all()
    assert (fit > 0).all()
    torch.testing.assert_close(
        filtered(100 * depth, validity, rgb, cell), 100 * fit, rtol=1e-3, atol=0
    )


def test_a_crop_gives_what_the_frame_gives_there():
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(1, 3, 128, 160, generator=generator)
    depth = 1 + torch.rand(1, 1, 128, 160, generator=generator)
    whole = filtered(depth, torch.ones_like(depth), rgb, 4)
    window = (..., slice(32, 96), slice(48, 112))
    part = filtered(depth[window], torch.ones_like(depth)[window], rgb[window], 4)
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(part[inner], whole[window][inner], rtol=1e-3, atol=1e-3)


def test_cells_of_cells_are_cells():
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(1, 3, 64, 96, generator=generator)
    depth = 1 + torch.rand(1, 1, 64, 96, generator=generator)
    validity = (torch.rand(1, 1, 64, 96, generator=generator) > 0.3).float()
    for size, fit in zip((4, 16), guided_filter(depth, validity, rgb, (4, 16)), strict=True):
        alone = filtered(depth, validity, rgb, size)
        torch.testing.assert_close(fit, alone, rtol=1e-3, atol=1e-3)
    assert guided_filter(depth, validity, rgb, ()) == []


def test_what_lies_beyond_the_border_is_as_the_border():
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(1, 3, 61, 83, generator=generator)
    depth = 1 + torch.rand(1, 1, 61, 83, generator=generator)
    wider = [torch.nn.functional.pad(image, (0, 13, 0, 3), 'replicate') for image in (depth, rgb)]
    one = filtered(depth, torch.ones_like(depth), rgb, 16)
    other = filtered(wider[0], torch.ones_like(wider[0]), wider[1], 16)
    torch.testing.assert_close(one, other[..., :61, :83], rtol=1e-4, atol=1e-4)
