# SPDX-License-Identifier: Apache-2.0
"""The seam between the model and everything that uses it: arrays in, arrays out."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depth_sr_ros.inference.engine import Engine
from depth_sr_ros.inference.interpolation_engine import InterpolationEngine
from depth_sr_ros.inference.onnx_engine import OnnxEngine
from depth_sr_ros.inference.onnx_file_engine import OnnxFileEngine
from depth_sr_ros.inference.torch_engine import TorchEngine
from depth_sr_ros.model.depth_sr import WEIGHTS_FILE, DepthSR
from depth_sr_ros.model.relative_depth import RelativeDepth
from depth_sr_ros.nearest_upsampling import UndoUpsampling, undo_nearest_upsampling
from depth_sr_ros.point_samples import (
    FindSampling,
    Sampling,
    cell_factor,
    find_sampling,
    place_points,
)
from depth_sr_ros.stream import DepthSRStream

SMALLEST_RGB = 64
LARGEST_RGB = 4096
SMALLEST_DEPTH = 8
ASPECT_TOLERANCE = 0.02
DEVICES = ('auto', 'cpu', 'cuda', 'cuda:N')
PRECISIONS = ('auto', 'float32', 'bfloat16', 'float16')
BACKENDS = ('auto', 'torch', 'onnxruntime')
# No network at all: the pipeline returns the interpolated input.
INTERPOLATION = 'interpolation'
DEFAULT_WEIGHTS = 'embedded'
# The guide that the weights hold, also where they do without it by default.
STORED_GUIDE = 'embedded'

LOG = logging.getLogger(__name__)
_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


class NoValidDepthError(ValueError):
    """The depth map holds no measurement: every pixel is 0, negative, NaN or infinite."""


@dataclass(frozen=True)
class DepthSRResult:
    """What the pipeline makes of one RGB and one depth image.

    Attributes:
        depth: float32 (H, W), metres along the optical axis; finite and above zero everywhere.
        confidence: float32 (H, W) in [0, 1]: predicted probability that the relative error of
            `depth` is below 5%.
    """

    depth: np.ndarray
    confidence: np.ndarray


def embedded_weights() -> dict[str, Path]:
    """Name -> folder of the weights that are shipped in the package."""
    root = Path(str(resources.files('depth_sr_ros'))) / 'weights'
    return {path.parent.name: path.parent for path in sorted(root.glob(f'*/{WEIGHTS_FILE}'))}


def resolve_weights(name_or_path: str | Path | None) -> str:
    """Folder or hub id that a `weights` argument means; None is the embedded default."""
    name = str(name_or_path) if name_or_path not in (None, '') else DEFAULT_WEIGHTS
    shipped = embedded_weights()
    if name in shipped:
        return str(shipped[name])
    if name == DEFAULT_WEIGHTS:
        raise FileNotFoundError(
            f'the embedded weights are missing from the package (found: {sorted(shipped)}): '
            'install it again'
        )
    return name


def resolve_device(device: str) -> torch.device:
    """`auto` is the first CUDA device, or the CPU.

    Raises:
        ValueError: for a device that is not understood or not there.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ('cpu', 'cuda'):
        raise ValueError(f'device is {device!r}: allowed are {", ".join(DEVICES)}')
    if chosen.type == 'cuda' and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'device is {device!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices: '
            "use 'cpu' or 'auto', or install a CUDA build of PyTorch"
        )
    return chosen


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is float16 on CUDA and float32 on the CPU.

    Raises:
        ValueError: for a precision that is not understood.
    """
    if precision == 'auto':
        return torch.float16 if device.type == 'cuda' else torch.float32
    if precision not in _DTYPES:
        raise ValueError(f'precision is {precision!r}: allowed are {", ".join(PRECISIONS)}')
    return _DTYPES[precision]


def check_rgb(rgb: np.ndarray) -> np.ndarray:
    """`rgb` itself, when it is uint8 (H, W, 3) of an allowed size.

    Raises:
        ValueError: quoting what came and what is allowed.
    """
    if not isinstance(rgb, np.ndarray):
        raise ValueError(f'rgb is a {type(rgb).__name__}: expected a numpy array')
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f'rgb is {rgb.dtype} {rgb.shape}: expected uint8 (H, W, 3)')
    height, width = rgb.shape[:2]
    if not (min(height, width) >= SMALLEST_RGB and max(height, width) <= LARGEST_RGB):
        raise ValueError(
            f'rgb is {width}x{height}: allowed are {SMALLEST_RGB}x{SMALLEST_RGB} '
            f'to {LARGEST_RGB}x{LARGEST_RGB}'
        )
    return rgb


def check_depth(depth: np.ndarray, rgb_size: tuple[int, int]) -> np.ndarray:
    """`depth` itself, when it is float32 (h, w) that can cover an RGB image of (H, W).

    Raises:
        ValueError: quoting what came and what is allowed.
    """
    if not isinstance(depth, np.ndarray):
        raise ValueError(f'depth is a {type(depth).__name__}: expected a numpy array')
    if depth.dtype != np.float32 or depth.ndim != 2:
        raise ValueError(f'depth is {depth.dtype} {depth.shape}: expected float32 (h, w) in metres')
    height, width = depth.shape
    rgb_height, rgb_width = rgb_size
    if min(height, width) < SMALLEST_DEPTH or height > rgb_height or width > rgb_width:
        raise ValueError(
            f'depth is {width}x{height}: allowed are {SMALLEST_DEPTH}x{SMALLEST_DEPTH} '
            f'to the size of the RGB image, {rgb_width}x{rgb_height}'
        )
    fitting_width = height * rgb_width / rgb_height
    # At a few tens of pixels, rounding to whole pixels alone exceeds the tolerance.
    allowed = max(ASPECT_TOLERANCE * fitting_width, 1.0)
    if abs(width - fitting_width) > allowed:
        raise ValueError(
            f'depth is {width}x{height} (aspect {width / height:.3f}) and rgb is '
            f'{rgb_width}x{rgb_height} (aspect {rgb_width / rgb_height:.3f}): they must cover the '
            f'same field of view, aspect ratios may differ by {ASPECT_TOLERANCE:.0%}'
        )
    return depth


def has_measurement(depth: np.ndarray) -> bool:
    """Whether any pixel of float32 (h, w) metres is finite and above zero."""
    # Every camera's first look finds one on a coarse grid.
    for pixels in (depth[::16, ::16], depth):
        if bool(np.any((pixels > 0) & (pixels < np.inf))):
            return True
    return False


def load_model(
    name_or_path: str | Path | None, relative_depth: str | None
) -> tuple[DepthSR, RelativeDepth | None, dict[str, str]]:
    """Weights, the guide to use with them, and their names: see DepthSRPipeline.from_pretrained.

    Returns:
        The model, the guide or None, and 'weights', 'digest' and 'relative_depth' for logs.
    """
    weights = resolve_weights(name_or_path)
    model = DepthSR.from_pretrained(weights)
    digest = state_digest(model)
    name = model.config.name
    stored = model.config.relative_depth
    guide = None
    guide_name = 'none'
    if relative_depth == STORED_GUIDE and stored is None:
        raise ValueError(
            f'relative_depth is {relative_depth!r}, but the weights {name!r} hold no guide'
        )
    if relative_depth in (None, '', STORED_GUIDE):
        if stored is not None and (stored.enabled or relative_depth == STORED_GUIDE):
            guide = model.relative_depth
            guide_name = STORED_GUIDE
    elif relative_depth != 'off':
        guide = RelativeDepth.from_pretrained(relative_depth)
        guide_name = relative_depth
    names = {
        'weights': weights if name == 'custom' else name,
        'digest': digest,
        'relative_depth': guide_name,
    }
    return model, guide, names


class DepthSRPipeline:
    """RGB and sparse or low-resolution depth to dense metric depth; stateless.

    Make one with `from_pretrained` and call it: `result = pipeline(rgb, depth)`.
    """

    def __init__(self, engine: Engine, description: dict[str, Any]):
        self._engine = engine
        self._description = description
        # Sizes of upsampled depth that a warning named.
        self._warned_of: set[tuple[int, ...]] = set()
        self._placed: set[tuple[tuple[int, ...], Sampling]] = set()

    @property
    def description(self) -> dict[str, Any]:
        """Backend, weights, digest, guide, device and precision, for logs and reports."""
        return {'backend': 'torch', **self._description, **self._engine.description}

    @property
    def mark(self) -> Callable[[str], None]:
        """Called with the name of each stage as it ends; the benchmark puts a clock here."""
        return self._engine.mark

    @mark.setter
    def mark(self, clock: Callable[[str], None]) -> None:
        self._engine.mark = clock

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        relative_depth: str | None = None,
        device: str = 'auto',
        precision: str = 'auto',
        execution: str = 'auto',
        backend: str = 'auto',
    ) -> DepthSRPipeline:
        """Load weights.

        Args:
            name_or_path: None or '' for the embedded default (no network access); 'base' for the
                larger weights in the package; a folder or a Hugging Face id (safetensors only);
                'interpolation' for no network at all: the interpolated input comes back;
                or a file that `depth_sr export` wrote (NAME.onnx).
            relative_depth: 'embedded' for the guide stored with the weights, 'off' for none, a
                folder or Hugging Face id of any Depth Anything checkpoint; None or '' for the
                stored one where the weights validate better with it than without, else none.
            device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
            precision: 'auto', 'float32', 'bfloat16' or 'float16', for convolutions and attention.
            execution: 'eager', 'graph' (CUDA graphs), 'compile' (torch.compile: minutes at the
                first frame of each size, and a compiler is needed), or 'auto': CUDA graphs on a
                GPU, else eager.
            backend: 'torch', 'onnxruntime' (also for CUDA and TensorRT, where the installed one
                has them), or 'auto': PyTorch on a GPU; on a CPU ONNX Runtime where it is
                installed, else PyTorch.

        Raises:
            FileNotFoundError, OSError: when there are no such weights.
            ModuleNotFoundError: when the package of the backend is not installed.
            ValueError: when they are of another version or damaged, or an argument is not allowed.
        """
        if backend not in BACKENDS:
            raise ValueError(f'backend is {backend!r}: allowed are {", ".join(BACKENDS)}')
        if str(name_or_path).endswith('.onnx'):
            return cls._from_onnx_file(
                Path(str(name_or_path)), relative_depth, device, (precision, execution), backend
            )
        # ONNX Runtime has devices of its own; what it cannot run is run on the CPU.
        torch_device = resolve_device('cpu' if backend == 'onnxruntime' else device)
        dtype = resolve_precision(precision, torch_device)
        plain = dtype == torch.float32 and execution == 'auto'
        if backend == 'onnxruntime' and not plain:
            raise ValueError(
                f"precision is {precision!r} and execution is {execution!r}: backend 'onnxruntime' "
                "computes in float32, leave both at 'auto'"
            )
        if backend == 'auto' and plain and torch_device.type == 'cpu':
            backend = _cpu_backend(name_or_path)
            device = 'cpu'
        engine: Engine
        if name_or_path == INTERPOLATION:
            description = {'weights': INTERPOLATION, 'digest': 'none', 'relative_depth': 'none'}
            engine = InterpolationEngine()
        else:
            model, guide, description = load_model(name_or_path, relative_depth)
            engine = TorchEngine(
                model, guide=guide, device=torch_device, dtype=dtype, execution=execution
            )
            if backend == 'onnxruntime':
                engine = OnnxEngine(
                    model,
                    guide=guide,
                    eager=engine,
                    device=device,
                    threads=torch.get_num_threads(),
                    digest=f'{state_digest(model)} {"" if guide is None else state_digest(guide)}',
                )
        return cls(engine, description)

    @classmethod
    def _from_onnx_file(
        cls,
        path: Path,
        relative_depth: str | None,
        device: str,
        settings: tuple[str, str],
        backend: str,
    ) -> DepthSRPipeline:
        if backend == 'torch':
            raise ValueError(f"backend is 'torch', but {path.name} is for backend 'onnxruntime'")
        if relative_depth not in (None, '') or settings != ('auto', 'auto'):
            raise ValueError(
                f'relative_depth is {relative_depth!r}, precision {settings[0]!r} and execution '
                f'{settings[1]!r}: in {path.name} they are fixed, leave them at their defaults'
            )
        if device not in ('auto', 'cpu') and not device.startswith('cuda'):
            raise ValueError(f'device is {device!r}: allowed are {", ".join(DEVICES)}')
        engine = OnnxFileEngine(path, device, torch.get_num_threads())
        names = ('weights', 'digest', 'relative_depth')
        return cls(engine, {name: engine.metadata[name] for name in names})

    @property
    def fixed_sizes(self) -> tuple | None:
        """((W, H), (w, h), ...), the only sizes that are taken; None where every size is."""
        return getattr(self._engine, 'fixed_sizes', None)

    def __call__(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        *,
        out: np.ndarray | None = None,
        relative: np.ndarray | None = None,
        sampling_of: FindSampling = find_sampling,
        without_repetition: UndoUpsampling = undo_nearest_upsampling,
    ) -> DepthSRResult:
        """Dense metric depth for one pair of images that cover the same field of view.

        Args:
            rgb: uint8 (H, W, 3) RGB, 64x64 to 4096x4096.
            depth: float32 (h, w), metres along the optical axis; 8x8 up to (H, W); 0, negative,
                NaN and infinite pixels are no measurement. Pixel centres map as
                (u + .5) W / w - .5. A map that was upsampled by repeating pixels counts as
                the smaller one (`depth_sr_ros.nearest_upsampling`), and one whose values are of
                another pixel than the middle of each cell is told by the image
                (`depth_sr_ros.point_samples`).
            out: float32 (H, W) to write the depth to; None allocates one.
            relative: float32 (g, k) relative inverse depth over the same view, of any size and
                scale, to use in the place of the guide's.
            sampling_of: tells what the values of a depth map of low resolution are; a
                SamplingMemory for the frames of one camera.
            without_repetition: makes upsampled depth small again; a NearestUpsamplingMemory for the
                frames of one camera.

        Returns:
            See DepthSRResult; `result.depth` is `out` where that was given.

        Raises:
            ValueError: for a wrong shape, type or size.
            NoValidDepthError: when `depth` holds no measurement.
        """
        self._engine.mark('start')
        check_rgb(rgb)
        height, width = rgb.shape[:2]
        check_depth(depth, (height, width))
        if out is not None and (
            not isinstance(out, np.ndarray)
            or out.dtype != np.float32
            or out.shape != (height, width)
        ):
            came = getattr(out, 'shape', type(out).__name__)
            raise ValueError(
                f'out is {getattr(out, "dtype", "")} {came}: expected float32 ({height}, {width})'
            )
        if not has_measurement(depth):
            raise NoValidDepthError(
                f'none of the {depth.size} depth pixels is a measurement (finite and above 0 m)'
            )
        if out is None:
            out = np.empty((height, width), np.float32)
        measured = self._as_measured(depth, without_repetition)
        measured = self._at_its_pixels(rgb, measured, sampling_of)
        confidence = self._engine.run(rgb, measured, out, relative)
        return DepthSRResult(out, confidence)

    def _as_measured(self, depth: np.ndarray, without_repetition: UndoUpsampling) -> np.ndarray:
        """Depth without repeated pixels; as it came where a file of fixed sizes is for that."""
        size = depth.shape[::-1]
        if self.fixed_sizes is not None and size == self.fixed_sizes[1]:
            return depth
        measured = without_repetition(depth)
        measured_size = measured.shape[::-1]
        if measured_size == size or min(measured_size) < SMALLEST_DEPTH:
            return depth
        if self.fixed_sizes is not None and measured_size != self.fixed_sizes[1]:
            return depth
        if size not in self._warned_of:
            self._warned_of.add(size)
            LOG.warning(
                'depth of %dx%d repeats the pixels of one of %dx%d, and is taken at that size; '
                'publish that one where you can: it is smaller',
                *size,
                *measured_size,
            )
        return measured

    def _at_its_pixels(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        sampling_of: FindSampling,
    ) -> np.ndarray:
        """Points at the pixels that they are of; anything else as it is."""
        factor = cell_factor(rgb.shape[:2], depth.shape)
        as_it_is = self.fixed_sizes is not None or isinstance(self._engine, InterpolationEngine)
        if factor is None or as_it_is:
            return depth
        sampling = sampling_of(rgb, depth)
        if sampling is None or sampling.phase is None:
            return depth
        size = depth.shape[::-1]
        if (size, sampling) not in self._placed:
            self._placed.add((size, sampling))
            maker = 'INTER_NEAREST_EXACT' if any(sampling.phase) else 'INTER_NEAREST'
            LOG.warning(
                'depth of %dx%d holds one pixel of each %dx%d (row %d, column %d), as resizing by '
                '%s leaves it, and is taken so; publish the mean of the valid pixels where you '
                'can: it tells more',
                *size, factor, factor, *sampling.phase, maker,
            )  # fmt: skip
        return place_points(depth, factor, sampling.phase)

    def relative_depth(self, rgb: np.ndarray) -> np.ndarray | None:
        """What the guide makes of `rgb`: float32 (g, k), nearer is larger; None without one."""
        return self._engine.relative_depth(check_rgb(rgb))

    def stream(self, *, guide_interval: int = 1) -> DepthSRStream:
        """For the frames of one camera: called like the pipeline, and it remembers.

        Args:
            guide_interval: the guide sees every so many frames, 1 to 100.

        Raises:
            ValueError: for another interval.
        """
        return DepthSRStream(self, guide_interval)

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        """Run once at (W, H) and (w, h), so that the first real frame is not the slow one."""
        self._engine.warm_up(rgb_size, depth_size)

    def memory(self) -> dict[str, int]:
        """Bytes of accelerator memory: 'allocated', 'reserved', 'peak'; {} on a CPU."""
        return self._engine.memory()

    def close(self) -> None:
        """Free the model and its memory; the pipeline cannot be called afterwards."""
        self._engine.close()


def _cpu_backend(name_or_path: Any) -> str:
    """The faster one of those that are installed; docs/performance.md has the measurements."""
    missing = [name for name in ('onnx', 'onnxruntime') if not importlib.util.find_spec(name)]
    if not missing or name_or_path == INTERPOLATION:
        return 'onnxruntime'
    LOG.warning(
        '%s not installed: PyTorch computes, at about half the speed; pip install '
        "'depth_sr_ros[export]' brings what is missing",
        ' and '.join(missing),
    )
    return 'torch'


def state_digest(model: torch.nn.Module) -> str:
    """The first 12 hexadecimal digits of the SHA-256 over all parameters, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:12]
