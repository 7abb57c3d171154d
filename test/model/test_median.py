# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.model.median import _by_search, masked_median, masked_quantile


def test_lower_median_of_the_valid_ones():
    values = torch.tensor([[5.0, 1.0, 9.0, 3.0, 7.0], [4.0, 2.0, 9.0, 9.0, 9.0]])
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    assert masked_median(values, valid).flatten().tolist() == [5.0, 2.0]


def test_a_quantile_is_a_value_that_its_share_does_not_exceed():
    values = torch.arange(1.0, 11.0).flip(0)[None]
    valid = torch.ones_like(values, dtype=torch.bool)
    for share, expected in ((0.3, 3.0), (0.31, 4.0), (1.0, 10.0)):
        assert masked_quantile(values, valid, share).item() == expected


def test_nothing_valid_is_zero():
    assert masked_median(torch.ones(1, 4), torch.zeros(1, 4, dtype=torch.bool)).item() == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.sampled_from([1e-3, 1.0, 1e5]), st.integers(0, 99))
def test_the_search_finds_the_same(count, scale, seed):
    torch.manual_seed(seed)
    for values in (torch.rand(2, count), torch.randint(0, 4, (2, count)).float()):
        values = values * scale
        valid = torch.rand(2, count) < 0.7
        valid[:, 0] = True
        for share in (0.3, 0.5):
            expected = masked_quantile(values, valid, share)
            assert torch.equal(_by_search(values, valid, share), expected)


@pytest.mark.parametrize('value', [0.0, 2.0])
def test_the_search_on_a_constant(value):
    values = torch.full((1, 50), value)
    assert _by_search(values, torch.ones_like(values, dtype=torch.bool), 0.5).item() == value
