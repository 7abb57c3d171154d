# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from depth_sr_ros.training.losses import (
    confidence_loss,
    edge_loss,
    fusion_loss,
    guide_loss,
    masked_mean,
    ratio_loss,
    sobel,
    square_loss,
)


def ramp(slope=0.1, size=16):
    return (1.0 + slope * torch.arange(size).float()).expand(1, 1, size, size).clone()


def test_sobel_of_a_ramp_is_its_slope():
    derivative = sobel(ramp(0.1))
    assert torch.allclose(derivative[:, 0], torch.full((1, 14, 14), 0.1), atol=1e-6)
    assert torch.allclose(derivative[:, 1], torch.zeros(1, 14, 14), atol=1e-6)


def test_seed_loss_is_l1_plus_sobel_of_depth_over_300():
    truth = ramp(3.0)
    predicted = truth + 6.0
    loss = fusion_loss(predicted, truth, space='linear_300')
    assert loss.item() == pytest.approx(6.0 / 300)
    predicted = ramp(6.0)
    expected = (predicted - truth).abs().mean() / 300 + 0.5 * 3.0 / 300
    assert fusion_loss(predicted, truth, space='linear_300').item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    # The truth is clipped to 300.
    far = torch.full((1, 1, 8, 8), 900.0)
    assert fusion_loss(torch.full_like(far, 300.0), far, space='linear_300').item() == 0


def test_log_loss_weighs_every_range_the_same():
    truth = ramp()
    near = fusion_loss(truth * 1.1, truth, space='log', scales=2)
    far = fusion_loss(truth * 55.0, truth * 50.0, space='log', scales=2)
    assert near.item() == pytest.approx(math.log(1.1), rel=1e-4)
    assert near.item() == pytest.approx(far.item(), rel=1e-4)


def test_unknown_truth_has_no_say():
    truth = ramp()
    predicted = (truth + 0.1).requires_grad_()
    with torch.no_grad():
        holes = truth.clone()
        holes[..., 5:8, 5:8] = 0
        wild = predicted.detach().clone()
        wild[..., 5:8, 5:8] = 1e6
    for space in ('log', 'linear_300'):
        one = fusion_loss(predicted.detach(), holes, space=space, scales=2)
        other = fusion_loss(wild, holes, space=space, scales=2)
        assert torch.equal(one, other)


@pytest.mark.parametrize('space', ['log', 'linear_300'])
def test_batches_without_valid_truth_survive(space):
    predicted = torch.ones(2, 1, 16, 16, requires_grad=True)
    truth = torch.zeros(2, 1, 16, 16)
    logit = torch.zeros(2, 1, 16, 16, requires_grad=True)
    loss = (
        fusion_loss(predicted, truth, space=space, scales=3)
        + confidence_loss(logit, predicted, truth)
        + guide_loss(predicted, truth)
    )
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(predicted.grad, torch.zeros_like(predicted))


def test_unknown_space_is_quoted():
    with pytest.raises(ValueError, match='cubic'):
        fusion_loss(ramp(), ramp(), space='cubic')


def test_confidence_is_lowest_where_it_is_right_about_the_error():
    truth = torch.full((1, 1, 8, 8), 2.0)
    predicted = truth.clone()
    predicted[..., :4] *= 1.06
    right = torch.where(predicted == truth, 8.0, -8.0)
    assert confidence_loss(right, predicted, truth) < 0.01
    assert confidence_loss(-right, predicted, truth) > 7


def test_guide_loss_ignores_scale_and_shift():
    truth = ramp(0.2) + torch.rand(1, 1, 16, 16)
    inverse = 1.0 / truth
    inverse = inverse / (inverse - inverse.median()).abs().mean()
    assert guide_loss(inverse + 7.0, truth).item() < 1e-4
    assert guide_loss(3.0 * inverse + 7.0, truth).item() < 0.06
    assert guide_loss(-inverse, truth).item() > 0.5
    # Nearly constant is right in shape, but nothing that half precision could carry.
    assert guide_loss(1e-4 * inverse + 7.0, truth).item() > 0.3


def test_masked_mean_and_edges_of_nothing_are_zero():
    values = torch.full((1, 1, 4, 4), torch.nan)
    assert masked_mean(values, torch.zeros(1, 1, 4, 4, dtype=torch.bool)) == 0
    assert edge_loss(ramp(), ramp(), torch.zeros(1, 1, 16, 16, dtype=torch.bool), 2) == 0


def test_square_loss_is_relative_and_not_ruled_by_far_pixels():
    truth = torch.full((1, 1, 8, 8), 2.0)
    assert square_loss(truth * 1.1, truth).item() == pytest.approx(0.5 * 0.1**2, rel=1e-4)
    assert square_loss(truth * 11, truth * 10).item() == pytest.approx(0.5 * 0.1**2, rel=1e-4)
    assert square_loss(truth * 5, truth).item() == pytest.approx(0.3 * (4 - 0.15), rel=1e-4)
    plain = fusion_loss(truth * 1.1, truth, space='log')
    both = fusion_loss(truth * 1.1, truth, space='log', square_weight=2.0)
    assert (both - plain).item() == pytest.approx(2 * 0.5 * 0.1**2, rel=1e-3)


def test_ratio_loss_is_rmse_over_that_of_the_input_whatever_the_range():
    truth = ramp()
    off = truth + 0.2
    for metres in (0.1, 1.0, 30.0):
        loss = ratio_loss(metres * (truth + 0.1), metres * truth, metres * off)
        assert loss.item() == pytest.approx(0.5, rel=0.01)
        assert ratio_loss(metres * off, metres * truth, metres * off).item() == pytest.approx(1.0)
    # Two images weigh the same, also where one has little truth; one without any does not count.
    scarce = truth.clone()
    scarce[..., 4:, :] = 0
    nothing = torch.zeros_like(truth)
    predicted = torch.cat([truth + 0.1, scarce + 0.3, truth])
    loss = ratio_loss(predicted, torch.cat([truth, scarce, nothing]), torch.cat([off, off, off]))
    assert loss.item() == pytest.approx((0.5 + 1.5) / 2, rel=0.02)


def test_ratio_loss_has_a_gradient_where_there_is_nothing_to_gain():
    truth = ramp()
    # Ten times the error of an input that is all but perfect is still all but perfect.
    assert ratio_loss(truth * 1.001, truth, truth * 1.0001).item() < 1.05
    assert ratio_loss(truth, torch.full_like(truth, 0.0), truth).item() == 0
    for target in (truth, torch.zeros_like(truth)):
        predicted = truth.clone().requires_grad_()
        ratio_loss(predicted, target, truth.clone()).backward()
        assert predicted.grad.isfinite().all()
