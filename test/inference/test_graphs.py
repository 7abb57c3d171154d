# SPDX-License-Identifier: Apache-2.0
"""When something is recorded, what a recording reads and when it goes; with stand-ins for CUDA."""

import gc
import logging
import weakref

import pytest
import torch

from depth_sr_ros.inference.graphs import GraphCache, Recording, is_out_of_memory
from depth_sr_ros.model.averaging import made_once


def doubled(variant, first, second=None):
    return (first * variant if second is None else first * variant + second,)


def test_recorded_the_second_time_and_right_ever_after(recorder):
    cache = GraphCache(doubled, recorder)
    for number in range(5):
        (result,) = cache(2, torch.full((3,), float(number)))
        assert result.tolist() == [2 * number] * 3
        assert recorder.recorded == (number > 0)
    assert recorder.replayed == 4
    assert cache.recorded == 1


def test_prepare_records_at_once(recorder):
    cache = GraphCache(doubled, recorder)
    cache.prepare(2, torch.ones(3))
    assert recorder.recorded == 1
    assert cache(2, torch.full((3,), 5.0))[0].tolist() == [10] * 3
    assert recorder.recorded == 1


def test_every_shape_and_variant_has_its_own(recorder):
    cache = GraphCache(doubled, recorder)
    one, two = torch.ones(3), torch.ones(4)
    calls = [(2, one), (3, one), (2, two), (2, one, one), (2, one.double())]
    for _ in range(2):
        for call in calls[:4]:
            cache(*call)
    assert recorder.recorded == 4
    assert cache(*calls[4])[0].dtype == torch.float64
    assert [cache(*call)[0].sum().item() for call in calls[:4]] == [6, 9, 8, 9]


def test_buffer_that_was_recorded_is_not_copied_to_itself(recorder):
    cache = GraphCache(doubled, recorder)
    buffer = torch.zeros(3)
    for number in range(4):
        buffer.fill_(number)
        assert cache(2, buffer)[0].tolist() == [2 * number] * 3
    other = torch.full((3,), 7.0)
    assert cache(2, other)[0].tolist() == [14] * 3
    assert buffer.tolist() == [7] * 3  # the recording's input now holds it


def test_constants_live_as_long_as_the_recording_that_reads_them():
    ramp = made_once(lambda length: torch.arange(float(length)))

    def record(function):
        # As a CUDA graph, it knows addresses and holds no tensor.
        return Recording(tuple(t.clone() for t in function()), lambda: None, lambda: None)

    cache = GraphCache(lambda variant, first: (first * ramp(variant),), record)
    cache.prepare(3, torch.ones(3))
    constant = weakref.ref(ramp(3))
    assert ramp(3) is constant()
    for length in range(10, 100):
        ramp(length)
    gc.collect()
    assert constant() is not None
    cache.clear()
    gc.collect()
    assert constant() is None


def test_the_least_recently_used_goes(recorder):
    cache = GraphCache(doubled, recorder, maximum=2)
    for size in (1, 2):
        cache.prepare(2, torch.ones(size))
    cache(2, torch.ones(1))
    cache.prepare(2, torch.ones(3))
    assert (recorder.reset, cache.recorded) == (1, 2)
    cache(2, torch.ones(1))
    assert recorder.recorded == 3  # 1 was still there, 2 was not
    cache(2, torch.ones(2))
    assert recorder.recorded == 3
    cache(2, torch.ones(2))
    assert (recorder.recorded, recorder.reset) == (4, 2)


def test_many_shapes_are_not_remembered_for_ever(recorder):
    cache = GraphCache(doubled, recorder)
    for size in range(1, 200):
        cache(2, torch.ones(size))
    assert recorder.recorded == 0
    assert len(cache._entries) <= 64


def test_clear_frees_everything(recorder):
    cache = GraphCache(doubled, recorder)
    cache.prepare(2, torch.ones(3))
    cache.clear()
    assert (recorder.reset, cache.recorded) == (1, 0)
    assert cache(2, torch.ones(3))[0].tolist() == [2] * 3


def test_control_flow_on_values_is_found_out(recorder, caplog):
    """A recording that is not what the function does is not used."""
    calls = []

    def fickle(_variant, tensor):
        calls.append(1)
        return (tensor * len(calls),)

    cache = GraphCache(fickle, recorder)
    with caplog.at_level(logging.WARNING):
        cache('fickle', torch.ones(3))
        cache('fickle', torch.ones(3))
    assert 'no CUDA graph for fickle' in caplog.text
    assert 'differs by' in caplog.text
    assert (recorder.reset, cache.recorded) == (1, 0)
    for _ in range(3):
        assert cache('fickle', torch.ones(3))[0].tolist() == [len(calls)] * 3
    assert recorder.recorded == 1
    assert caplog.text.count('no CUDA graph') == 1


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (torch.cuda.OutOfMemoryError('CUDA out of memory'), 'not enough memory'),
        (RuntimeError('CUDA error: out of memory'), 'not enough memory'),
        (RuntimeError('operation not permitted when stream is capturing'), 'not permitted'),
    ],
)
def test_what_cannot_be_recorded_runs_plainly(error, words, caplog):
    def failing(function):
        raise error

    cache = GraphCache(doubled, failing)
    with caplog.at_level(logging.WARNING):
        for number in range(4):
            assert cache(2, torch.full((3,), float(number)))[0].tolist() == [2 * number] * 3
    assert words in caplog.text
    assert caplog.text.count('no CUDA graph') == 1


def test_other_faults_are_not_hidden():
    def wrong(function):
        raise TypeError('a bug')

    cache = GraphCache(doubled, wrong)
    cache(2, torch.ones(3))
    with pytest.raises(TypeError):
        cache(2, torch.ones(3))


def test_out_of_memory_is_found_behind_what_it_caused():
    def capture():
        try:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        finally:
            raise RuntimeError('capture was invalidated')

    with pytest.raises(RuntimeError, match='invalidated') as caught:
        capture()
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(RuntimeError('CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate'))
    assert not is_out_of_memory(RuntimeError('shapes do not match'))
    assert not is_out_of_memory(ValueError('out of memory'))
