# SPDX-License-Identifier: Apache-2.0
"""Copies to the device and back; page-locked memory and events are stood in for, without a GPU."""

import numpy as np
import pytest
import torch

from depth_sr_ros.inference.staging import Staging

CPU = torch.device('cpu')


class Event:
    """Stands in for torch.cuda.Event, and notes what is asked of it."""

    log: list[str] = []  # noqa: RUF012

    def record(self):
        self.log.append('record')

    def synchronize(self):
        self.log.append('wait')


@pytest.fixture
def pinned(monkeypatch):
    """A Staging that takes the GPU's way, with ordinary memory."""
    empty = torch.empty

    def ordinary(*shape, pin_memory=False, **options):
        return empty(*shape, **options)

    monkeypatch.setattr(torch, 'empty', ordinary)
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    Event.log.clear()
    staging = Staging(CPU)
    staging._pinned = True
    return staging


def test_on_a_cpu_nothing_is_copied_that_need_not_be():
    staging = Staging(CPU)
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert staging.upload('depth', array).data_ptr() == array.ctypes.data
    array.flags.writeable = False
    tensor = staging.upload('depth', array)
    assert tensor.data_ptr() != array.ctypes.data
    assert tensor.tolist() == array.tolist()
    assert staging.upload('rgb', array[:, ::-1]).tolist() == array[:, ::-1].tolist()


def test_the_same_buffer_for_every_array_of_a_shape(pinned):
    first = pinned.upload('rgb', np.full((4, 5, 3), 1, np.uint8))
    assert first.tolist() == np.full((4, 5, 3), 1).tolist()
    # Not before the copy of the one before has left the memory that is written to.
    second = pinned.upload('rgb', np.full((4, 5, 3), 2, np.uint8))
    assert second is first
    assert Event.log == ['wait', 'record', 'wait', 'record']
    assert second.unique().tolist() == [2]
    assert pinned.upload('other', np.full((4, 5, 3), 3, np.uint8)) is not first
    assert pinned.upload('rgb', np.zeros((5, 4, 3), np.uint8)) is not first
    assert first.unique().tolist() == [2]


def test_views_and_read_only_arrays_go_up(pinned):
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    array.flags.writeable = False
    assert pinned.upload('rgb', array).tolist() == array.tolist()


def test_buffers_do_not_pile_up(pinned):
    for size in range(1, 40):
        pinned.upload('depth', np.zeros((size, 2), np.float32))
        pinned.download_one(torch.zeros(size, 2), np.empty((size, 2), np.float32))
    assert len(pinned._uploads) == len(pinned._downloads) == 8
    pinned.clear()
    assert not pinned._uploads


@pytest.mark.parametrize('way', ['cpu', 'pinned'])
def test_what_comes_back_is_the_callers(way, request):
    staging = Staging(CPU) if way == 'cpu' else request.getfixturevalue('pinned')
    depth, confidence = torch.full((4, 6), 2.0), torch.full((4, 6), 0.5)
    out = np.empty((4, 6), np.float32)
    kept = staging.download(depth, confidence, out)
    depth.fill_(3)
    confidence.fill_(0.1)
    wide = np.empty((4, 12), np.float32)
    staging.download(depth, confidence, wide[:, ::2])  # not contiguous
    assert out.tolist() == [[2.0] * 6] * 4
    assert kept.tolist() == [[0.5] * 6] * 4
    assert wide[:, ::2].tolist() == [[3.0] * 6] * 4


def test_both_copies_are_under_way_before_one_is_waited_for(pinned):
    pinned.download(torch.zeros(4, 6), torch.zeros(4, 6), np.empty((4, 6), np.float32))
    assert Event.log == ['record', 'record', 'wait', 'wait']


def test_page_locked_output_is_written_by_the_device(pinned, monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'is_pinned', lambda self: True)
    out = np.empty((4, 6), np.float32)
    pinned.download_one(torch.full((4, 6), 7.0), out)
    assert out.tolist() == [[7.0] * 6] * 4
    assert not pinned._downloads
