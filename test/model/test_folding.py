# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch

from depth_sr_ros.model.config import CONFIGURATIONS, FusionUNetConfig
from depth_sr_ros.model.folding import MatrixWindows, fold
from depth_sr_ros.model.fusion_unet import Windows


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize('window', [1, 3, 6, 8, 12, 24, 48, 96])
def test_windows_by_matrices_are_the_same(window):
    pooled, multiplied = Windows(window), MatrixWindows(window)
    for height, width in [(1, 1), (5, 9), (8, 8), (41, 57), (120, 160), (48, 100), (49, 48)]:
        values = torch.randn(1, 2, height, width)
        coarse, same = pooled.sum(values), multiplied.sum(values)
        assert coarse.shape == same.shape
        assert torch.allclose(coarse, same, atol=1e-5)
        fine, same = pooled.spread(coarse, values), multiplied.spread(coarse, values)
        assert fine.shape == same.shape
        assert torch.allclose(fine, same, atol=1e-5)


@pytest.mark.parametrize(
    'config',
    [
        CONFIGURATIONS['embedded'].fusion,
        FusionUNetConfig(stem=2, widths=(8, 8, 12, 16), training_size=64, decoder_blocks=(2,) * 4),
    ],
)
@pytest.mark.parametrize('size', [(128, 192), (100, 150)])
def test_folded_networks_are_the_same(randomised, config, size):
    model = randomised(config)
    folded = copy.deepcopy(model)
    fold(folded.fusion)
    rgb = torch.rand(1, 3, *size)
    depth = torch.rand(1, 1, size[0] // 4, size[1] // 4) + 0.5
    depth[..., 2:9, 3:12] = 0
    with torch.inference_mode():
        expected, came = model(rgb, depth), folded(rgb, depth)
    assert (expected.depth / expected.interpolated - 1).abs().max() > 0.01
    assert torch.allclose(came.depth, expected.depth, rtol=1e-4)
    assert torch.allclose(came.confidence_logit, expected.confidence_logit, atol=1e-3, rtol=1e-3)
