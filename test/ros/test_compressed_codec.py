# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.ros.compressed_codec import (
    decode_compressed_depth,
    decode_compressed_rgb,
    encode_compressed_depth_into,
)
from depth_sr_ros.ros.image_codec import ImageCodecError

MILLIMETRES = np.array([[0, 1, 1234, 65534], [500, 0, 30000, 2]], np.uint16)
# 1 pixel without measurement, 2 with: 5 and 4 mm, 1 without; see test_rvl_codec.
RVL = bytes.fromhex('12a11100')[::-1]


def compressed_message(data, message_format):
    return SimpleNamespace(data=array.array('B', bytes(data)), format=message_format)


def encoded(image, extension='.png', *options):
    return cv2.imencode(extension, image, options)[1].tobytes()


def depth_header(scale=0.0, offset=0.0):
    return struct.pack('<iff', 0, scale, offset)


def smooth_picture(height=40, width=56):
    v, u = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([60 + 3 * u, 200 - 3 * v, 40 + 2 * u + 2 * v], axis=-1).astype(np.uint8)


class TestDecodeCompressedRgb:
    @pytest.mark.parametrize(
        'message_format', ['rgb8; png compressed bgr8', 'bgr8; png compressed bgr8', 'png', '']
    )
    def test_png_keeps_every_value(self, message_format):
        picture = smooth_picture()
        message = compressed_message(encoded(picture[..., ::-1]), message_format)
        np.testing.assert_array_equal(decode_compressed_rgb(message), picture)

    @pytest.mark.parametrize(
        'message_format', ['rgb8; jpeg compressed bgr8', 'bayer_rggb8; jpeg compressed bgr8', 'jpg']
    )
    def test_jpeg_keeps_the_colours(self, message_format):
        picture = smooth_picture()
        message = compressed_message(encoded(picture[..., ::-1], '.jpg'), message_format)
        np.testing.assert_allclose(decode_compressed_rgb(message), picture.astype(int), atol=12)

    def test_red_and_blue_swapped_before_compression_are_swapped_back(self):
        picture = smooth_picture()
        message = compressed_message(encoded(picture), 'rgb8; png compressed rgb8')
        np.testing.assert_array_equal(decode_compressed_rgb(message), picture)

    @pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
    def test_grey_becomes_three_equal_channels(self, dtype):
        grey = smooth_picture()[..., 0]
        values = grey.astype(dtype) * (256 if dtype == np.uint16 else 1)
        message = compressed_message(encoded(values), 'mono8; png compressed mono8')
        np.testing.assert_array_equal(decode_compressed_rgb(message), np.dstack([grey] * 3))

    def test_exif_orientation_is_ignored(self):
        picture = smooth_picture(40, 56)
        jpeg = encoded(picture, '.jpg')
        orientation = struct.pack('<HHIHHHII', 0x4949, 42, 8, 1, 0x112, 3, 1, 6)
        exif = b'Exif\x00\x00' + orientation + bytes(4)
        segment = b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif
        message = compressed_message(jpeg[:2] + segment + jpeg[2:], 'jpeg')
        turned = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert turned.shape == (56, 40, 3)
        assert decode_compressed_rgb(message).shape == (40, 56, 3)

    @pytest.mark.parametrize('extension', ['.png', '.jpg'])
    @pytest.mark.parametrize('kept', [20, 0.3, 0.6, 0.95])
    def test_a_picture_cut_off_is_refused(self, extension, kept):
        data = encoded(smooth_picture(), extension)
        short = data[: kept if isinstance(kept, int) else int(kept * len(data))]
        with pytest.raises(ImageCodecError, match=f'{len(short)} bytes are cut off'):
            decode_compressed_rgb(compressed_message(short, 'rgb8; jpeg compressed bgr8'))

    def test_trailing_bytes_as_usb_cameras_send_them_are_skipped(self):
        data = encoded(smooth_picture(), '.jpg')
        plain = decode_compressed_rgb(compressed_message(data, 'jpeg'))
        padded = decode_compressed_rgb(compressed_message(data + bytes(500), 'jpeg'))
        np.testing.assert_array_equal(padded, plain)

    def test_another_codec_is_refused_with_the_allowed_ones(self):
        with pytest.raises(ImageCodecError, match=r"'h264'.*00 00 00 01.*JPEG, PNG"):
            decode_compressed_rgb(compressed_message(b'\0\0\0\1\x67\x42', 'h264'))

    def test_a_damaged_png_is_refused(self):
        data = bytearray(encoded(smooth_picture()))
        data[16:24] = bytes(8)  # the size
        with pytest.raises(ImageCodecError):
            decode_compressed_rgb(compressed_message(data, 'png'))

    def test_empty_data_are_refused(self):
        with pytest.raises(ImageCodecError, match=r'begin with|not empty'):
            decode_compressed_rgb(compressed_message(b'', 'jpeg'))


class TestDecodeCompressedDepth:
    @pytest.mark.parametrize(
        ('message_format', 'header'),
        [
            ('16UC1; compressedDepth png', depth_header(np.nan, 1e30)),
            ('16UC1; compressedDepth', depth_header()),
            ('16UC1; compressedDepth png', b''),
            ('16UC1; png compressed ', b''),
        ],
    )
    def test_png_of_16uc1_is_millimetres(self, message_format, header):
        message = compressed_message(header + encoded(MILLIMETRES), message_format)
        depth = decode_compressed_depth(message)
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth, MILLIMETRES.astype(np.float32) / np.float32(1000))

    def test_png_of_32fc1_is_quantised_inverse_depth(self):
        # The plugin's parameters for depth_quantization 100 and depth_max 10: a pixel of 1 is 10 m.
        scale, offset = 100 * 101.0, 1 - 100 * 101 / 10
        quantised = np.array([[0, 1, 1011, 65535]], np.uint16)
        message = compressed_message(
            depth_header(scale, offset) + encoded(quantised), '32FC1; compressedDepth png'
        )
        expected = [[0, 10, scale / (1011 - offset), scale / (65535 - offset)]]
        np.testing.assert_allclose(decode_compressed_depth(message), expected, rtol=1e-6)

    def test_rvl_of_16uc1_is_millimetres(self):
        data = depth_header() + struct.pack('<II', 2, 2) + RVL
        depth = decode_compressed_depth(compressed_message(data, '16UC1; compressedDepth rvl'))
        np.testing.assert_array_equal(depth, np.float32([[0, 0.005], [0.004, 0]]))

    def test_rvl_of_32fc1_is_quantised_inverse_depth(self):
        data = depth_header(20.0, 1.0) + struct.pack('<II', 4, 1) + RVL
        depth = decode_compressed_depth(compressed_message(data, '32FC1; compressedDepth rvl'))
        np.testing.assert_allclose(depth, [[0, 5, 20 / 3, 0]], rtol=1e-6)

    def test_mono16_is_depth_only_when_told_so(self):
        message = compressed_message(encoded(MILLIMETRES), 'mono16; png compressed ')
        with pytest.raises(ImageCodecError, match="'mono16; png compressed '"):
            decode_compressed_depth(message)
        assert decode_compressed_depth(message, mono16_is_depth=True)[1, 0] == 0.5

    @pytest.mark.parametrize(
        'message_format',
        [
            '',
            'png',
            '16UC1',
            '16UC1; jpeg compressed ',
            '32FC1; png compressed',
            'rgb8; compressedDepth',
        ],
    )
    def test_another_format_is_refused_with_the_allowed_ones(self, message_format):
        message = compressed_message(depth_header() + encoded(MILLIMETRES), message_format)
        with pytest.raises(ImageCodecError) as error:
            decode_compressed_depth(message)
        assert f"'{message_format}'" in str(error.value)
        assert '16UC1; compressedDepth png' in str(error.value)

    @pytest.mark.parametrize(
        ('data', 'message_format', 'quoted'),
        [
            (depth_header(), '16UC1; compressedDepth png', 'data has 12 bytes'),
            (depth_header() + b'abcd', '16UC1; compressedDepth png', '61 62 63 64.*PNG'),
            (
                depth_header() + encoded(smooth_picture()),
                '16UC1; compressedDepth png',
                r'uint8 \(40, 56, 3\)',
            ),
            (
                depth_header(0.0, 1.0) + encoded(MILLIMETRES),
                '32FC1; compressedDepth png',
                r'0\.0 and 1\.0',
            ),
            (
                depth_header(np.nan, 1.0) + encoded(MILLIMETRES),
                '32FC1; compressedDepth png',
                r'nan and 1\.0',
            ),
            (depth_header() + b'\1\0\0\0', '16UC1; compressedDepth rvl', 'have 4 bytes'),
            (
                depth_header() + struct.pack('<II', 2**31, 2**31) + RVL,
                '16UC1; compressedDepth rvl',
                '2147483648x2147483648',
            ),
            (
                depth_header() + struct.pack('<II', 9, 9) + RVL,
                '16UC1; compressedDepth rvl',
                'ends after 4 of 81 pixels',
            ),
        ],
    )
    def test_what_does_not_fit_is_refused_with_its_value(self, data, message_format, quoted):
        with pytest.raises(ImageCodecError, match=quoted):
            decode_compressed_depth(compressed_message(data, message_format))


class TestEncodeCompressedDepth:
    def test_16uc1_keeps_millimetres(self):
        depth = np.random.default_rng(3).uniform(0.2, 60, (37, 53)).astype(np.float32)
        depth[::5, ::3] = np.nan
        depth[0, 1] = 70
        message = SimpleNamespace()
        assert encode_compressed_depth_into(message, depth, '16UC1') == 1
        assert message.format == '16UC1; compressedDepth png'
        received = decode_compressed_depth(message)
        expected = np.where(depth < 66, depth, 0)
        np.testing.assert_allclose(received, expected, atol=0.000505, rtol=0)

    @pytest.mark.parametrize('reach', [(0.3, 8), (0.3, 90), (2.0, 2.0), (0.05, 1e6)])
    def test_32fc1_is_exact_to_half_a_step_of_inverse_depth(self, reach):
        depth = np.random.default_rng(4).uniform(*reach, (37, 53)).astype(np.float32)
        depth[::5, ::3] = np.nan
        message = SimpleNamespace()
        assert encode_compressed_depth_into(message, depth, '32FC1') == 0
        assert message.format == '32FC1; compressedDepth png'
        received = decode_compressed_depth(message)
        measured = depth > 0
        np.testing.assert_array_equal(received > 0, measured)
        step = (1 / np.nanmin(depth) - 1 / np.nanmax(depth)) / 65534
        tolerance = 0.51 * step + 3e-7 / depth[measured]
        assert (abs(1 / received[measured] - 1 / depth[measured]) <= tolerance).all()

    @pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
    def test_a_frame_without_measurement_comes_back_empty(self, encoding):
        message = SimpleNamespace()
        encode_compressed_depth_into(message, np.full((4, 5), np.nan, np.float32), encoding)
        assert not decode_compressed_depth(message).any()

    def test_another_encoding_is_refused(self):
        with pytest.raises(ImageCodecError, match=r"'64FC1'.*16UC1, 32FC1"):
            encode_compressed_depth_into(SimpleNamespace(), np.ones((2, 2), np.float32), '64FC1')

    def test_the_real_message_takes_it(self):
        messages = pytest.importorskip('sensor_msgs.msg')
        depth = np.random.default_rng(5).uniform(0.2, 9, (24, 32)).astype(np.float32)
        message = messages.CompressedImage()
        encode_compressed_depth_into(message, depth)
        np.testing.assert_allclose(decode_compressed_depth(message), depth, atol=0.000501, rtol=0)


formats = st.sampled_from(
    [
        'rgb8; jpeg compressed bgr8',
        '16UC1; compressedDepth png',
        '32FC1; compressedDepth png',
        '16UC1; compressedDepth rvl',
        '32FC1; compressedDepth rvl',
        '16UC1; png compressed ',
    ]
)
PICTURES = [
    encoded(smooth_picture()),
    encoded(smooth_picture(), '.jpg'),
    encoded(MILLIMETRES),
    struct.pack('<II', 2, 2) + RVL,
]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_messages_are_decoded_or_refused_and_nothing_else(data):
    header = data.draw(st.sampled_from([b'', depth_header(10.0, -5.0)]) | st.binary(max_size=14))
    content = bytearray(header + data.draw(st.sampled_from(PICTURES)))
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    message = compressed_message(content[:end], data.draw(formats | st.text()))
    for decode, dtype, dimensions in (
        (decode_compressed_rgb, np.uint8, 3),
        (decode_compressed_depth, np.float32, 2),
    ):
        try:
            decoded = decode(message)
        except ImageCodecError:
            continue
        assert decoded.dtype == dtype
        assert decoded.ndim == dimensions
        if dimensions == 2:
            assert np.isfinite(decoded).all()
            assert (decoded >= 0).all()
