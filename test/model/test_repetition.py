# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from depth_sr_ros.data.depth_sensors import AlignedDepth
from depth_sr_ros.model.config import CONFIGURATIONS
from depth_sr_ros.model.repetition import RUN_LENGTHS, run_shares


def shares(depth):
    tensor = torch.from_numpy(np.ascontiguousarray(depth, np.float32))[None, None]
    return run_shares(tensor, tensor > 0)[0].tolist()


@pytest.fixture
def noisy():
    rng = np.random.default_rng(0)
    return rng.uniform(1, 1.01, (60, 84)).astype(np.float32)


@pytest.mark.parametrize('times', RUN_LENGTHS)
def test_repeated_pixels_are_counted_by_how_often(noisy, times):
    repeated = noisy.repeat(times, 0).repeat(times, 1)
    expected = [float(length == times) for length in RUN_LENGTHS]
    assert shares(repeated) == pytest.approx(expected)
    # A phase of its own in every row makes no grid, and the same runs.
    rolled = np.stack([np.roll(row, i) for i, row in enumerate(repeated.repeat(4, 0))])
    assert shares(rolled[:, times:-times])[times - 1] > 0.4


def test_long_runs_and_no_changes_are_none_of_them(noisy):
    assert shares(np.ones((40, 40))) == [0, 0, 0]
    assert sum(shares(noisy.repeat(5, 0).repeat(5, 1))) == 0
    assert shares(np.ones((2, 2))) == [0, 0, 0]


def test_only_neighbours_that_are_measured_count(noisy):
    holed = noisy.copy()
    holed[:, ::2] = 0
    holed[::2] = 0
    assert shares(holed) == [0, 0, 0]
    holed = noisy.copy()
    holed[20:40, 30:50] = 0
    assert shares(holed)[0] > 0.98


def test_what_a_driver_aligned_is_told_from_what_was_measured(noisy):
    rgb = np.zeros((60, 84, 3), np.uint8)
    aligned = AlignedDepth(2.0)(rgb, noisy, np.random.default_rng(0))
    assert shares(aligned)[1] > 0.7
    assert shares(noisy)[1] == 0


@pytest.mark.parametrize(('ratio', 'told'), [(1, True), (2, False)])
def test_the_network_is_told_at_full_resolution(randomised, ratio, told):
    model = randomised(CONFIGURATIONS['embedded'].fusion)
    rgb, depth = torch.rand(1, 3, 96, 128), torch.rand(1, 1, 96 // ratio, 128 // ratio) + 1
    with torch.inference_mode():
        model.fusion.repetition.weight.zero_()
        before = model(rgb, depth)
        # It reaches both stages that it is meant for.
        for part in (slice(None, 32), slice(32, None)):
            weight = torch.zeros_like(model.fusion.repetition.weight)
            weight[part] = 0.1
            model.fusion.repetition.weight.copy_(weight)
            assert torch.equal(model(rgb, depth).depth, before.depth) != told
