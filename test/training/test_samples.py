# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import torch

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.frame import DatasetError, RGBDFrame
from depth_sr_ros.data.rgbd_folder import RGBDFolder
from depth_sr_ros.model.config import CONFIGURATIONS
from depth_sr_ros.model.depth_sr import DepthNormalisation
from depth_sr_ros.training import samples
from depth_sr_ros.training.config import GuideMixture, SourceConfig, TrainingConfig
from depth_sr_ros.training.samples import (
    FusionSamples,
    FusionValidation,
    GuideSamples,
    GuideValidation,
    StepSampler,
    _for_guide,
    build_frames,
    collate,
    collate_by_size,
    crop_window,
    make_sample,
    prepared_depth,
    to_image_tensor,
)

CONFIG = TrainingConfig(steps=1, crop=64, crops_per_frame=2, validation_crop=(96, 96))


def test_samples_are_deterministic_and_differ(frames_folder):
    dataset = FusionSamples(RGBDFolder(frames_folder), CONFIG)
    again = FusionSamples(RGBDFolder(frames_folder), CONFIG)
    # Any order of access gives the same samples: training resumes where it stopped.
    later = again[17]
    for one, other in zip(dataset[17], later, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(dataset[3][0]['rgb'], dataset[4][0]['rgb'])


def test_batches_have_the_shapes_the_model_takes(frames_folder):
    dataset = FusionSamples(RGBDFolder(frames_folder), CONFIG)
    batch = collate([dataset[0], dataset[1]])
    assert batch['rgb'].shape == (4, 3, 64, 64)
    for name in ('truth', 'interpolated', 'lower', 'upper', 'validity', 'relative'):
        assert batch[name].shape == (4, 1, 64, 64), name
        assert torch.isfinite(batch[name]).all()
    assert (batch['lower'] <= batch['upper']).all()
    assert (batch['interpolated'] > 0).all()
    assert batch['median'].shape == (4, 1, 1, 1)


def test_crops_of_every_size_give_in_a_batch_what_they_give_alone(randomised):
    model = randomised(
        dataclasses.replace(CONFIGURATIONS['embedded'].fusion, widths=(8, 8, 12, 16))
    )
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 256, (96, 96, 3), np.uint8)
    truth = generator.uniform(1, 3, (96, 96)).astype(np.float32)
    samples = [make_sample(rgb, truth, truth[::n, ::n], None) for n in (1, 4)]

    def depth(samples):
        batch = collate([samples])
        normalisation = DepthNormalisation(batch['median'], batch['scale'])
        return model.fuse(batch['rgb'], prepared_depth(batch), None, normalisation).depth

    with torch.inference_mode():
        together = depth(samples)
        for sample, came, n in zip(samples, together, (1, 4), strict=True):
            torch.testing.assert_close(depth([sample])[0], came, rtol=1e-4, atol=1e-4)
            image = to_image_tensor(rgb)[None]
            alone = model(image, torch.from_numpy(truth[::n, ::n].copy())[None, None]).depth
            torch.testing.assert_close(alone[0], came, rtol=1e-4, atol=1e-4)


def test_every_epoch_sees_every_frame_once(frames_folder):
    dataset = FusionSamples(RGBDFolder(frames_folder), CONFIG)
    names = [dataset._frame(index).name for index in range(12)]
    assert sorted(names[:6]) == sorted(names[6:]) == sorted(dataset.frames.names)


def test_sensors_look_through_glass_and_the_truth_is_the_glass():
    rgb, depth = np.zeros((96, 128, 3), np.uint8), np.full((96, 128), 2.0, np.float32)
    depth[:, 64:] = 1.0
    frame = RGBDFrame(rgb, depth, None, 'pane', np.full_like(depth, 2.0))
    config = dataclasses.replace(CONFIG, degradation='clean')
    dataset = FusionSamples([frame], config)
    crops = [crop for index in range(20) for crop in dataset[index]]
    gone = 0
    for crop in crops:
        ratio = crop['truth'] / crop['truth'].amax()
        glass = ratio < 0.75
        if not 0.1 < glass.float().mean() < 0.9:
            continue
        measured = crop['validity'] > 0
        seen = crop['interpolated'] / crop['truth']
        assert torch.allclose(seen[measured & ~glass], torch.ones(()), rtol=1e-3)
        gone += bool((seen[measured & glass] > 1.5).float().mean() > 0.5)
    assert gone > 5


@pytest.mark.parametrize('share', ['none', 'imitated'])
def test_guides_follow_their_shares(frames_folder, share):
    shares = {name: float(name == share) for name in ('none', 'small', 'imitated')}
    config = TrainingConfig(steps=1, crop=64, guides=GuideMixture(**shares))
    dataset = FusionSamples(RGBDFolder(frames_folder), config)
    used = [bool(dataset[index][0]['relative'].any()) for index in range(6)]
    assert all(used) if share == 'imitated' else not any(used)


def test_three_in_ten_imitated_guides_lie_beside_the_image(frames_folder, monkeypatch):
    imitated = dataclasses.replace(CONFIG, guides=GuideMixture(none=0, small=0, imitated=1))
    dataset = FusionSamples(RGBDFolder(frames_folder), imitated)
    truth = np.ones((48, 64), np.float32)
    truth[12:36, 16:48] = 2
    # What is moved can be told: by it, everything is gone.
    monkeypatch.setattr(samples, 'misplace_guide', lambda guide, _rng: np.zeros_like(guide))
    guides = [dataset._relative('', truth, np.random.default_rng(seed)) for seed in range(200)]
    assert 0.2 < np.mean([np.ptp(guide) == 0 for guide in guides]) < 0.4


@pytest.mark.parametrize(
    ('kind', 'share', 'largest'),
    [('downsampling', 0.3, 0.02), ('dense sensor', 0.12, 0.01), ('sparse', 0.2, 0.02)],
)
def test_some_crops_have_surfaces_with_relief(monkeypatch, kind, share, largest):
    depth = np.full((96, 128), 2.0, np.float32)
    frame = RGBDFrame(np.zeros((96, 128, 3), np.uint8), depth, None, 'wall')
    # A sensor without faults measures the relief too.
    degraded_as = []

    def degradation(_rng, _size, kind):
        degraded_as.append(kind)
        return parse_degradation('clean')

    monkeypatch.setattr(samples, 'training_degradation', degradation)
    monkeypatch.setattr(samples, 'training_kind', lambda _rng: kind)
    crops = [crop for index in range(100) for crop in FusionSamples([frame], CONFIG)[index]]
    rough = [crop['truth'].unique().numel() > 1 for crop in crops]
    assert set(degraded_as) == {kind}
    assert share - 0.08 < np.mean(rough) < share + 0.08
    sizes = [float(crop['truth'].std() / crop['truth'].mean()) for crop in crops]
    # A crop may see less of it, and a little more than its part.
    assert 0.6 * largest < max(sizes) < 1.3 * largest
    for crop in crops:
        torch.testing.assert_close(crop['interpolated'], crop['truth'])
    # What is trained under one degradation sees the frames as they are.
    one = dataclasses.replace(CONFIG, degradation='scale=4')
    assert not any(
        FusionSamples([frame], one)[n][0]['truth'].unique().numel() > 1 for n in range(40)
    )


def halves(rgb_size, depth_size, behind=False):
    """A frame of (height, width): left black and near, right white and far."""
    rgb = np.zeros((*rgb_size, 3), np.uint8)
    rgb[:, rgb_size[1] // 2 :] = 255
    depth = np.ones(depth_size, np.float32)
    depth[:, depth_size[1] // 2 :] = 2.0
    return RGBDFrame(rgb, depth, None, 'halves', 1.5 * depth if behind else None)


def brighter_where_farther(sample):
    near = sample['truth'] < 0.75 * sample['truth'].max()
    brightness = sample['rgb'].mean(0, keepdim=True)
    if not 0.1 < near.float().mean() < 0.9:
        return None
    return bool(brightness[~near].quantile(0.05) > brightness[near].quantile(0.95))


@pytest.mark.parametrize('behind', [False, True])
def test_depth_smaller_than_rgb_is_of_the_same_pixels(behind, monkeypatch):
    monkeypatch.setattr(FusionSamples, '_recolour', lambda _self, rgb, _rng: rgb)
    frames = [halves((241, 322), (120, 160), behind)]
    config = dataclasses.replace(CONFIG, degradation='clean')
    trained = [sample for index in range(8) for sample in FusionSamples(frames, config)[index]]
    validated = FusionValidation(frames, config)
    guided = [GuideSamples(frames, config, (56, 84))[index] for index in range(8)]
    for samples_ in (trained, [validated[0]], guided):
        found = [brighter_where_farther(sample) for sample in samples_]
        assert True in found
        assert False not in found


@pytest.mark.parametrize('depth_size', [(120, 120), (480, 640)])
def test_depth_that_does_not_fit_its_rgb_is_named(depth_size):
    frames = [halves((240, 320), depth_size)]
    height, width = depth_size
    for dataset in (
        FusionSamples(frames, CONFIG),
        FusionValidation(frames, CONFIG),
        GuideSamples(frames, CONFIG, (56, 84)),
        GuideValidation(frames, 1, (56, 84)),
    ):
        with pytest.raises(
            DatasetError, match=f'halves: depth is {width} x {height} and rgb 320 x 240'
        ):
            dataset[0]


def test_frames_smaller_than_the_crop_are_enlarged():
    dataset = FusionSamples([halves((50, 200), (50, 200))], CONFIG)
    assert {sample['rgb'].shape for n in range(8) for sample in dataset[n]} == {(3, 64, 64)}


def test_validation_frames_of_any_sizes_stack():
    frames = [halves(size, size) for size in ((80, 90), (120, 160), (200, 300))]
    config = dataclasses.replace(CONFIG, degradation='scale=4')
    dataset = FusionValidation(frames, config)
    batches = collate_by_size([dataset[index] for index in range(3)])
    assert [batch['rgb'].shape for batch in batches] == [(1, 3, 80, 90), (2, 3, 96, 96)]


@pytest.mark.parametrize('space', ['linear_300', 'log'])
def test_depth_is_scaled_only_where_the_loss_does_not_know_how_large_it_is(space):
    config = dataclasses.replace(CONFIG, loss_space=space, degradation='clean')
    frame = halves((96, 128), (96, 128))
    most = {float(FusionSamples([frame], config)[n][0]['truth'].max()) for n in range(20)}
    assert (most <= {1.0, 2.0}) == (space == 'linear_300')


def test_a_guide_in_training_sees_the_whole_frame():
    frame = halves((96, 128), (96, 128))
    config = dataclasses.replace(CONFIG, degradation='clean', loss_space='linear_300')
    size = (28, 42)
    validated = FusionValidation([frame], config, None, size)[0]
    trained = [s for n in range(20) for s in FusionSamples([frame], config, None, size)[n]]
    for sample in [validated, *trained]:
        assert sample['frame'].shape == (3, *size)
        # A guide that says how bright the frame is, cut as the picture and its truth were.
        whole = sample['frame'].mean(0)[None, None]
        cut = crop_window(whole, sample['window'][None], sample['truth'].shape[-2:])[0]
        far = sample['truth'] > 0.75 * frame.depth.max()
        assert ((cut > 0.5) == far).float().mean() > 0.95
    ramp = torch.arange(96 * 128.0).view(1, 1, 96, 128)
    window = _for_guide(frame.rgb, (slice(10, 74), slice(30, 94)), size)['window'][None]
    cut = crop_window(ramp, window, (64, 64))
    torch.testing.assert_close(cut, ramp[..., 10:74, 30:94], rtol=1e-4, atol=1e-2)


def test_a_crop_without_any_measurement_teaches_nothing():
    rgb, truth = np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.float32)
    sample = make_sample(rgb, truth, np.zeros((4, 4), np.float32), None)
    assert not sample['truth'].any()
    assert torch.isfinite(sample['interpolated']).all()


def test_validation_is_the_same_every_time(validation_folder):
    one, other = (FusionValidation(RGBDFolder(validation_folder), CONFIG) for _ in range(2))
    assert len(one) == 2 * len(one.degradations)
    for index in (0, 7, len(one) - 1):
        a, b = one[index], other[index]
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert one[0]['kind'] == 0
    assert one[len(one) - 1]['kind'] == len(one.degradations) - 1


def test_noise_does_not_depend_on_what_else_is_validated(validation_folder, monkeypatch):
    frames = RGBDFolder(validation_folder)
    imitated = dataclasses.replace(CONFIG, guides=GuideMixture(none=0, small=0, imitated=1))
    whole = FusionValidation(frames, imitated)
    kept = {name: whole.degradations[name] for name in ('x8_noise', 'exact')}
    monkeypatch.setattr(samples, 'VALIDATION_DEGRADATIONS', kept)
    part = FusionValidation(frames, imitated)
    names = list(whole.degradations)
    for place, name in enumerate(kept):
        for frame in range(2):
            one = whole[frame * len(names) + names.index(name)]
            other = part[frame * len(kept) + place]
            assert torch.equal(one['interpolated'], other['interpolated'])
            assert other['relative'].any()
            assert torch.equal(one['relative'], other['relative'])


def test_guide_samples_are_whole_frames_at_its_input_size(frames_folder):
    sample = GuideSamples(RGBDFolder(frames_folder), CONFIG, (56, 84))[3]
    assert sample['rgb'].shape == (3, 56, 84)
    assert sample['truth'].shape == (1, 56, 84)


def test_sampler_goes_on_where_it_stopped_and_shares_between_processes():
    assert list(StepSampler(4, 10)) == [4, 5, 6, 7, 8, 9]
    shares = [list(StepSampler(4, 10, rank, 2)) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == [4, 5, 6, 7, 8, 9]


def test_sources_name_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match='path'):
        build_frames(SourceConfig(), validation=False)
    with pytest.raises((ValueError, OSError), match='nowhere'):
        build_frames(SourceConfig(path=str(tmp_path / 'nowhere')), validation=False)
    with pytest.raises(ValueError, match='video'):
        SourceConfig(type='video')


def test_empty_sources_are_refused():
    with pytest.raises(ValueError, match='no frames'):
        FusionSamples([], CONFIG)
