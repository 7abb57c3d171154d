# SPDX-License-Identifier: Apache-2.0
"""What is measured: our configurations and others' networks, each in several variants."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_sr_ros.inference.engine import no_mark
from depth_sr_ros.inference.graphs import LOG, CudaGraphRecorder, GraphCache
from depth_sr_ros.inference.staging import Staging
from depth_sr_ros.inference.torch_engine import TorchEngine, tf32_off
from depth_sr_ros.model.config import (
    CONFIGURATIONS,
    DEPTH_ANYTHING_SMALL,
    RelativeDepthConfig,
)
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.model.relative_depth import RelativeDepth, guide_size
from depth_sr_ros.pipeline import (
    DepthSRPipeline,
    embedded_weights,
    resolve_precision,
    state_digest,
)

# The short side at which others' backbones see the image, as the 29M configuration's guide does.
BACKBONE_SHORT_SIDE = 518


class Variant(NamedTuple):
    """How a subject is computed."""

    precision: str
    execution: str
    backend: str = 'torch'

    @property
    def label(self) -> str:
        return self.backend if self.backend != 'torch' else f'{self.precision} {self.execution}'


# What the ratio of every row is taken to: plain PyTorch, with TF32 off.
REFERENCE = Variant('float32', 'eager')


def variants(device: torch.device, compiled: bool) -> list[Variant]:
    """The reference first, then what is tried on such a device."""
    found = [REFERENCE]
    if device.type == 'cuda':
        found += [
            Variant('float16', 'eager'),
            Variant('float16', 'graph'),
            Variant('bfloat16', 'graph'),
        ]
        if compiled:
            found.append(Variant('float16', 'compile'))
        if _onnxruntime_has('CUDAExecutionProvider'):
            found.append(Variant('float32', 'auto', backend='onnxruntime'))
        return found
    found.append(Variant('bfloat16', 'eager'))
    if _onnxruntime_has('CPUExecutionProvider'):
        found.append(Variant('float32', 'auto', backend='onnxruntime'))
    if compiled:
        found.append(Variant('float32', 'compile'))
    return found


def _onnxruntime_has(provider: str) -> bool:
    """Whether the pipeline can be computed by ONNX Runtime on such a device here."""
    if not all(importlib.util.find_spec(name) for name in ('onnx', 'onnxruntime')):
        return False
    import onnxruntime

    return provider in onnxruntime.get_available_providers()


class FallBacks(logging.Handler):
    """What the engines warn of inside `with`: no CUDA graph, no ONNX graph, too little memory.

    All of that is settled while a contestant is warmed up, so nothing listens while it is timed.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: list[str] = []

    @property
    def text(self) -> str | None:
        """In one line; None where everything runs as asked for."""
        return '; '.join(self._said) or None

    def emit(self, record: logging.LogRecord) -> None:
        text = ' '.join(record.getMessage().split())
        self._said.append(text)
        # Python prints only what nobody listens to.
        print(text, file=sys.stderr)

    def __enter__(self) -> FallBacks:
        LOG.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        LOG.removeHandler(self)


class Contestant:
    """A subject in one variant, loaded: called with (rgb, depth), it returns float32 (H, W).

    Args:
        run: does that.
        warm_up: called with the sizes (W, H) and (w, h).
        set_mark: puts a clock where the stages end.
        close: frees it.
        describe: how it runs by now: what the engine had to do without only shows with frames.
    """

    def __init__(
        self,
        variant: Variant,
        run: Callable[[np.ndarray, np.ndarray], np.ndarray],
        warm_up: Callable[[tuple[int, int], tuple[int, int]], None],
        set_mark: Callable[[Callable[[str], None]], None],
        close: Callable[[], None],
        describe: Callable[[], dict[str, Any]],
    ):
        self.variant = variant
        self._run = run
        self.warm_up = warm_up
        self.set_mark = set_mark
        self.close = close
        self.describe = describe

    def __call__(self, rgb: np.ndarray, depth: np.ndarray) -> np.ndarray:
        if self.variant == REFERENCE:
            with tf32_off():
                return self._run(rgb, depth)
        return self._run(rgb, depth)


@dataclass(frozen=True)
class Subject:
    """Something that makes dense depth (or, alone, relative depth).

    Attributes:
        name: as in --subject.
        text: what it is, with its weights.
        ours: whether it is a configuration of this package.
        build: (variant, device) -> Contestant; ValueError where that variant is not to be had.
        trace: (precision, (W, H), (w, h)) -> what runs it on the device 'meta', for the roofline.
        input_size: (W, H) -> what the backbone sees, as text.
        parameters: number of them.
        digest: of the weights.
    """

    name: str
    text: str
    ours: bool
    build: Callable[[Variant, torch.device], Contestant]
    trace: Callable[[str, tuple[int, int], tuple[int, int]], Callable[[], Any]]
    input_size: Callable[[tuple[int, int]], str]
    parameters: int
    digest: str


def _backbone_text(short_side: int | None) -> Callable[[tuple[int, int]], str]:
    def text(size: tuple[int, int]) -> str:
        if short_side is None:
            return 'none'
        height, width = guide_size(size[1], size[0], short_side)
        return f'{width}x{height}'

    return text


# Ours


def _embedded(guided: bool) -> Subject:
    model = DepthSR.from_pretrained(str(embedded_weights()['embedded']))
    relative_depth = 'embedded' if guided else 'off'

    def build(variant: Variant, device: torch.device) -> Contestant:
        options: dict[str, Any] = {}
        if variant.backend != 'torch':
            options['backend'] = variant.backend
        else:
            options['execution'] = variant.execution
        pipeline = DepthSRPipeline.from_pretrained(
            'embedded',
            relative_depth=relative_depth,
            device=str(device),
            precision=variant.precision,
            **options,
        )
        return _pipeline_contestant(variant, pipeline)

    stored = model.config.relative_depth
    assert stored is not None
    guide = model.relative_depth if guided else None
    enabled = 'on' if stored.enabled else 'off'
    return Subject(
        name='embedded guided' if guided else 'embedded',
        text=f'the weights in the package, {"with" if guided else "without"} their guide '
        f'(by default it is {enabled})',
        ours=True,
        build=build,
        trace=functools.partial(_trace_ours, model, guide),
        input_size=_backbone_text(stored.short_side if guided else None),
        parameters=_count(model.fusion) + (_count(guide) if guide else 0),
        digest=state_digest(model),
    )


def _configuration(name: str) -> Subject:
    shipped = embedded_weights().get(name)
    if shipped is not None:
        model, weights = DepthSR.from_pretrained(str(shipped)), 'weights in the package'
    else:
        torch.manual_seed(0)
        model, weights = DepthSR(CONFIGURATIONS[name]), 'random weights'
        randomise_zeros(model.fusion)
    digest = state_digest(model)
    guide, model.relative_depth = model.relative_depth, None
    millions = (_count(model) + (_count(guide) if guide else 0)) / 1e6

    def build(variant: Variant, device: torch.device) -> Contestant:
        if variant.backend != 'torch':
            raise ValueError(f'{name}: {variant.backend} is measured with the embedded weights')
        engine = TorchEngine(
            copy.deepcopy(model),
            guide=copy.deepcopy(guide),
            device=device,
            dtype=resolve_precision(variant.precision, device),
            execution=variant.execution,
        )
        return _pipeline_contestant(variant, DepthSRPipeline(engine, {'weights': name}))

    return Subject(
        name=name,
        text=f'the {name} configuration, {millions:.1f}M parameters, {weights}'
        + (', with Depth Anything Small' if guide else ', without a guide'),
        ours=True,
        build=build,
        trace=functools.partial(_trace_ours, model, guide),
        input_size=_backbone_text(None if guide is None else guide.config.short_side),
        parameters=round(millions * 1e6),
        digest=digest,
    )


def randomise_zeros(module: nn.Module) -> None:
    """Give what is initialised to zero random values, so that an untrained network does much."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _pipeline_contestant(variant: Variant, pipeline: DepthSRPipeline) -> Contestant:
    outs: dict[tuple[int, ...], np.ndarray] = {}
    # Like the node, which remembers what its camera's depth maps are.
    stream = pipeline.stream()

    def run(rgb: np.ndarray, depth: np.ndarray) -> np.ndarray:
        # Like the node, which has memory for the depth: that of the message.
        out = outs.setdefault(rgb.shape, np.empty(rgb.shape[:2], np.float32))
        return stream(rgb, depth, out=out).depth

    def set_mark(mark: Callable[[str], None]) -> None:
        pipeline.mark = mark

    return Contestant(
        variant, run, pipeline.warm_up, set_mark, pipeline.close, lambda: pipeline.description
    )


def _on_meta(module: nn.Module, precision: str) -> nn.Module:
    module = copy.deepcopy(module)
    return module.to('meta', resolve_precision(precision, torch.device('cpu'))).eval()


def _trace_ours(
    model: DepthSR,
    guide: RelativeDepth | None,
    precision: str,
    size: tuple[int, int],
    depth_size: tuple[int, int],
) -> Callable[[], Any]:
    fusion = copy.deepcopy(model)
    fusion.relative_depth = None
    fusion.to('meta').eval()
    fusion.fusion = _on_meta(model.fusion, precision)
    image = torch.empty(1, 3, size[1], size[0], device='meta')
    depth = torch.empty(1, 1, depth_size[1], depth_size[0], device='meta')
    if guide is None:
        return lambda: fusion(image, depth)
    traced = copy.deepcopy(guide).to('meta').eval()
    traced.network = _on_meta(guide.network, precision)
    return lambda: fusion(image, depth, traced(image))


# Others


class _Comparator:
    """Another network behind the same copies and, on a GPU, the same CUDA graphs as ours.

    Args:
        compute: (uint8 (H, W, 3), float32 (h, w)) -> float32 (H, W), all on the device.
    """

    def __init__(
        self,
        variant: Variant,
        device: torch.device,
        compute: Callable[[Tensor, Tensor], Tensor],
    ):
        self.mark: Callable[[str], None] = no_mark
        self._staging = Staging(device)
        self._stream = torch.cuda.Stream(device) if device.type == 'cuda' else None
        self._compiled = variant.execution == 'compile'
        if self._compiled:
            compute = torch.compile(compute, dynamic=False)
        recorder = None
        if self._stream is not None and variant.execution != 'eager':
            recorder = CudaGraphRecorder(self._stream)
        self._calls = GraphCache(lambda _variant, *tensors: (compute(*tensors),), recorder)
        self._out: dict[tuple[int, ...], np.ndarray] = {}

    def __call__(self, rgb: np.ndarray, depth: np.ndarray) -> np.ndarray:
        out = self._out.setdefault(rgb.shape, np.empty(rgb.shape[:2], np.float32))
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._stream is not None:
                stack.enter_context(torch.cuda.stream(self._stream))
            self.mark('start')
            tensors = self._staging.upload('rgb', rgb), self._staging.upload('depth', depth)
            self.mark('upload')
            (dense,) = self._calls('frame', *tensors)
            self.mark('network')
            self._staging.download_one(dense, out)
            self.mark('download')
        return out

    def warm_up(self, size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        generator = np.random.default_rng(0)
        rgb = generator.integers(0, 256, (size[1], size[0], 3), np.uint8)
        depth = generator.uniform(1, 4, (depth_size[1], depth_size[0])).astype(np.float32)
        self(rgb, depth)
        self(rgb, depth)

    def close(self) -> None:
        self._calls.clear()
        self._staging.clear()
        if self._compiled:
            torch.compiler.reset()  # as TorchEngine does


def _comparator(
    name: str,
    text: str,
    network: nn.Module,
    compute: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> Subject:
    """`compute(network, rgb, depth)`: float32 (1, 3, H, W) in [0, 1], (1, 1, h, w) -> (1, 1, H, W).

    Raises:
        ValueError: from build, for a backend other than torch.
    """

    def build(variant: Variant, device: torch.device) -> Contestant:
        if variant.backend != 'torch':
            raise ValueError(f'{name} is measured in PyTorch')
        dtype = resolve_precision(variant.precision, device)
        own = copy.deepcopy(network).eval().to(device, dtype)
        if device.type == 'cuda':
            own.to(memory_format=torch.channels_last)
            torch.cuda.synchronize(device)

        def frame(rgb: Tensor, depth: Tensor) -> Tensor:
            image = rgb.permute(2, 0, 1)[None].float() / 255.0
            return compute(own, image, depth[None, None])[0, 0]

        comparator = _Comparator(variant, device, frame)

        def set_mark(mark: Callable[[str], None]) -> None:
            comparator.mark = mark

        return Contestant(
            variant,
            comparator,
            comparator.warm_up,
            set_mark,
            comparator.close,
            lambda: {'precision': variant.precision, 'execution': variant.execution},
        )

    def trace(
        precision: str, size: tuple[int, int], depth_size: tuple[int, int]
    ) -> Callable[[], Any]:
        image = torch.empty(1, 3, size[1], size[0], device='meta')
        depth = torch.empty(1, 1, depth_size[1], depth_size[0], device='meta')
        return functools.partial(compute, _on_meta(network, precision), image, depth)

    return Subject(
        name=name,
        text=text,
        ours=False,
        build=build,
        trace=trace,
        input_size=_backbone_text(BACKBONE_SHORT_SIDE),
        parameters=_count(network),
        digest=state_digest(network),
    )


def _resized(image: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(image, size=size, mode='bilinear', align_corners=False)


class _Normalised(nn.Module):
    """Resizes and normalises the image as DINOv2 wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1))
        self.register_buffer('deviation', torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        size = guide_size(image.shape[-2], image.shape[-1], BACKBONE_SHORT_SIDE)
        image = functional.interpolate(
            image, size=size, mode='bilinear', align_corners=False, antialias=True
        )
        return (image - self.mean) / self.deviation


def _depth_anything() -> Subject:
    torch.manual_seed(0)
    network = RelativeDepth(RelativeDepthConfig(DEPTH_ANYTHING_SMALL, BACKBONE_SHORT_SIDE))

    def compute(module: nn.Module, image: Tensor, _depth: Tensor) -> Tensor:
        return _resized(module(image), image.shape[-2:])

    return _comparator(
        'Depth Anything Small',
        'alone, relative depth only, random weights',
        network,
        compute,
    )


def _prompt_depth_anything() -> Subject:
    from transformers import PromptDepthAnythingConfig, PromptDepthAnythingForDepthEstimation

    torch.manual_seed(0)
    network = nn.ModuleDict(
        {
            'image': _Normalised(),
            'network': PromptDepthAnythingForDepthEstimation(
                PromptDepthAnythingConfig(**DEPTH_ANYTHING_SMALL)
            ),
        }
    )

    def compute(module: Any, image: Tensor, depth: Tensor) -> Tensor:
        own = module['network']
        predicted = own(
            module['image'](image).to(own.dtype), prompt_depth=depth.to(own.dtype)
        ).predicted_depth
        return _resized(predicted[:, None].float(), image.shape[-2:])

    return _comparator(
        'Prompt Depth Anything Small',
        'of transformers, random weights',
        network,
        compute,
    )


def _rgbd_depth() -> Subject:
    # Not a requirement: measured where somebody has installed it.
    package = importlib.import_module('rgbddepth')
    torch.manual_seed(0)
    network = nn.ModuleDict(
        {
            'image': _Normalised(),
            'network': package.RGBDDepth('vits', features=64, out_channels=[48, 96, 192, 384]),
        }
    )

    def compute(module: Any, image: Tensor, depth: Tensor) -> Tensor:
        seen = module['image'](image)
        both = torch.cat([seen, _resized(depth, seen.shape[-2:])], dim=1)
        dtype = next(module['network'].parameters()).dtype
        return _resized(module['network'](both.to(dtype))[:, None].float(), image.shape[-2:])

    return _comparator('rgbd-depth ViT-S', 'of rgbd-depth, random weights', network, compute)


def subjects() -> dict[str, Callable[[], Subject]]:
    """What makes each of them, by name; `rgbd-depth` only where that package is installed."""
    found = {
        'embedded': lambda: _embedded(False),
        'embedded guided': lambda: _embedded(True),
        'base': lambda: _configuration('base'),
        'seed': lambda: _configuration('seed'),
        'Depth Anything Small': _depth_anything,
        'Prompt Depth Anything Small': _prompt_depth_anything,
    }
    if importlib.util.find_spec('rgbddepth') and importlib.util.find_spec('torchvision'):
        found['rgbd-depth ViT-S'] = _rgbd_depth
    return found
