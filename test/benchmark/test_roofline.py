# SPDX-License-Identifier: Apache-2.0
"""The counted operations against torch's own counter, the bytes by hand."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from depth_sr_ros.benchmark.roofline import Operation, Rates, Work, bound_ms, count_work
from depth_sr_ros.benchmark.subjects import subjects


def test_one_convolution_by_hand():
    image = torch.empty(1, 8, 20, 30, device='meta')
    weight = torch.empty(16, 8, 3, 3, device='meta')
    work = count_work(lambda: torch.conv2d(image, weight, padding=1).relu())
    size = 16 * 20 * 30
    assert work.operations == [
        Operation(2 * size * 8 * 9, 4 * (8 * 20 * 30 + 16 * 8 * 9 + size)),
    ]
    assert work.all_bytes == work.bytes + 2 * 4 * size  # the ReLU reads and writes it once more
    assert work.launches == 2


def test_views_cost_nothing_and_expanded_tensors_what_they_hold():
    image = torch.empty(1, 8, 20, 30, device='meta')
    work = count_work(lambda: image.permute(0, 2, 3, 1)[:, :10].flatten(0, 1).unsqueeze(0))
    assert (work.launches, work.all_bytes) == (0, 0)
    row = torch.empty(1, 1, 1, 30, device='meta')
    work = count_work(lambda: row.expand(1, 8, 20, 30) + 1)
    assert work.all_bytes == 4 * 30 + 4 * 8 * 20 * 30


@pytest.mark.parametrize('name', ['embedded', 'seed'])
def test_operations_are_those_of_torchs_own_counter(name):
    trace = subjects()[name]().trace
    size, depth_size = (128, 96), (32, 24)
    run = trace('float32', size, depth_size)
    work = count_work(run)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    assert work.flops == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_what_is_made_once_and_the_weights_way_to_the_device_are_no_work():
    trace = subjects()['embedded']().trace
    first, second = (count_work(trace('float32', (160, 120), (40, 30))) for _ in range(2))
    assert first == second
    # Some twenty operators a block, of which there are 26, and as many again around the network.
    assert 1000 < first.launches < 2200


def test_half_precision_moves_half_the_bytes():
    trace = subjects()['base']().trace
    full, half = (
        count_work(trace(precision, (320, 240), (80, 60))) for precision in ('float32', 'float16')
    )
    assert half.flops == full.flops
    assert half.bytes == pytest.approx(full.bytes / 2, rel=0.02)
    assert full.all_bytes > full.bytes


def test_bound_is_the_larger_of_operations_and_bytes_for_each_operator():
    work = Work([Operation(4e9, 1.0), Operation(1.0, 3e9)], 5e9, 2)
    rates = Rates({'float32': 2e12}, 1e12, math.inf)
    assert bound_ms(work, rates, 'float32', 1e9) == pytest.approx(2 + 3)
    slow_bus = rates._replace(transfer=1e11)
    assert bound_ms(work, slow_bus, 'float32', 1e9) == pytest.approx(2 + 3 + 10)
