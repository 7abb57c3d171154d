# SPDX-License-Identifier: Apache-2.0
"""A clip as a camera's messages and their capture times; knows messages, but no node."""

from __future__ import annotations

import array
import dataclasses
import heapq
import itertools
import re
from collections.abc import Iterator

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.demo_clip import DemoClip
from depth_sr_ros.ros.compressed_codec import (
    encode_compressed_depth_into,
    encode_compressed_rgb_into,
)
from depth_sr_ros.ros.image_codec import encode_depth_into

RGB_ENCODINGS = {
    'rgb8': lambda rgb: rgb,
    'bgr8': lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
    'rgba8': lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA),
    'bgra8': lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA),
    'mono8': lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY),
}
DEPTH_ENCODINGS = ('16UC1', '32FC1')
RGB_TRANSPORTS = ('raw', 'compressed')
DEPTH_TRANSPORTS = ('raw', 'compressedDepth')
RELIABILITIES = ('best_effort', 'reliable')


def _option(default, text: str):
    return dataclasses.field(default=default, metadata={'text': text})


@dataclasses.dataclass(frozen=True)
class ClipPlayerConfig:
    """What `demo_camera` sends. Every field is a ROS parameter and a command-line option.

    Raises:
        ValueError: a value outside its range; the message quotes both.
    """

    clip: str = _option('', 'clip to play; empty = the one in the package')
    frames: int = _option(0, 'play only this many frames of the clip before looping; 0 = all')
    seconds: float = _option(0.0, 'stop after this many seconds; 0 = loop for ever')
    rgb_rate: float = _option(30.0, 'RGB frames per second, above 0 up to 240')
    depth_rate: float = _option(15.0, 'depth frames per second, above 0 up to 240')
    jitter: float = _option(0.002, 'standard deviation of the stamps, seconds, 0 to 0.1')
    rgb_size: str = _option('', 'WIDTHxHEIGHT of the RGB image; empty = as the clip')
    rgb_encoding: str = _option('rgb8', ' | '.join(RGB_ENCODINGS))
    depth_encoding: str = _option('16UC1', '16UC1 (millimetres) | 32FC1 (metres)')
    rgb_transport: str = _option('raw', 'raw | compressed (JPEG on TOPIC/compressed)')
    depth_transport: str = _option('raw', 'raw | compressedDepth (PNG on TOPIC/compressedDepth)')
    jpeg_quality: int = _option(95, 'of rgb_transport compressed, 1 to 100')
    degradation: str = _option(
        'scale=8,noise=0.02,holes=0.05', 'how the truth becomes the depth image'
    )
    seed: int = _option(0, 'seed of jitter and depth noise, 0 to 2**31')
    reliability: str = _option('best_effort', ' | '.join(RELIABILITIES))
    rgb_frame: str = _option('camera_color_optical_frame', 'frame_id of the RGB image')
    depth_frame: str = _option('camera_color_optical_frame', 'frame_id of the depth image')
    wait: bool = _option(False, 'start only when RGB and depth each have a subscriber')

    def __post_init__(self) -> None:
        for name in ('rgb_rate', 'depth_rate'):
            if not 0 < getattr(self, name) <= 240:
                raise ValueError(f'{name} is {getattr(self, name)}; allowed: above 0 up to 240 Hz')
        if not 0 <= self.jitter <= 0.1:
            raise ValueError(f'jitter is {self.jitter}; allowed: 0 to 0.1 seconds')
        if not self.seconds >= 0:
            raise ValueError(f'seconds is {self.seconds}; allowed: 0 (for ever) and above')
        if self.frames < 0:
            raise ValueError(f'frames is {self.frames}; allowed: 0 (the whole clip) and above')
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f'jpeg_quality is {self.jpeg_quality}; allowed: 1 to 100')
        if not 0 <= self.seed <= 2**31:
            raise ValueError(f'seed is {self.seed}; allowed: 0 to 2**31')
        for name, allowed in (
            ('rgb_encoding', RGB_ENCODINGS),
            ('depth_encoding', DEPTH_ENCODINGS),
            ('rgb_transport', RGB_TRANSPORTS),
            ('depth_transport', DEPTH_TRANSPORTS),
            ('reliability', RELIABILITIES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f'{name} is {getattr(self, name)!r}; allowed: {", ".join(allowed)}'
                )
        self.parsed_rgb_size()

    def parsed_rgb_size(self) -> tuple[int, int] | None:
        """(width, height) of the RGB image, None for the clip's own."""
        if not self.rgb_size:
            return None
        match = re.fullmatch(r'(\d+)x(\d+)', self.rgb_size)
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(16 <= side <= 8192 for side in size):
            raise ValueError(
                f'rgb_size is {self.rgb_size!r}; allowed: WIDTHxHEIGHT, 16x16 to 8192x8192'
            )
        return size


def fit_to_size(
    image: np.ndarray, size: tuple[int, int], interpolation: int
) -> tuple[np.ndarray, np.ndarray]:
    """Crop the middle of an image to the aspect ratio of `size` (width, height), then resize it.

    Returns the image and the 3x3 matrix that takes the old intrinsics to the new ones.
    """
    height, width = image.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    crop_width = min(width, round(size[0] / scale))
    crop_height = min(height, round(size[1] / scale))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    cropped = image[top : top + crop_height, left : left + crop_width]
    scale_x, scale_y = size[0] / crop_width, size[1] / crop_height
    transform = np.array(
        [
            [scale_x, 0, (0.5 - left) * scale_x - 0.5],
            [0, scale_y, (0.5 - top) * scale_y - 0.5],
            [0, 0, 1],
        ]
    )
    return cv2.resize(cropped, size, interpolation=interpolation), transform


def rgb_message(rgb: np.ndarray, config: ClipPlayerConfig) -> Image | CompressedImage:
    """The message of a uint8 (H, W, 3) RGB array."""
    if config.rgb_transport == 'compressed':
        compressed = CompressedImage()
        compressed.header.frame_id = config.rgb_frame
        encode_compressed_rgb_into(compressed, rgb, jpeg_quality=config.jpeg_quality)
        return compressed
    encoding = config.rgb_encoding
    pixels = np.ascontiguousarray(RGB_ENCODINGS[encoding](rgb))
    message = Image(encoding=encoding, height=pixels.shape[0], width=pixels.shape[1])
    message.header.frame_id = config.rgb_frame
    message.step = pixels.nbytes // pixels.shape[0]
    # Assigning bytes would make rclpy check every single one; array.array is taken as it is.
    data = array.array('B')
    data.frombytes(pixels.data.cast('B'))
    message.data = data
    return message


def depth_message(depth: np.ndarray, config: ClipPlayerConfig) -> Image | CompressedImage:
    """The message of a float (H, W) depth array in metres."""
    message: Image | CompressedImage
    if config.depth_transport == 'compressedDepth':
        message = CompressedImage()
        encode_compressed_depth_into(message, depth, config.depth_encoding)
    else:
        message = Image()
        encode_depth_into(message, depth, config.depth_encoding)
    message.header.frame_id = config.depth_frame
    return message


def camera_info_message(intrinsics: np.ndarray, size: tuple[int, int], frame_id: str) -> CameraInfo:
    """CameraInfo of an ideal pinhole camera with 3x3 `intrinsics` and `size` (width, height)."""
    message = CameraInfo(width=size[0], height=size[1], distortion_model='plumb_bob')
    message.header.frame_id = frame_id
    message.d = [0.0] * 5
    message.k = [float(value) for value in intrinsics.ravel()]
    message.r = [float(value) for value in np.eye(3).ravel()]
    message.p = [float(value) for row in intrinsics for value in (*row, 0.0)]
    return message


@dataclasses.dataclass
class ImageStream:
    """What one camera sends over and over: a message for each clip frame that it shows."""

    name: str
    rate: float
    transport: str
    size: tuple[int, int]  # width, height
    images: dict[int, Image | CompressedImage]  # by clip frame
    info: CameraInfo

    @property
    def bytes_per_image(self) -> float:
        """Mean size of the pixels or the compressed picture."""
        return sum(len(image.data) for image in self.images.values()) / len(self.images)


class ClipPlayer:
    """The clip as two streams of ready messages, and when each is captured.

    Everything is decoded, degraded and encoded before the first frame goes out, so that playing
    costs next to nothing beside the node that is looked at.
    """

    def __init__(self, clip: DemoClip, config: ClipPlayerConfig) -> None:
        self.config = config
        self.clip_rate = clip.frame_rate
        self.clip_length = min(config.frames or len(clip), len(clip))
        size = config.parsed_rgb_size()
        degrade = parse_degradation(config.degradation)

        rgb_images: dict[int, Image | CompressedImage] = {}
        depth_images: dict[int, Image | CompressedImage] = {}
        transform = np.eye(3)
        for i in range(self.clip_length):
            rgb = clip.rgb(i)
            if size:
                rgb, transform = fit_to_size(rgb, size, cv2.INTER_AREA)
            rgb_images[i] = rgb_message(rgb, config)
            truth = clip.depth_truth(i)
            if size:
                truth, _ = fit_to_size(truth, size, cv2.INTER_NEAREST)
            depth = degrade(rgb, truth, np.random.default_rng([config.seed, i]))
            depth_images[i] = depth_message(depth, config)

        intrinsics = transform @ clip.intrinsics
        rgb_size, depth_size = rgb.shape[1::-1], depth.shape[1::-1]
        # Pixel centres map as (u + .5) w / W - .5.
        sx, sy = depth_size[0] / rgb_size[0], depth_size[1] / rgb_size[1]
        to_depth = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
        self.streams = (
            ImageStream(
                'color',
                config.rgb_rate,
                config.rgb_transport,
                rgb_size,
                rgb_images,
                camera_info_message(intrinsics, rgb_size, config.rgb_frame),
            ),
            ImageStream(
                'depth',
                config.depth_rate,
                config.depth_transport,
                depth_size,
                depth_images,
                camera_info_message(to_depth @ intrinsics, depth_size, config.depth_frame),
            ),
        )

    def clip_frame(self, stream: ImageStream, number: int) -> int:
        """Which clip frame the `number`-th message of a stream shows; the clip loops."""
        return round(number / stream.rate * self.clip_rate) % self.clip_length

    def schedule(self) -> Iterator[tuple[int, int, ImageStream]]:
        """(capture time in ns from the start, number, stream), in the order of capture time."""

        def captures(index: int, stream: ImageStream) -> Iterator[tuple[int, int, int]]:
            rng = np.random.default_rng([self.config.seed, index])
            # Frames of one stream never change places, however large the jitter.
            limit = 0.45 / stream.rate
            for number in itertools.count():
                seconds = number / stream.rate
                if self.config.seconds and seconds >= self.config.seconds:
                    return
                seconds += np.clip(rng.normal(0, self.config.jitter), -limit, limit)
                yield round(seconds * 1e9), index, number

        for capture_ns, index, number in heapq.merge(
            *(captures(index, stream) for index, stream in enumerate(self.streams))
        ):
            yield capture_ns, number, self.streams[index]
