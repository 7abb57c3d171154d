# SPDX-License-Identifier: Apache-2.0
"""The whole model: RGB and poor depth in, dense depth and confidence out, in torch tensors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from depth_sr_ros.model.averaging import fitted, smoothed, softened
from depth_sr_ros.model.config import DepthSRConfig
from depth_sr_ros.model.consistency import (
    Cells,
    agreement,
    cells_of,
    consistent_gate,
    has_cells,
)
from depth_sr_ros.model.denoising import denoised
from depth_sr_ros.model.fusion_unet import FusionUNet
from depth_sr_ros.model.guided_filter import guided_filter
from depth_sr_ros.model.interpolation import (
    interpolate,
    local_range,
    roughness,
    valid_mask,
)
from depth_sr_ros.model.median import masked_median
from depth_sr_ros.model.relative_depth import RelativeDepth, normalise_relative_depth
from depth_sr_ros.model.repetition import run_shares

WEIGHTS_FILE = 'model.safetensors'
CONFIG_FILE = 'config.json'
# Medians of larger maps are taken from every n-th pixel.
_MEDIAN_SAMPLES = 1 << 16
# Every padded image is at least this many cells high and wide at the deepest stage, or as large as
# what training saw: crops of just that size are not padded.
_DEEPEST_CELLS = 8
# The interpolated input never lies closer to an end of its local range than this share of it,
# so that its logit stays finite.
_RANGE_MARGIN = 0.02
# Far beyond where the sigmoid is 1, and its exponential is still finite.
_LARGEST_GATE = 60.0
# No output is nearer than this share of the interpolated input.
_NEAREST_SHARE = 0.05


def read_metadata(folder: str | Path) -> dict[str, str]:
    """What the header of a folder's weights says of them; empty where there are none."""
    path = Path(folder) / WEIGHTS_FILE
    if not path.is_file():
        return {}
    with safe_open(path, framework='pt') as file:
        return file.metadata() or {}


class DepthNormalisation(NamedTuple):
    """Robust statistics of the measured depth; float32 (B, 1, 1, 1) each, metres."""

    median: Tensor
    scale: Tensor


class PreparedDepth(NamedTuple):
    """A depth input brought to RGB resolution; float32 (B, 1, H, W) each but the last two.

    Attributes:
        interpolated: metres, without holes.
        lower: metres, the nearest measurement around each pixel.
        upper: metres, the farthest.
        validity: 1 where the nearest input pixel is a measurement, else 0.
        denoised: metres, without holes and noise; `interpolated` itself where a measurement is
            smaller than two pixels.
        roughness: 0 on smooth surfaces, where the interpolated input stays as it is, to 1.
        repetition: float32 (B, 3), see `run_shares`; None where the input is of low resolution, or
            nobody asks for it.
        cells: of the measurements; None where the input is not of low resolution.
    """

    interpolated: Tensor
    lower: Tensor
    upper: Tensor
    validity: Tensor
    denoised: Tensor
    roughness: Tensor
    repetition: Tensor | None
    cells: Cells | None


class DepthSROutput(NamedTuple):
    """float32 (B, 1, H, W) each.

    Attributes:
        depth: metres.
        confidence_logit: logit of the probability that the relative error is below 5%.
        interpolated: metres, the interpolated input that the network started from.
    """

    depth: Tensor
    confidence_logit: Tensor
    interpolated: Tensor


def normalisation_of(depth: Tensor, valid: Tensor) -> DepthNormalisation:
    """Median and scale = max(MAD, 0.05 median) over the valid pixels of (B, 1, h, w)."""
    step = 1
    while (depth.shape[-2] // step) * (depth.shape[-1] // step) > _MEDIAN_SAMPLES:
        step += 1
    # A sparse map may have no measurement on the coarser grid; its filled neighbours would not do.
    sampled = depth[..., ::step, ::step].flatten(1)
    sampled_valid = valid[..., ::step, ::step].flatten(1)
    median = masked_median(sampled, sampled_valid)
    if step > 1:
        mean = torch.where(valid, depth, 0.0).flatten(1).sum(1, keepdim=True)
        mean = mean / valid.flatten(1).sum(1, keepdim=True).clamp_min(1)
        median = torch.where(sampled_valid.any(dim=1, keepdim=True), median, mean)
    deviation = masked_median((sampled - median).abs(), sampled_valid)
    scale = torch.maximum(deviation, 0.05 * median).clamp_min(torch.finfo(torch.float32).tiny)
    return DepthNormalisation(median.view(-1, 1, 1, 1), scale.view(-1, 1, 1, 1))


def prepare_depth(
    depth: Tensor,
    valid: Tensor,
    size: tuple[int, int],
    *,
    denoising: bool = True,
    repetition: bool = True,
) -> PreparedDepth:
    """Bring measurements (B, 1, h, w), metres, to the RGB image's size (H, W).

    denoising, repetition: whether what bears that name is asked for.
    """
    depth = torch.where(valid, depth, 0.0).float()
    lower, upper = local_range(depth, valid, size)
    validity = functional.interpolate(valid.float(), size=size, mode='nearest-exact')
    low_resolution = has_cells(tuple(depth.shape[-2:]), size)
    if denoising and low_resolution:
        # The output shall agree with what was measured, but not with its noise.
        depth_without_noise = denoised(depth, valid)
        both = torch.cat([depth, depth_without_noise]), torch.cat([valid, valid])
        interpolated, clean = interpolate(*both, size).chunk(2)
        cells = cells_of(depth_without_noise, valid, interpolated)
    else:
        interpolated = clean = interpolate(depth, valid, size)
        cells = cells_of(depth, valid, interpolated)
    runs = run_shares(depth, valid) if repetition and not low_resolution else None
    rough = roughness(depth, valid, size)
    return PreparedDepth(interpolated, lower, upper, validity, clean, rough, runs, cells)


class DepthSR(nn.Module, PyTorchModelHubMixin):
    """Fusion network and, when the weights hold one, the relative-depth guide.

    Args:
        config: sizes of both; see `depth_sr_ros.model.config.CONFIGURATIONS`.
    """

    def __init__(self, config: DepthSRConfig):
        super().__init__()
        self.config = config
        self.fusion = FusionUNet(config.fusion)
        self.relative_depth: RelativeDepth | None = None
        if config.relative_depth is not None:
            self.relative_depth = RelativeDepth(config.relative_depth)

    def forward(
        self,
        rgb: Tensor,
        depth: Tensor,
        relative: Tensor | None = None,
        normalisation: DepthNormalisation | None = None,
        mark: Callable[[str], None] = lambda _stage: None,
    ) -> DepthSROutput:
        """Dense metric depth at RGB resolution.

        Args:
            rgb: float (B, 3, H, W) in [0, 1].
            depth: float32 (B, 1, h, w), metres; 0, NaN and infinities are no measurement.
            relative: (B, 1, g, k) relative inverse depth of any size over the same field of view,
                not normalised; None asks the model's own guide, or does without where it has none.
            normalisation: of the whole frame when the inputs are a crop of it; None computes it.
            mark: called with 'guide' and 'preprocess' at the end of each, for timing.

        Returns:
            See DepthSROutput. Multiplying `depth` by a constant multiplies the result by it.
        """
        if relative is None and self.relative_depth is not None:
            relative = self.relative_depth(rgb)
        if relative is not None:
            relative = normalise_relative_depth(relative)
        mark('guide')
        valid = valid_mask(depth)
        if normalisation is None:
            normalisation = normalisation_of(torch.where(valid, depth, 0.0).float(), valid)
        prepared = prepare_depth(
            depth,
            valid,
            (rgb.shape[-2], rgb.shape[-1]),
            denoising=self.config.fusion.denoising,
            repetition=self.config.fusion.repetition,
        )
        mark('preprocess')
        return self.fuse(rgb, prepared, relative, normalisation)

    def fuse(
        self,
        rgb: Tensor,
        prepared: PreparedDepth,
        relative: Tensor | None,
        normalisation: DepthNormalisation,
    ) -> DepthSROutput:
        """As `forward`, from prepared inputs; `relative` is normalised (or None: no guide)."""
        interpolated, lower, upper, validity, clean, rough, repetition, cells = prepared
        span = (upper - lower).clamp_min(0.0)
        tiny = torch.finfo(torch.float32).tiny

        def position_of(depth: Tensor) -> Tensor:
            share = (depth - lower) / span.clamp_min(tiny)
            return share.clamp(_RANGE_MARGIN, 1.0 - _RANGE_MARGIN)

        position = position_of(interpolated)
        guide = relative
        if guide is not None and guide.shape[-2:] != interpolated.shape[-2:]:
            guide = functional.interpolate(
                guide, size=interpolated.shape[-2:], mode='bilinear', align_corners=False
            )
        rgb = rgb.float()
        image = (rgb - 0.5) * 4.0
        config = self.config.fusion
        filtered = guided_filter(clean, validity, rgb, config.guided_filter_cells)
        low_resolution = torch.cat(
            [
                torch.asinh((interpolated - normalisation.median) / normalisation.scale),
                validity,
                (position - 0.5) * 4.0,
                torch.log(span / interpolated.clamp_min(tiny) + 1e-3) * 0.5 + 1.5,
                image,
                *((position_of(depth) - 0.5) * 4.0 for depth in filtered),
            ],
            dim=1,
        )
        seen = image if guide is None else torch.cat([guide, image], dim=1)
        prediction = self._predict(seen, low_resolution, validity, repetition).float()
        head = dict(zip(self.fusion.heads, prediction.split(1, dim=1), strict=True))
        sizes = config.smoothing_sizes
        offered = [(smoothed(interpolated, n), head[f'smoothed {n}']) for n in sizes]
        if config.fitting_size and guide is not None:
            fit = fitted(interpolated, guide.float(), config.fitting_size)
            offered.append((fit, head['fitted']))
        sizes = config.softening_sizes
        soft = [(softened(interpolated, n), head[f'softened {n}']) for n in sizes]
        if config.denoising and cells is not None:
            offered.append((clean, head['denoised']))
        if config.keeping and (cells is None or cells.present is not None):
            rough = self._kept(rough, head['kept'], cells)
        sizes = config.guided_filter_cells
        offered += [
            (depth, head[f'guided filter {n}']) for depth, n in zip(filtered, sizes, strict=True)
        ]

        def mixed_in(maps: list[tuple[Tensor, Tensor]], to: Tensor) -> Tensor:
            for image, share in maps:
                to = to + torch.tanh(share) * (image.clamp(lower, upper) - interpolated)
            return to

        gate = head['gate'].clamp(-_LARGEST_GATE, _LARGEST_GATE)
        bound = 0.5 * span + interpolated * self._residual_range(validity)
        offset = mixed_in(offered, bound * torch.tanh(head['residual']))
        softening = rough * mixed_in(soft, torch.zeros_like(interpolated))
        if soft:
            position = position_of(interpolated + softening)
        reach = rough * span
        fixed = softening + rough * offset

        def drawn(gate: Tensor) -> Tensor:
            # reach (sigmoid(logit(position) + gate) - position), exactly zero for a gate of zero.
            factor = torch.exp(gate) - 1.0
            step = reach * position * (1.0 - position) * factor / (1.0 + position * factor)
            return fixed + step

        if config.consistency_steps and cells is not None:
            gate = consistent_gate(
                gate,
                torch.tanh(head['trust']) * agreement(drawn(gate), reach, interpolated, cells),
                position=position,
                reach=reach,
                fixed=fixed,
                interpolated=interpolated,
                cells=cells,
                iterations=self.config.fusion.consistency_steps,
            )
        result = interpolated + drawn(gate)
        result = torch.maximum(result, _NEAREST_SHARE * interpolated)
        return DepthSROutput(result, head['confidence'], interpolated)

    def needed_heads(self, *, guided: bool, low_resolution: bool) -> tuple[str, ...]:
        """Those outputs of the network that `fuse` looks at.

        Args:
            guided: whether there is a guide.
            low_resolution: whether the depth input is; see `has_cells`.
        """
        idle = {'kept'} if low_resolution else {'trust', 'denoised'}
        if not guided:
            idle.add('fitted')
        return tuple(name for name in self.fusion.heads if name not in idle)

    @staticmethod
    def _kept(rough: Tensor, kept: Tensor, cells: Cells | None) -> Tensor:
        """Roughness times the share of the drawing that shall be: 1 for a new network.

        Depth of low resolution has no outlines that could stay, and is drawn as it is.

        Args:
            rough: float32 (B, 1, H, W), 0 to 1; where it is 0 the input stays as it is.
            kept: float32 (B, 1, H, W), of the network; far below 0 the input stays as it is.
            cells: None at full resolution.

        Returns:
            float32 (B, 1, H, W), 0 to 1.
        """
        share = (1.0 + torch.tanh(kept)).clamp_max(1.0)
        if cells is not None:
            share = torch.where(cells.present, 1.0, share)
        return rough * share

    def _residual_range(self, validity: Tensor) -> Tensor:
        """Bound of the residual relative to the depth: wider where little was measured."""
        config = self.config.fusion
        density = functional.avg_pool2d(validity, 4, ceil_mode=True)
        density = functional.avg_pool2d(density, 3, stride=1, padding=1, count_include_pad=False)
        density = functional.interpolate(
            density, size=validity.shape[-2:], mode='bilinear', align_corners=False
        )
        return torch.lerp(
            torch.full_like(density, config.hole_residual_range),
            torch.full_like(density, config.residual_range),
            density,
        )

    def _predict(
        self,
        relative: Tensor,
        low_resolution: Tensor,
        validity: Tensor,
        repetition: Tensor | None,
    ) -> Tensor:
        """Run the fusion network on inputs padded to what its strides need."""
        height, width = validity.shape[-2:]
        stride = self.config.fusion.total_stride
        smallest = min(stride * _DEEPEST_CELLS, self.config.fusion.training_size)
        bottom = -(-max(smallest, height) // stride) * stride - height
        right = -(-max(smallest, width) // stride) * stride - width
        inside = None
        if bottom or right:
            padding = (0, right, 0, bottom)
            relative = functional.pad(relative, padding, mode='replicate')
            low_resolution = functional.pad(low_resolution, padding, mode='replicate')
            inside = functional.pad(torch.ones_like(validity), padding)
            validity = functional.pad(validity, padding)
        dtype = self.fusion.head[0].weight.dtype
        prediction = self.fusion(
            relative.to(dtype, memory_format=torch.channels_last),
            low_resolution.to(dtype, memory_format=torch.channels_last),
            inside,
            validity,
            repetition,
        )
        # ONNX Runtime copies also where a slice takes everything.
        return prediction if inside is None else prediction[..., :height, :width]

    def save(self, folder: Path, *, metadata: dict[str, str] | None = None, half: bool = True):
        """Write `model.safetensors` (float16 unless `half` is False) and `config.json`.

        Both are written beside their place and then renamed, so that a full disk leaves what
        was there before.

        Args:
            folder: created when absent.
            metadata: strings for the header of the safetensors file.
            half: store float16.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.detach().to('cpu', torch.float16 if half else torch.float32).contiguous()
            for name, tensor in self.state_dict().items()
        }
        header = {'format': 'pt', 'config': json.dumps(self.config.to_dict())}
        header.update(metadata or {})
        temporary = folder / (WEIGHTS_FILE + '.part')
        save_file(tensors, temporary, metadata=header)
        # safetensors writes a file that only its owner can read.
        temporary.chmod(0o644)
        temporary.replace(folder / WEIGHTS_FILE)
        temporary = folder / (CONFIG_FILE + '.part')
        temporary.write_text(json.dumps(self.config.to_dict(), indent=2) + '\n')
        temporary.replace(folder / CONFIG_FILE)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory, half=False)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **options: Any
    ) -> 'DepthSR':
        """Load safetensors and config.json from a folder or a hub id; never pickle.

        Args:
            pretrained_model_name_or_path: the folder or id.
            options: of `PyTorchModelHubMixin.from_pretrained`.

        Raises:
            FileNotFoundError: one of the two files is missing.
            ValueError: what is damaged, or of another release, by its name.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except ValueError as error:
            # The parent reads config.json too, and first, without saying which.
            if str(pretrained_model_name_or_path) in str(error):
                raise
            raise ValueError(f'{pretrained_model_name_or_path}: {error}') from error

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: Any = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: Any = None,
        map_location: str = 'cpu',
        strict: bool = True,
        **_: Any,
    ) -> 'DepthSR':
        def path_of(name: str) -> Path:
            if Path(model_id).is_dir():
                return Path(model_id) / name
            return Path(
                hf_hub_download(
                    repo_id=model_id,
                    filename=name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )

        config_path, weights_path = path_of(CONFIG_FILE), path_of(WEIGHTS_FILE)
        for path in (config_path, weights_path):
            if not path.is_file():
                raise FileNotFoundError(f'{path} is missing: a model needs both it and its sibling')
        try:
            config = DepthSRConfig.from_dict(json.loads(config_path.read_text()))
        except ValueError as error:
            raise ValueError(f'{config_path}: {error}') from error
        try:
            tensors = load_file(weights_path, device='cpu')
        except Exception as error:  # safetensors raises its own exception type, and OSError
            raise ValueError(f'{weights_path} is truncated or no safetensors: {error}') from error
        model = cls(config)
        try:
            model.load_state_dict(tensors, strict=strict)
        except RuntimeError as error:
            raise ValueError(f'{weights_path} does not fit {config_path}: {error}') from error
        return model.to(map_location).eval()
