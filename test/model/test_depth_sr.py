# SPDX-License-Identifier: Apache-2.0
"""The rules that keep the model sound, each seen on a network with random weights."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open

from depth_sr_ros.model import averaging
from depth_sr_ros.model.config import CONFIGURATIONS, DepthSRConfig, FusionUNetConfig
from depth_sr_ros.model.denoising import denoised
from depth_sr_ros.model.depth_sr import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    DepthNormalisation,
    DepthSR,
    normalisation_of,
    prepare_depth,
)
from depth_sr_ros.model.guided_filter import guided_filter
from depth_sr_ros.model.interpolation import interpolate, valid_mask
from depth_sr_ros.model.relative_depth import normalise_relative_depth

SMALL = DepthSRConfig(
    fusion=FusionUNetConfig(stem=2, widths=(8, 8, 12, 16), training_size=128), name='small'
)

# With the detail head, which needs a stem of 4.
DETAILED = DepthSRConfig(
    fusion=FusionUNetConfig(
        stem=4, widths=(8, 8, 12, 16), training_size=128, detail_width=8, detail_blocks=2
    ),
    name='detailed',
)


def randomised(config=SMALL, seed=0):
    """A network whose zero-initialised parts are random, so that it changes its input."""
    torch.manual_seed(seed)
    model = DepthSR(config).eval()
    with torch.no_grad():
        for name, parameter in model.fusion.named_parameters():
            if name.endswith(('beta', 'gamma')):
                parameter.normal_(0, 0.3)
        model.fusion.head[0].weight.normal_(0, 0.1)
        if model.fusion.detail is not None:
            model.fusion.detail.head[0].weight.normal_(0, 0.1)
    return model


def scene(height=128, width=160, factor=8, seed=1):
    torch.manual_seed(seed)
    rgb = torch.rand(1, 3, height, width)
    depth = torch.rand(1, 1, height // factor, width // factor) * 3 + 0.5
    return rgb, depth


@pytest.mark.parametrize('config', [SMALL, CONFIGURATIONS['base'], CONFIGURATIONS['embedded']])
def test_untrained_it_returns_the_interpolated_input_exactly(config):
    model = DepthSR(config).eval()
    rgb, depth = scene()
    depth[0, 0, 2:5, 3:9] = 0
    with torch.inference_mode():
        output = model(rgb, depth)
        expected = interpolate(depth, valid_mask(depth), (128, 160))
    assert torch.equal(output.depth, output.interpolated)
    # Interpolated beside another map, sums are rounded in another order.
    torch.testing.assert_close(output.depth, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize('factor', [0.01, 0.1, 10.0, 37.0])
def test_output_follows_the_scale_of_the_input(factor):
    model = randomised()
    rgb, depth = scene()
    depth[0, 0, 1:4, 5:9] = 0
    with torch.inference_mode():
        one, other = model(rgb, depth), model(rgb, depth * factor)
    assert not torch.allclose(one.depth, one.interpolated, rtol=0.01)
    assert torch.allclose(other.depth, one.depth * factor, rtol=0.01)


def test_every_block_of_the_detail_head_counts():
    model = randomised(DETAILED)
    rgb, depth = scene()
    with torch.inference_mode():
        before = model(rgb, depth).depth
        model.fusion.detail.further_blocks[0].gamma.zero_()
        assert not torch.equal(model(rgb, depth).depth, before)


def test_the_spatial_content_of_the_low_resolution_path_reaches_the_output():
    model = randomised()
    torch.manual_seed(2)
    relative = torch.randn(1, 4, 128, 160)
    low_resolution = torch.randn(1, 7, 128, 160)
    ones = torch.ones(1, 1, 128, 160)
    fusion = model.fusion
    with torch.inference_mode():
        weights = fusion.stage_weights(ones, ones)
        f_relative, f_low = fusion.encode(relative, low_resolution, weights)
        shuffled = []
        for features in f_low:
            # Any permutation of the pixels leaves mean and variance, all that AdaIN passes on.
            flat = features.flatten(2)
            shuffled.append(flat[..., torch.randperm(flat.shape[-1])].view_as(features))
        before = fusion.decode(f_relative, f_low, weights)
        after = fusion.decode(f_relative, shuffled, weights)
    assert (before - after).abs().mean() > 0.05 * before.abs().mean()


@pytest.mark.parametrize('config', [SMALL, DETAILED], ids=lambda config: config.name)
def test_a_crop_and_the_full_frame_agree(config):
    """Statistics are pooled over training-sized windows: what lies farther away has no say."""
    model = randomised(config)
    torch.manual_seed(3)
    rgb = torch.rand(1, 3, 384, 512)
    depth = torch.rand(1, 1, 48, 64) + 1.0
    # The far side of the frame is another world: bright, and ten times as far.
    rgb[..., 320:] = 1.0
    depth[..., 40:] *= 10.0
    normalisation = DepthNormalisation(*(torch.full((1, 1, 1, 1), v) for v in (1.5, 0.25)))
    with torch.inference_mode():
        full = model(rgb, depth, normalisation=normalisation).depth
        crop = model(rgb[..., :256, :256], depth[..., :32, :32], normalisation=normalisation).depth
    centre = (slice(None), slice(None), slice(32, 160), slice(32, 128))
    interpolated = interpolate(depth, valid_mask(depth), (384, 512))
    change = (full[centre] - interpolated[centre]).abs().mean()
    difference = (full[centre] - crop[centre]).abs().mean()
    assert change > 0.01
    assert difference < 0.15 * change


def test_smooth_surfaces_come_back_as_they_are_whatever_is_printed_on_them():
    model = randomised()
    rgb = torch.rand(1, 3, 128, 160)
    columns = torch.arange(20.0).expand(16, 20)
    depth = (1.0 / (0.4 + 0.01 * columns))[None, None]
    with torch.inference_mode():
        smooth = model(rgb, depth)
        depth[..., 10:] += 1.0
        edged = model(rgb, depth)
    assert torch.equal(smooth.depth, smooth.interpolated)
    assert not torch.allclose(edged.depth, edged.interpolated, rtol=0.01)


def test_the_detail_head_sees_single_pixels():
    """Two pictures that differ only inside the cells of the stem, by what its 8 channels drop."""
    model = randomised(DETAILED)
    fusion = model.fusion
    with torch.no_grad():  # the first stage is made to see the mean of each cell only
        for encoder in (fusion.relative_encoder, fusion.low_resolution_encoder):
            weight = encoder.downsample[0].weight
            weight.copy_(weight.mean(dim=(-2, -1), keepdim=True).expand_as(weight))
    ones = torch.ones(1, 1, 64, 64)
    checkers = torch.zeros(1, 7, 64, 64)
    checkers[..., ::2, ::2] = checkers[..., 1::2, 1::2] = 1.0
    relative = torch.zeros(1, 4, 64, 64)
    with torch.inference_mode():
        one = fusion(relative, checkers, ones, ones)
        other = fusion(relative, 1.0 - checkers, ones, ones)
        model.fusion.detail = None
        without = fusion(relative, checkers, ones, ones) - fusion(
            relative, 1.0 - checkers, ones, ones
        )
    assert without.abs().max() < 1e-4
    assert (one - other).abs().mean() > 1e-3


OFFERING = DepthSRConfig(
    fusion=dataclasses.replace(
        SMALL.fusion,
        consistency_steps=1,
        smoothing_sizes=(12, 48),
        fitting_size=48,
        softening_sizes=(3, 7),
        denoising=True,
        keeping=True,
        guided_filter_cells=(8,),
    ),
    name='offering',
)


@pytest.mark.parametrize(
    ('channel', 'offered'),
    [
        (4, lambda prepared, guide, rgb: averaging.smoothed(prepared.interpolated, 12)),
        (5, lambda prepared, guide, rgb: averaging.smoothed(prepared.interpolated, 48)),
        (6, lambda prepared, guide, rgb: averaging.fitted(prepared.interpolated, guide, 48)),
        (7, lambda prepared, guide, rgb: averaging.softened(prepared.interpolated, 3)),
        (8, lambda prepared, guide, rgb: averaging.softened(prepared.interpolated, 7)),
        (9, lambda prepared, guide, rgb: prepared.denoised),
        (
            11,
            lambda prepared, guide, rgb: guided_filter(
                prepared.denoised, prepared.validity, rgb, (8,)
            )[0],
        ),
    ],
)
def test_each_share_mixes_in_its_map(channel, offered):
    model = DepthSR(OFFERING).eval()
    area = OFFERING.fusion.stem**2
    with torch.no_grad():
        # tanh(9) is 1 in float32, and no trust leaves the means alone.
        model.fusion.head[0].bias[channel * area : (channel + 1) * area] = 9.0
    rgb, depth = scene(factor=4)
    # A step with noise: rough everywhere, so that nothing holds the network back.
    depth = torch.where(depth > 2.0, 3.0, 1.5) * (1.0 + 0.02 * torch.randn(depth.shape))
    guide = torch.randn(1, 1, 128, 160)
    prepared = prepare_depth(depth, valid_mask(depth), (128, 160))
    assert (prepared.roughness == 1).all()
    normalised = normalise_relative_depth(guide)
    clean = interpolate(denoised(depth, depth > 0), depth > 0, (128, 160))
    torch.testing.assert_close(prepared.denoised, clean)
    expected = offered(prepared, normalised, rgb)
    expected = expected.clamp(prepared.lower, prepared.upper)
    with torch.inference_mode():
        output = model(rgb, depth, guide).depth
    assert not torch.allclose(output, prepared.interpolated, rtol=1e-3)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


def test_the_network_sees_the_filtered_depth_as_it_sees_the_interpolated():
    config = dataclasses.replace(DETAILED.fusion, guided_filter_cells=(4, 16), denoising=True)
    model = randomised(DepthSRConfig(fusion=config))
    seen = []
    model.fusion.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[1]))
    rgb, depth = scene(factor=4)
    prepared = prepare_depth(depth, valid_mask(depth), (128, 160))
    with torch.inference_mode():
        model(rgb, depth)
    filtered = guided_filter(prepared.denoised, prepared.validity, rgb, (4, 16))
    assert seen[0].shape[1] == config.low_resolution_channels == 9
    # The third channel is where the interpolated input lies between `lower` and `upper`.
    for channel, image in ((2, prepared.interpolated), (7, filtered[0]), (8, filtered[1])):
        share = (image - prepared.lower) / (prepared.upper - prepared.lower)
        expected = (share.clamp(0.02, 0.98) - 0.5) * 4.0
        came = seen[0][:, channel : channel + 1, :128, :160]
        torch.testing.assert_close(came, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('factor', [1, 4])
def test_only_depth_of_full_resolution_is_kept(randomised, factor):
    model = randomised(OFFERING.fusion)
    rgb, depth = scene(factor=factor)
    area = OFFERING.fusion.stem**2
    with torch.inference_mode():
        drawn = model(rgb, depth)
        # Behind the shares of six maps: tanh(-9) is -1 in float32.
        keeping = slice(10 * area, 11 * area)
        model.fusion.head[0].weight[keeping] = 0.0
        model.fusion.head[0].bias[keeping] = -9.0
        kept = model(rgb, depth)
        model.fusion.head[0].bias[keeping] = 9.0
        free = model(rgb, depth)
    assert (drawn.depth - drawn.interpolated).abs().max() > 0.01
    assert (free.depth - free.interpolated).abs().max() > 0.01
    expected = kept.interpolated if factor == 1 else free.depth
    torch.testing.assert_close(kept.depth, expected, rtol=1e-6, atol=1e-6)


def test_means_are_those_of_the_measurements_without_their_noise():
    depth = 2.0 * (
        1.0 + 0.02 * torch.randn(1, 1, 30, 40, generator=torch.Generator().manual_seed(0))
    )
    valid = valid_mask(depth)
    for denoising, measured in ((False, depth), (True, denoised(depth, valid))):
        prepared = prepare_depth(depth, valid, (120, 160), denoising=denoising)
        mean = torch.nn.functional.avg_pool2d(prepared.interpolated, 4)
        torch.testing.assert_close(prepared.cells.residual, measured - mean)
    assert denoised(depth, valid).std() < 0.5 * depth.std()


def test_padding_has_no_say():
    """An image that needs padding gives what it gives as the corner of a padded one."""
    model = randomised()
    rgb, depth = scene(120, 152)
    with torch.inference_mode():
        output = model(rgb, depth)
    assert output.depth.shape == (1, 1, 120, 152)
    assert torch.isfinite(output.depth).all()
    # The same picture, its statistics weighted with garbage beyond the border.
    fusion = model.fusion
    inside = torch.zeros(1, 1, 128, 160)
    inside[..., :120, :152] = 1
    torch.manual_seed(5)
    relative, low = torch.randn(1, 4, 128, 160), torch.randn(1, 7, 128, 160)
    changed_relative, changed_low = relative.clone(), low.clone()
    changed_relative[..., 120:, :] += 30
    changed_low[..., 152:] += 30

    def change(inside):
        with torch.inference_mode():
            one = fusion(relative, low, inside, inside)
            other = fusion(changed_relative, changed_low, inside, inside)
        # Far from the border no convolution reaches the padding, only statistics do.
        return (one - other)[..., :32, :32].abs().mean()

    assert change(inside) < 0.1 * change(torch.ones_like(inside))


@pytest.mark.parametrize(
    ('size', 'padded'),
    # Of eight cells of 32 pixels or the training size, which is less; or of whole cells.
    [((128, 128), None), ((64, 96), (128, 128)), ((140, 160), (160, 160)), ((128, 192), None)],
)
def test_padding_is_no_larger_than_what_training_saw(monkeypatch, size, padded):
    """Training crops are not padded, so that no step is spent on what is outside of them."""
    model = randomised(DETAILED)
    seen = []
    forward = model.fusion.forward

    def recording(relative, low_resolution, inside, *others):
        seen.append(None if inside is None else tuple(inside.shape[-2:]))
        return forward(relative, low_resolution, inside, *others)

    monkeypatch.setattr(model.fusion, 'forward', recording)
    rgb, depth = scene(*size, factor=4)
    with torch.inference_mode():
        assert model(rgb, depth).depth.shape[-2:] == size
    assert seen == [padded]


def test_invalid_pixels_do_not_weigh_in_the_statistics():
    """AdaIN takes mu and sigma of F_lr where depth was measured."""
    norm = randomised().fusion.fusions[1].adaptive_norm
    from depth_sr_ros.model.fusion_unet import StageWeights

    torch.manual_seed(6)
    relative, low = torch.randn(2, 1, 8, 32, 32).unbind(0)
    inside, valid = torch.ones(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    valid[..., 16:] = 0
    garbage = low.clone()
    garbage[..., 16:] = 100
    weights = StageWeights.of(inside, valid, norm.windows)
    assert torch.allclose(norm(relative, low, weights), norm(relative, garbage, weights))
    few = torch.zeros_like(valid)
    few[..., 0, :15] = 1
    # Fewer than 16 valid cells: the statistics of the filled map, garbage and all.
    weights = StageWeights.of(inside, few, norm.windows)
    assert not torch.allclose(norm(relative, low, weights), norm(relative, garbage, weights))


def test_normalisation_knows_only_valid_pixels():
    depth = torch.zeros(3, 1, 20, 20)
    depth[0, 0, ::2, ::2] = torch.arange(1, 101).view(10, 10).float()
    depth[1] = 2.0  # a flat wall
    depth[2, 0, 7, 7] = 4.0  # a single measurement
    normalisation = normalisation_of(depth, valid_mask(depth))
    assert normalisation.median.flatten().tolist() == pytest.approx([50, 2, 4])
    assert normalisation.scale.flatten().tolist() == pytest.approx([25, 0.1, 0.2])


@pytest.mark.parametrize('kind', ['flat wall', 'single pixel', 'large'])
def test_degenerate_depth_gives_finite_positive_output(kind):
    model = randomised()
    height, width = (700, 1000) if kind == 'large' else (64, 96)
    rgb = torch.rand(1, 3, height, width)
    depth = torch.zeros(1, 1, height, width)
    if kind == 'single pixel':
        depth[0, 0, 3, 3] = 2.0
    else:
        depth[:] = 2.0
    with torch.inference_mode():
        output = model(rgb, depth)
    assert torch.isfinite(output.depth).all()
    assert (output.depth > 0).all()
    # The residual is bounded: half the depth where nothing was measured.
    assert output.depth.max() <= 2.0 * 1.5 + 1e-3


def test_half_precision_keeps_depth_in_single_precision():
    model = randomised()
    rgb, depth = scene()
    with torch.inference_mode():
        exact = model(rgb, depth).depth
        model.fusion.to(torch.bfloat16)
        rounded = model(rgb, depth).depth
    assert rounded.dtype == torch.float32
    relative = ((rounded - exact).abs() / exact).median()
    # bfloat16 depth itself would be off by up to 0.4%.
    assert 0 < relative < 0.002


def test_seed_configuration_has_29_million_parameters():
    model = DepthSR(CONFIGURATIONS['seed'])
    total = sum(parameter.numel() for parameter in model.parameters())
    assert abs(total - 29e6) <= 1e6
    fusion = sum(parameter.numel() for parameter in model.fusion.parameters())
    assert abs(fusion - 4.2e6) < 0.1e6


def test_save_and_load_through_the_hub_mixin(tmp_path):
    model = randomised(CONFIGURATIONS['embedded'])
    rgb, depth = scene()
    model.save_pretrained(tmp_path / 'full')
    loaded = DepthSR.from_pretrained(tmp_path / 'full')
    assert loaded.config == model.config
    with torch.inference_mode():
        assert torch.equal(loaded(rgb, depth).depth, model(rgb, depth).depth)
    model.save(tmp_path / 'half', metadata={'git': 'abc'})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (tmp_path / 'half' / WEIGHTS_FILE).stat().st_size < 2 * parameters + 200_000
    with safe_open(tmp_path / 'half' / WEIGHTS_FILE, 'pt') as file:
        assert file.metadata()['git'] == 'abc'
        assert json.loads(file.metadata()['config'])['name'] == 'embedded'
    DepthSR.from_pretrained(tmp_path / 'half')


def test_damaged_weights_are_named(tmp_path):
    model = DepthSR(SMALL)
    model.save(tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=WEIGHTS_FILE):
        DepthSR.from_pretrained(tmp_path)
    weights.write_bytes(content)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**config, 'version': 99}))
    with pytest.raises(ValueError, match='99'):
        DepthSR.from_pretrained(tmp_path)
    config['fusion']['widths'] = [8, 8, 12, 24]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(ValueError, match='does not fit'):
        DepthSR.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=WEIGHTS_FILE):
        DepthSR.from_pretrained(tmp_path)


def test_weights_of_a_later_release_are_refused_in_words(tmp_path):
    DepthSR(SMALL).save(tmp_path)
    values = json.loads((tmp_path / CONFIG_FILE).read_text())
    values['fusion']['flux_capacitor'] = 1
    (tmp_path / CONFIG_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf'{tmp_path}.*flux_capacitor.*another release'):
        DepthSR.from_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).write_text('{"fusion": ')
    with pytest.raises(ValueError, match=str(tmp_path)):
        DepthSR.from_pretrained(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    DepthSR(SMALL).save(tmp_path)
    (tmp_path / WEIGHTS_FILE).unlink()
    torch.save(DepthSR(SMALL).state_dict(), tmp_path / 'pytorch_model.bin')
    with pytest.raises(FileNotFoundError, match=WEIGHTS_FILE):
        DepthSR.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    'values',
    [
        {'stem': 3},
        {'widths': (8, 8)},
        {'decoder_blocks': (1, 1, 0, 1)},
        {'detail_blocks': 0},
        {'guided_filter_cells': (3,)},
        {'guided_filter_cells': (0,)},
        {'guided_filter_cells': (16, 4)},
        {'guided_filter_cells': (4, 6)},
    ],
)
def test_impossible_configurations_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        FusionUNetConfig(**values)


def test_without_a_guide_its_channel_is_left_out_and_not_another(randomised):
    fusion = randomised(CONFIGURATIONS['embedded'].fusion).fusion
    image, low_resolution = torch.rand(1, 3, 64, 96), torch.rand(1, 9, 64, 96)
    valid = torch.ones(1, 1, 64, 96)
    with torch.inference_mode():
        absent = fusion(image, low_resolution, None, valid)
        zero = torch.cat([torch.zeros_like(valid), image], dim=1)
        torch.testing.assert_close(absent, fusion(zero, low_resolution, None, valid))
