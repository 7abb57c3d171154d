# SPDX-License-Identifier: Apache-2.0
"""The PyTorch engine: its recorded path in software, its way out of too little memory.

There is no GPU here: what a CUDA graph would do is done by conftest.TapeRecorder, and that
nothing in the model asks for values on the host is checked on tensors that have none (device
'meta').
"""

import logging

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depth_sr_ros.model.config import CONFIGURATIONS
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.point_samples import place_points


def run(engine, rgb, depth, relative=None):
    out = np.full(rgb.shape[:2], -1, np.float32)
    confidence = engine.run(rgb, depth, out, relative)
    return out, confidence


def agree(one, other):
    return all(np.allclose(a, b, rtol=2e-3, atol=2e-3) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize('guide', [True, False])
def test_recording_answers_like_the_plain_model(make_engine, recorder, pair, guide):
    recorded = make_engine(guide, execution='graph', recorder=recorder)
    plain = make_engine(guide, execution='eager')
    kept = []
    for seed in range(5):
        rgb, depth = pair(64, 64, seed)
        result = run(recorded, rgb, depth)
        assert agree(result, run(plain, rgb, depth)), seed
        kept.append((result, [array.copy() for array in result]))
    assert recorder.recorded == 1 + guide
    # What was handed out is the caller's: later frames do not write there.
    for result, copies in kept:
        assert all(np.array_equal(a, b) for a, b in zip(result, copies, strict=True))
    assert not agree(kept[0][0], kept[1][0])


def test_depth_is_computed_without_tf32(make_engine, pair):
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    engine = make_engine()
    seen = []
    engine.mark = lambda stage: seen.append([flag.allow_tf32 for flag in flags])
    run(engine, *pair(64, 64, 0))
    assert seen
    assert not np.any(seen)
    assert [flag.allow_tf32 for flag in flags] == before


def test_another_size_is_recorded_anew(make_engine, recorder, pair):
    recorded, plain = make_engine(execution='graph', recorder=recorder), make_engine()
    for seed, size in enumerate([(64, 64), (64, 64), (96, 64), (96, 64), (64, 64)]):
        rgb, depth = pair(*size, seed)
        assert agree(run(recorded, rgb, depth), run(plain, rgb, depth)), seed
    assert recorder.recorded == 4


def test_warm_up_records_and_the_first_frame_replays(make_engine, recorder, pair):
    recorded = make_engine(execution='graph', recorder=recorder)
    recorded.warm_up((64, 64), (16, 16))
    # The guide, the size of the depth, and RGB's, at which depth is that turns out to be points.
    assert recorder.recorded == 3
    before = recorder.replayed
    rgb, depth = pair(64, 64, 1)
    for measured in (depth, place_points(depth, 4, (0, 0))):
        assert agree(run(recorded, rgb, measured), run(make_engine(), rgb, measured))
    assert (recorder.recorded, recorder.replayed) == (3, before + 4)


def test_warm_up_records_no_points_where_none_can_be(make_engine, recorder):
    make_engine(execution='graph', recorder=recorder).warm_up((64, 64), (40, 40))
    assert recorder.recorded == 2


def test_guide_kept_from_another_frame(make_engine, recorder, pair):
    recorded, plain = make_engine(execution='graph', recorder=recorder), make_engine()
    first, _ = pair(64, 64, 1)
    kept = recorded.relative_depth(first), plain.relative_depth(first)
    for seed in range(2, 6):
        rgb, depth = pair(64, 64, seed)
        recorded.relative_depth(rgb)  # must not overwrite what was handed out before
        results = run(recorded, rgb, depth, kept[0]), run(plain, rgb, depth, kept[1])
        assert agree(*results), seed
        assert not agree(results[1], run(plain, rgb, depth))


def test_without_a_guide_there_is_no_relative_depth(make_engine, pair):
    assert make_engine(guide=False).relative_depth(pair(64, 64)[0]) is None


def test_closed_engine_says_so(make_engine, pair):
    engine = make_engine()
    engine.close()
    with pytest.raises(RuntimeError, match='closed'):
        run(engine, *pair(64, 64))
    engine.close()
    assert engine.description['execution'] == 'eager'
    assert engine.memory() == {}


def test_what_a_closed_engine_compiled_does_not_count_for_the_next(make_engine, pair, compiled):
    for width in (64, 96):
        compiled.clear()
        engine = make_engine(guide=False, execution='compile')
        run(engine, *pair(width, 64))
        assert compiled, width
        engine.close()


def test_wrong_execution_is_quoted(make_engine):
    with pytest.raises(ValueError, match="execution is 'fast'"):
        make_engine(execution='fast')
    with pytest.raises(ValueError, match='need a CUDA device'):
        make_engine(execution='graph')


class Memory:
    """Stands in for a small GPU: raises what CUDA raises where `allows(...)` is false."""

    def __init__(self, engine, monkeypatch, allows):
        self.attempts = []
        network, estimator = engine._network, engine._estimator

        def fuse(image, depth, relative, **options):
            self.attempts.append(('fusion', tuple(image.shape[-2:]), relative is not None))
            if not allows(*self.attempts[-1]):
                raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate ...')
            return network(image, depth, relative, **options)

        def estimate(image, short_side):
            self.attempts.append(('guide', tuple(image.shape[-2:]), short_side))
            if not allows(*self.attempts[-1]):
                raise RuntimeError('CUDA error: out of memory')
            return estimator(image, short_side)

        monkeypatch.setattr(engine, '_network', fuse)
        monkeypatch.setattr(engine, '_estimator', estimate)


@pytest.mark.parametrize(
    ('allows', 'said'),
    [
        (lambda part, size, detail: part != 'guide' or detail < 224, 'guide at 196 pixels'),
        (lambda part, size, detail: part != 'guide', 'without the guide'),
        (lambda part, size, detail: part == 'fusion' and size[0] <= 32, 'at half the size'),
    ],
)
def test_too_little_memory_goes_on_with_less(make_engine, pair, monkeypatch, caplog, allows, said):
    engine = make_engine()
    memory = Memory(engine, monkeypatch, allows)
    rgb, depth = pair(64, 64, 1)
    with caplog.at_level(logging.WARNING):
        result = run(engine, rgb, depth)
    assert said in caplog.text.splitlines()[-1]
    assert '64x64 with' in engine.description['reduced']
    assert said in engine.description['reduced']
    for array in result:
        assert array.shape == (64, 64)
        assert np.isfinite(array).all()
    assert result[0].min() > 0
    # It is remembered: the next frame of this size does not run into it again.
    memory.attempts.clear()
    lines = len(caplog.text.splitlines())
    run(engine, rgb, depth)
    assert all(allows(*attempt) for attempt in memory.attempts)
    assert len(caplog.text.splitlines()) == lines


def test_too_little_memory_for_one_size_leaves_others_alone(make_engine, pair, monkeypatch):
    engine = make_engine(guide=False)
    Memory(engine, monkeypatch, lambda part, size, detail: max(size) < 80)
    run(engine, *pair(96, 64))
    assert '96x64' in engine.description['reduced']
    small = pair(64, 64)
    assert agree(run(engine, *small), run(make_engine(guide=False), *small))
    assert '64x64' not in engine.description['reduced']


def test_memory_that_never_suffices_is_an_error_and_the_engine_lives(
    make_engine, pair, monkeypatch
):
    engine = make_engine()
    enough = []
    Memory(engine, monkeypatch, lambda *_: bool(enough))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(engine, *pair(64, 64))
    enough.append(True)
    assert np.isfinite(run(engine, *pair(64, 64))[0]).all()


def test_memory_freed_by_dropping_the_graphs(make_engine, recorder, pair, monkeypatch):
    engine = make_engine(guide=False, execution='graph', recorder=recorder)
    run(engine, *pair(64, 64))
    run(engine, *pair(64, 64))
    assert recorder.recorded == 1
    Memory(engine, monkeypatch, lambda *_: recorder.reset > 0)
    run(engine, *pair(96, 64))
    assert recorder.reset == 1
    assert engine.description['reduced'] == '96x64 without CUDA graphs'


def test_other_errors_come_through(make_engine, pair, monkeypatch):
    engine = make_engine()

    def fail(*_, **__):
        raise RuntimeError('shapes do not match')

    monkeypatch.setattr(engine, '_network', fail)
    with pytest.raises(RuntimeError, match='shapes'):
        run(engine, *pair(64, 64))
    assert 'reduced' not in engine.description


class OneDevice(TorchDispatchMode):
    """Notes every operator that touches another device than 'meta'."""

    def __init__(self):
        super().__init__()
        self.elsewhere = []
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
        self.count += 1
        if devices - {'meta'}:
            self.elsewhere.append(str(operator))
        return result


@pytest.mark.parametrize('name', sorted(CONFIGURATIONS))
def test_nothing_in_the_model_waits_for_the_device(name, monkeypatch):
    """What a CUDA graph cannot hold: values asked for by the host, and copies from the host.

    On the device 'meta' tensors have no values, so that asking for one (`.item()`, `if tensor`,
    a mask as an index) raises; an operator with a CPU tensor among its arguments is a copy.
    """
    model = DepthSR(CONFIGURATIONS[name]).eval()
    model.fusion.half()
    if model.relative_depth is not None:
        model.relative_depth.network.half()
    model.to('meta')
    image = torch.empty(1, 3, 480, 640, device='meta')
    depth = torch.empty(1, 1, 61, 81, device='meta')
    relative = torch.empty(1, 1, 30, 40, device='meta')

    def refuse(*arguments, **_):
        raise AssertionError(f'a tensor is made from values on the host: {arguments}')

    # These copy without an operator that could be seen.
    for maker in ('tensor', 'as_tensor', 'from_numpy'):
        monkeypatch.setattr(torch, maker, refuse)
    with torch.no_grad(), OneDevice() as seen:
        outputs = [model(image, depth), model(image, depth, relative)]
    assert not seen.elsewhere
    assert seen.count > 500
    for output in outputs:
        assert output.depth.shape == (1, 1, 480, 640)
        assert output.depth.dtype == torch.float32
