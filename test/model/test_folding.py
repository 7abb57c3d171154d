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
@pytest.mark.parametrize('multiple', [1, 4, 16])
def test_windows_by_matrices_are_the_same(window, multiple):
    pooled = Windows(window, multiple)
    multiplied = MatrixWindows.like(pooled)
    for height, width in [(1, 1), (5, 9), (8, 8), (41, 57), (120, 160), (48, 100), (49, 48)]:
        values = torch.randn(1, 2, height * multiple, width * multiple)
        coarse, same = pooled.sum(values), multiplied.sum(values)
        assert coarse.shape == same.shape
        assert torch.allclose(coarse, same, atol=1e-5)
        fine, same = pooled.spread(coarse, values), multiplied.spread(coarse, values)
        assert fine.shape == same.shape
        assert torch.allclose(fine, same, atol=1e-5)


@pytest.mark.parametrize('window', [5, 8, 40, 96])
def test_windows_are_as_wide_as_they_say_wherever_they_are(window):
    windows = Windows(window, 16)
    ramp = torch.arange(320.0).expand(1, 1, 240, 320)
    means = windows.spread(windows.sum(ramp), ramp)
    # Inside, the mean over a window around a pixel of a ramp is the pixel itself.
    assert means.shape[-1] == 320 or windows.step == 1
    inside = slice(window, 320 - window)
    assert (means[..., inside] - ramp[..., inside]).abs().max() <= windows.step / 2 + 0.5
    assert windows.step <= max(1, window / 8)
    # At the border the window stands inside the image.
    assert abs(float(means[0, 0, 0, 0]) - (windows.side * windows.step - 1) / 2) < 1e-3


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
    folded, partial = copy.deepcopy(model), copy.deepcopy(model)
    fold(folded.fusion)
    fold(partial.fusion, model.needed_heads(guided=False, low_resolution=True))
    assert len(partial.fusion.heads) <= len(model.fusion.heads)
    rgb = torch.rand(1, 3, *size)
    depth = torch.rand(1, 1, size[0] // 4, size[1] // 4) + 0.5
    depth[..., 2:9, 3:12] = 0
    with torch.inference_mode():
        expected = model(rgb, depth)
        outputs = folded(rgb, depth), partial(rgb, depth)
    assert (expected.depth / expected.interpolated - 1).abs().max() > 0.01
    for came in outputs:
        assert torch.allclose(came.depth, expected.depth, rtol=1e-4)
        logit = expected.confidence_logit
        assert torch.allclose(came.confidence_logit, logit, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize('guided', [False, True])
@pytest.mark.parametrize('ratio', [1, 4])
def test_only_heads_that_nobody_looks_at_are_left_out(randomised, guided, ratio):
    model = randomised(CONFIGURATIONS['embedded'].fusion)
    low_resolution = ratio > 1
    needed = model.needed_heads(guided=guided, low_resolution=low_resolution)
    idle = {'kept'} if low_resolution else {'trust', 'denoised'}
    assert set(model.fusion.heads) - set(needed) == (idle if guided else idle | {'fitted'})
    rgb, depth = torch.rand(1, 3, 96, 128), torch.rand(1, 1, 96 // ratio, 128 // ratio) + 0.5
    relative = torch.rand(1, 1, 48, 64) if guided else None
    partial = copy.deepcopy(model)
    fold(partial.fusion, needed)
    with torch.inference_mode():
        expected, came = model(rgb, depth, relative), partial(rgb, depth, relative)
    assert torch.allclose(came.depth, expected.depth, rtol=1e-4)
    # Each of the others counts; but trust not where a random network does not agree with the cells.
    for name in set(needed) - {'confidence', 'trust'}:
        without = copy.deepcopy(model)
        place = model.fusion.heads.index(name)
        with torch.no_grad():
            for end in (without.fusion.head[0], without.fusion.detail.head[0]):
                end.weight.unflatten(0, (len(model.fusion.heads), -1))[place] = 0
                end.bias.view(len(model.fusion.heads), -1)[place] = 0
        with torch.inference_mode():
            assert not torch.equal(without(rgb, depth, relative).depth, expected.depth), name
