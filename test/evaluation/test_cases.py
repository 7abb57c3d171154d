# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.frame import RGBDFrame
from depth_sr_ros.evaluation import cases


def frame(name, value=1.0, size=(48, 64)):
    rgb = np.zeros((48, 64, 3), np.uint8)
    return RGBDFrame(rgb, np.full(size, value, np.float32), None, name)


def test_degradation_does_not_depend_on_the_frames_before():
    noise = parse_degradation('scale=8,noise=0.02')
    first = cases.degraded_cases([frame('a'), frame('b')], noise, seed=1)
    second = cases.degraded_cases([frame('b')], noise, seed=1)
    assert np.array_equal(first[1].depth, second[0].depth)
    assert first[1].digest == second[0].digest
    other = cases.degraded_cases([frame('b')], noise, seed=2)
    assert not np.array_equal(other[0].depth, second[0].depth)
    assert other[0].digest != second[0].digest
    assert not np.array_equal(first[0].depth, first[1].depth)


def test_frames_without_depth_are_parted():
    given = cases.degraded_cases([frame('a'), frame('b', 0)], parse_degradation('scale=8'))
    given.append(cases.Case('c', given[0].rgb, given[0].depth, given[1].truth))
    given.append(cases.Case('d', given[0].rgb, np.full((6, 8), np.nan), given[0].truth))
    kept, left_out = cases.part_measured(given)
    assert [case.name for case in kept] == ['a']
    assert left_out == ['b', 'c', 'd']


def test_low_resolution_depth_is_no_truth():
    with pytest.raises(ValueError, match=r'\(24, 32\)'):
        cases.degraded_cases([frame('a', size=(24, 32))], parse_degradation('scale=2'))


def test_measured_follows_the_cells():
    case = cases.Case('a', np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2)), np.ones((4, 4)))
    case.depth[0, 1] = 2.0
    assert case.measured.tolist() == [[False, False, True, True]] * 2 + [[False] * 4] * 2


def test_pairs_by_name_or_last_number():
    truths = [frame('00003', 3.0), frame('b_7', 7.0)]
    paired = cases.paired_cases([frame('redwood_3'), frame('b_7')], truths)
    assert [case.truth[0, 0] for case in paired] == [3.0, 7.0]
    with pytest.raises(ValueError, match='redwood_4'):
        cases.paired_cases([frame('redwood_4')], truths)


def test_pairs_by_suffix_with_mask():
    frames = [frame('x_transparent', 1.0), frame('x_opaque', 2.0), frame('other')]
    mask = np.eye(48, 64, dtype=bool)
    (case,) = cases.suffix_pairs(frames, '_transparent', '_opaque', lambda name: mask)
    assert case.depth[0, 0] == 1.0
    assert case.truth[0, 0] == 2.0
    assert case.mask is mask
    with pytest.raises(ValueError, match='x_opaque is missing'):
        cases.suffix_pairs(frames[:1], '_transparent', '_opaque')
    with pytest.raises(ValueError, match='_glass'):
        cases.suffix_pairs(frames, '_glass', '_opaque')


def test_hidden_blocks_are_scored_and_gone():
    source = frame('a', size=(48, 64))
    source.depth[:, :20] = 0
    (case,) = cases.hidden_cases([source], seed=3, share=0.2, sides=(6, 12))
    assert (case.depth[case.mask] == 0).all()
    assert np.array_equal(case.depth[~case.mask], source.depth[~case.mask])
    share = (case.mask & (source.depth > 0)).sum() / (source.depth > 0).sum()
    assert 0.2 <= share < 0.35
    assert case.truth is source.depth


def test_cropped_keeps_cells_and_pixels_together():
    source = frame('a')
    source.depth[:] = np.arange(48 * 64).reshape(48, 64) + 1
    (case,) = cases.degraded_cases([source], parse_degradation('scale=8'))
    case.rgb[..., 0] = np.arange(64)
    window = cases.cropped(case, (24, 32), seed=4)
    assert window.depth.shape == (3, 4)
    assert window.truth.shape == (24, 32)
    assert window.rgb.shape == (24, 32, 3)
    means = window.truth.reshape(3, 8, 4, 8).mean(axis=(1, 3))
    assert means == pytest.approx(window.depth, rel=1e-5)
    assert window.truth[0].tolist() == (window.truth[0, 0] + np.arange(32)).tolist()
    assert (window.rgb[0, :, 0] % 64 == (window.truth[0] - 1) % 64).all()
    whole = cases.cropped(case, (480, 640))
    assert whole.digest == case.digest
    ragged = cases.Case('r', case.rgb, np.ones((5, 7), np.float32), case.truth)
    with pytest.raises(ValueError, match='no multiple'):
        cases.cropped(ragged, (24, 32))
