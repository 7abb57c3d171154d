# SPDX-License-Identifier: Apache-2.0
"""Others' networks answer at our size; what is compared is compared fairly."""

import numpy as np
import pytest
import torch

from depth_sr_ros.benchmark.frames import benchmark_frames
from depth_sr_ros.benchmark.parity import parity
from depth_sr_ros.benchmark.subjects import (
    REFERENCE,
    Variant,
    _Comparator,
    subjects,
    variants,
)

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def known():
    return subjects()


@pytest.fixture(scope='module')
def seed(known):
    return known['seed']()


def test_frames_are_what_they_say():
    frames = benchmark_frames((160, 90))
    assert len(frames) == 4
    for frame in frames:
        assert frame.rgb.shape == (90, 160, 3)
        assert frame.truth.shape == (90, 160)
        assert frame.depth.shape == (22, 40)
        assert np.median(frame.depth) == pytest.approx(np.median(frame.truth), rel=0.1)
    assert not np.array_equal(frames[0].rgb, frames[1].rgb)


@pytest.mark.parametrize('name', ['embedded', 'Prompt Depth Anything Small'])
def test_answers_at_the_size_of_rgb(known, name):
    (frame, *_) = benchmark_frames((64, 64))
    contestant = known[name]().build(REFERENCE, CPU)
    marks, in_tf32 = [], []

    def mark(stage):
        marks.append(stage)
        in_tf32.append(torch.backends.cudnn.allow_tf32)

    contestant.set_mark(mark)
    output = contestant(frame.rgb, frame.depth)
    assert output.shape == (64, 64)
    assert np.isfinite(output).all()
    # The reference is full float32, others' too.
    assert not any(in_tf32)
    assert marks[0] == 'start'
    assert marks[-1] == 'download'
    contestant.close()


def test_only_what_is_there_is_offered(known, seed):
    assert list(known)[:6] == [
        'embedded',
        'embedded guided',
        'base',
        'seed',
        'Depth Anything Small',
        'Prompt Depth Anything Small',
    ]
    assert seed.parameters == pytest.approx(29e6, rel=0.02)
    assert seed.input_size((1920, 1080)) == '924x518'
    assert known['base']().input_size((1920, 1080)) == 'none'
    with pytest.raises(ValueError, match='onnxruntime is measured with the embedded weights'):
        seed.build(Variant('float32', 'session', 'onnxruntime'), CPU)


def test_every_size_of_a_comparator_is_compiled(compiled):
    for width in (64, 80):
        compiled.clear()
        comparator = _Comparator(
            Variant('float32', 'compile'), CPU, lambda rgb, _: rgb[..., 0] * 0.5
        )
        comparator.warm_up((width, 64), (16, 16))
        assert compiled, width
        comparator.close()


def test_reference_is_first():
    for device in ('cpu', 'cuda'):
        assert variants(torch.device(device), compiled=True)[0] == REFERENCE
    labels = [variant.label for variant in variants(torch.device('cuda'), compiled=True)]
    assert 'float16 graph' in labels
    assert 'float16 compile' in labels


def test_parity_sees_a_difference():
    frames = benchmark_frames((64, 64))
    references = [frame.truth * np.float32(1.02) for frame in frames]
    same = parity(references, references, frames)
    assert same == {'median': 0, 'p99': 0, 'rmse_ratio': 1}
    worse = parity([frame.truth * np.float32(1.04) for frame in frames], references, frames)
    assert worse['median'] == pytest.approx(0.02 / 1.02, rel=1e-3)
    assert worse['rmse_ratio'] == pytest.approx(2, rel=1e-3)
