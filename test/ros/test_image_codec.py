# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.ros.image_codec import (
    DEPTH_ENCODINGS,
    RGB_ENCODINGS,
    ImageCodecError,
    decode_depth,
    decode_rgb,
    encode_depth_into,
    encode_image_into,
)

NO_MEASUREMENT = [0.0, -0.0, -1.0, np.nan, -np.nan, np.inf, -np.inf]


def image_message(pixels, encoding, *, padding=0, big_endian=False):
    """An object shaped like sensor_msgs/Image with `padding` bytes of 0xAA after every row."""
    pixels = np.asarray(pixels)
    rows = pixels.astype(pixels.dtype.newbyteorder('>' if big_endian else '<'))
    rows = rows.reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    return SimpleNamespace(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=rows.shape[1],
        data=array.array('B', rows.tobytes()),
    )


def random_picture(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth_picture(height=32, width=48):
    """Slow gradients, which chroma subsampling and demosaicing reproduce closely."""
    v, u = np.mgrid[:height, :width].astype(np.float32)
    picture = np.stack([60 + 3 * u, 200 - 3 * v, 40 + 2 * u + 2 * v], axis=-1)
    return picture.astype(np.uint8)


def with_alpha(picture):
    return np.dstack([picture, np.full(picture.shape[:2], 7, np.uint8)])


def yuv_planes(picture):
    """Y, U and V of BT.601 in video range, by the formula of the standard."""
    red, green, blue = np.moveaxis(picture.astype(np.float64), -1, 0)
    luma = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    u = 128 + (-37.797 * red - 74.203 * green + 112.0 * blue) / 255
    v = 128 + (112.0 * red - 93.786 * green - 18.214 * blue) / 255
    return [np.rint(plane).astype(np.uint8) for plane in (luma, u, v)]


def interleaved_yuv422(picture, order):
    luma, u, v = yuv_planes(picture)
    samples = {'Y0': luma[:, ::2], 'Y1': luma[:, 1::2], 'U': u[:, ::2], 'V': v[:, ::2]}
    packed = np.stack([samples[name] for name in order], axis=-1)
    return packed.reshape(picture.shape[0], picture.shape[1], 2)


def mosaic(picture, pattern):
    """The picture as a sensor sees it that has `pattern` in its upper left 2x2 pixels."""
    raw = np.empty(picture.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        v, u = divmod(index, 2)
        raw[v::2, u::2] = picture[v::2, u::2, 'rgb'.index(colour)]
    return raw


class TestDecodeRgb:
    @pytest.mark.parametrize('padding', [0, 1, 5])
    @pytest.mark.parametrize(
        ('encoding', 'channels'),
        [
            ('rgb8', lambda rgb: rgb),
            ('bgr8', lambda rgb: rgb[..., ::-1]),
            ('rgba8', with_alpha),
            ('bgra8', lambda rgb: with_alpha(rgb[..., ::-1])),
        ],
    )
    def test_colour_encodings_keep_every_value(self, encoding, channels, padding):
        picture = random_picture()
        decoded = decode_rgb(image_message(channels(picture), encoding, padding=padding))
        np.testing.assert_array_equal(decoded, picture)
        assert decoded.dtype == np.uint8
        assert decoded.flags.c_contiguous

    @pytest.mark.parametrize('padding', [0, 3])
    def test_grey_becomes_three_equal_channels(self, padding):
        grey = random_picture()[..., 0]
        decoded = decode_rgb(image_message(grey, 'mono8', padding=padding))
        np.testing.assert_array_equal(decoded, np.dstack([grey] * 3))

    @pytest.mark.parametrize('big_endian', [False, True])
    @pytest.mark.parametrize('padding', [0, 3])
    def test_mono16_keeps_its_high_byte(self, padding, big_endian):
        grey = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300
        message = image_message(grey, 'mono16', padding=padding, big_endian=big_endian)
        np.testing.assert_array_equal(decode_rgb(message)[..., 1], grey >> 8)

    @pytest.mark.parametrize('padding', [0, 6])
    @pytest.mark.parametrize(
        ('encoding', 'order'),
        [
            ('uyvy', ('U', 'Y0', 'V', 'Y1')),
            ('yuv422', ('U', 'Y0', 'V', 'Y1')),
            ('yuyv', ('Y0', 'U', 'Y1', 'V')),
            ('yuv422_yuy2', ('Y0', 'U', 'Y1', 'V')),
        ],
    )
    def test_yuv422_gives_the_colours_back(self, encoding, order, padding):
        picture = smooth_picture()
        message = image_message(interleaved_yuv422(picture, order), encoding, padding=padding)
        np.testing.assert_allclose(decode_rgb(message), picture.astype(int), atol=6)

    @pytest.mark.parametrize('padding', [0, 6])
    @pytest.mark.parametrize(('encoding', 'order'), [('nv12', (1, 2)), ('nv21', (2, 1))])
    def test_semi_planar_yuv420_gives_the_colours_back(self, encoding, order, padding):
        picture = smooth_picture()
        planes = yuv_planes(picture)
        chroma = np.stack([planes[index][::2, ::2] for index in order], axis=-1)
        rows = np.vstack([planes[0], chroma.reshape(picture.shape[0] // 2, -1)])
        message = image_message(rows, encoding, padding=padding)
        message.height = picture.shape[0]
        np.testing.assert_allclose(decode_rgb(message), picture.astype(int), atol=8)

    @pytest.mark.parametrize('padding', [0, 5])
    @pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
    def test_bayer_mosaics_give_the_colours_back(self, pattern, padding):
        picture = smooth_picture()
        message = image_message(mosaic(picture, pattern), f'bayer_{pattern}8', padding=padding)
        inner = (slice(2, -2), slice(2, -2))
        np.testing.assert_allclose(decode_rgb(message)[inner], picture.astype(int)[inner], atol=4)

    @pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
    def test_a_red_scene_is_red_through_every_bayer_pattern(self, pattern):
        red = np.zeros((8, 8, 3), np.uint8)
        red[..., 0] = 200
        decoded = decode_rgb(image_message(mosaic(red, pattern), f'bayer_{pattern}8'))
        assert decoded[2:-2, 2:-2, 0].min() == 200
        assert decoded[2:-2, 2:-2, 1:].max() == 0

    def test_rgb8_shares_the_memory_of_the_message(self):
        message = image_message(random_picture(), 'rgb8')
        decoded = decode_rgb(message)
        message.data[0] = 255 - message.data[0]
        assert decoded[0, 0, 0] == message.data[0]

    @pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, 'ndarray'])
    def test_data_may_be_any_byte_buffer(self, kind):
        picture = random_picture()
        message = image_message(picture[..., ::-1], 'bgr8')
        raw = message.data.tobytes()
        message.data = np.frombuffer(raw, np.uint8) if kind == 'ndarray' else kind(raw)
        np.testing.assert_array_equal(decode_rgb(message), picture)

    def test_an_unknown_encoding_is_refused_with_the_allowed_ones(self):
        with pytest.raises(ImageCodecError) as error:
            decode_rgb(image_message(random_picture(), 'nv24'))
        assert "'nv24'" in str(error.value)
        assert all(encoding in str(error.value) for encoding in RGB_ENCODINGS)

    @pytest.mark.parametrize(
        ('change', 'quoted'),
        [
            ({'step': 23}, 'step is 23.*24 or more'),
            ({'width': 0}, '0x6.*1 or more'),
            ({'height': 0}, '8x0.*1 or more'),
            ({'width': 2**32 - 1, 'step': 2**32 - 1}, 'step is 4294967295'),
            ({'height': 2**32 - 1}, r'data has 144 bytes.*103079215080'),
            ({'height': 5}, 'data has 144 bytes.*120'),
            ({'data': array.array('B')}, 'data'),
            ({'data': [1, 2, 3]}, 'data is list'),
            ({'data': None}, 'data is NoneType'),
            ({'encoding': 'yuyv', 'width': 7}, 'width is 7.*multiple of 2'),
            ({'encoding': 'nv12', 'height': 3}, '8x3.*even'),
            ({'encoding': 'bayer_rggb8', 'width': 3}, '3x6.*4x4'),
        ],
    )
    def test_what_does_not_fit_is_refused_with_its_value(self, change, quoted):
        message = image_message(random_picture(), 'rgb8')
        vars(message).update(change)
        with pytest.raises(ImageCodecError, match=quoted):
            decode_rgb(message)

    def test_the_last_row_may_come_without_its_padding(self):
        picture = random_picture()
        message = image_message(picture, 'rgb8', padding=4)
        del message.data[-4:]
        np.testing.assert_array_equal(decode_rgb(message), picture)
        del message.data[-1:]
        with pytest.raises(ImageCodecError, match='data has 163 bytes'):
            decode_rgb(message)


class StandInBridge:
    """What the tests below ask of cv_bridge.CvBridge."""

    def imgmsg_to_cv2(self, msg, desired_encoding):
        assert desired_encoding == 'rgb8'
        if msg.encoding != 'rgb16':
            raise RuntimeError(f'no conversion from {msg.encoding}')
        return (np.frombuffer(msg.data, np.uint16).reshape(6, 8, 3) >> 8).astype(np.uint8)


class TestCvBridgeFallback:
    @pytest.fixture(params=['stand-in', 'cv_bridge'])
    def bridge(self, request):
        if request.param == 'stand-in':
            return StandInBridge()
        return pytest.importorskip('cv_bridge').CvBridge()

    def test_it_is_asked_for_unknown_encodings_only(self, bridge):
        wide = random_picture().astype(np.uint16) << 8
        decoded = decode_rgb(image_message(wide, 'rgb16'), cv_bridge=bridge)
        # The real one divides by 257 and rounds, which is one less for some values.
        np.testing.assert_allclose(decoded, random_picture(), atol=1)
        known = decode_rgb(image_message(random_picture(), 'rgb8'), cv_bridge=bridge)
        np.testing.assert_array_equal(known, random_picture())

    def test_its_refusal_is_passed_on(self, bridge):
        message = image_message(random_picture(), '8UC3')
        with pytest.raises(ImageCodecError, match=r"'8UC3' and cv_bridge refuses"):
            decode_rgb(message, cv_bridge=bridge)

    def test_an_answer_of_another_shape_is_refused(self):
        bridge = SimpleNamespace(imgmsg_to_cv2=lambda msg, desired_encoding: np.zeros((6, 8)))
        with pytest.raises(ImageCodecError, match=r'cv_bridge made float64 \(6, 8\)'):
            decode_rgb(image_message(random_picture(), '8UC3'), cv_bridge=bridge)


class TestDecodeDepth:
    @pytest.mark.parametrize('big_endian', [False, True])
    @pytest.mark.parametrize('padding', [0, 2, 3])
    def test_16uc1_is_millimetres_and_the_largest_number_none(self, padding, big_endian):
        millimetres = np.array([[0, 1, 1234], [30000, 65534, 65535]], np.uint16)
        message = image_message(millimetres, '16UC1', padding=padding, big_endian=big_endian)
        depth = decode_depth(message)
        assert depth.dtype == np.float32
        millimetres[1, 2] = 0
        np.testing.assert_array_equal(depth, millimetres.astype(np.float32) / np.float32(1000))

    @pytest.mark.parametrize('big_endian', [False, True])
    @pytest.mark.parametrize('padding', [0, 4, 3])
    @pytest.mark.parametrize(('encoding', 'dtype'), [('32FC1', 'f4'), ('64FC1', 'f8')])
    def test_floats_are_metres_and_what_is_no_measurement_is_0(
        self, encoding, dtype, padding, big_endian
    ):
        metres = np.array([[*NO_MEASUREMENT, 0.4], [1e-6, 0.25, 1, 2, 70, 300, 1e30, 5]], dtype)
        message = image_message(metres, encoding, padding=padding, big_endian=big_endian)
        depth = decode_depth(message)
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth[0], np.float32([0] * 7 + [0.4]))
        np.testing.assert_array_equal(depth[1], metres[1].astype(np.float32))

    def test_a_float64_beyond_float32_is_no_measurement(self):
        assert decode_depth(image_message(np.array([[1e200, 2.0]]), '64FC1')).tolist() == [[0, 2]]

    def test_the_message_is_left_as_it_came(self):
        message = image_message(np.float32([[np.nan, -1, 2]]), '32FC1')
        before = message.data.tobytes()
        decode_depth(message)[...] = 9
        assert message.data.tobytes() == before

    def test_mono16_is_depth_only_when_told_so(self):
        message = image_message(np.uint16([[1500, 0]]), 'mono16')
        with pytest.raises(ImageCodecError, match=r"'mono16'.*16UC1.*mono16_is_depth"):
            decode_depth(message)
        assert decode_depth(message, mono16_is_depth=True).tolist() == [[1.5, 0.0]]

    @pytest.mark.parametrize('encoding', ['', 'rgb8', '16SC1', '32FC2'])
    def test_an_unknown_encoding_is_refused_with_the_allowed_ones(self, encoding):
        with pytest.raises(ImageCodecError, match=f"'{encoding}'.*16UC1, 32FC1, 64FC1"):
            decode_depth(image_message(np.uint16([[1, 2]]), encoding))

    def test_a_step_that_is_too_short_is_refused(self):
        message = image_message(np.uint16([[1, 2], [3, 4]]), '16UC1')
        message.step = 3
        with pytest.raises(ImageCodecError, match=r'step is 3.*4 or more'):
            decode_depth(message)


class TestEncode:
    @pytest.mark.parametrize('invalid', [True, False])
    def test_32fc1_is_metres_with_nan_for_no_measurement(self, invalid):
        depth = np.float32([[0.3, 1.5, 7.25, 80.0, 2.0, 3.0, 4.0]] * 2)
        if invalid:
            depth[1] = NO_MEASUREMENT
        before = depth.copy()
        message = SimpleNamespace()
        assert encode_depth_into(message, depth) == 0
        sent = np.frombuffer(message.data, np.float32).reshape(2, 7)
        np.testing.assert_array_equal(sent[0], depth[0])
        np.testing.assert_array_equal(sent[1], [np.nan] * 7 if invalid else depth[1])
        np.testing.assert_array_equal(depth, before)
        assert (message.height, message.width, message.step) == (2, 7, 28)
        assert (message.encoding, message.is_bigendian) == ('32FC1', 0)

    def test_16uc1_is_millimetres_with_0_for_no_measurement_and_beyond(self):
        depth = np.float32(
            [[*NO_MEASUREMENT, 0.0004], [0.0006, 1.5, 65.534, 65.535, 1e9, 3e38, 2, 3]]
        )
        message = SimpleNamespace()
        assert encode_depth_into(message, depth, '16UC1') == 3
        sent = np.frombuffer(message.data, np.uint16).reshape(2, 8)
        assert sent.tolist() == [[0] * 8, [1, 1500, 65534, 0, 0, 0, 2000, 3000]]
        assert (message.encoding, message.step) == ('16UC1', 16)

    @pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
    def test_a_round_trip_keeps_depth(self, encoding):
        depth = np.random.default_rng(1).uniform(0.2, 60, (37, 53)).astype(np.float32)
        depth[::5, ::3] = 0
        message = SimpleNamespace()
        encode_depth_into(message, depth, encoding)
        tolerance = 0 if encoding == '32FC1' else 0.000504
        np.testing.assert_allclose(decode_depth(message), depth, atol=tolerance, rtol=0)

    def test_a_message_that_is_used_again_keeps_its_memory(self):
        message = SimpleNamespace()
        encode_depth_into(message, np.full((4, 6), 2, np.float32))
        memory = message.data
        encode_depth_into(message, np.full((4, 6), 3, np.float32))
        assert message.data is memory
        assert (decode_depth(message) == 3).all()
        encode_depth_into(message, np.full((5, 6), 4, np.float32))
        assert decode_depth(message).shape == (5, 6)

    def test_other_float_types_and_strides_are_taken(self):
        depth = np.arange(1, 25, dtype=np.float64).reshape(4, 6)[:, ::2]
        message = SimpleNamespace()
        encode_depth_into(message, depth)
        np.testing.assert_array_equal(decode_depth(message), depth)

    @pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', '32FC1'])
    def test_pictures_and_maps_go_out_unchanged(self, encoding):
        picture = random_picture(5, 7)
        image = {'mono8': picture[..., 0], '32FC1': picture[..., 0] / np.float32(255)}.get(
            encoding, picture
        )
        message = SimpleNamespace()
        encode_image_into(message, image, encoding)
        np.testing.assert_array_equal(
            np.frombuffer(message.data, image.dtype).reshape(image.shape), image
        )
        assert (message.height, message.width, message.encoding) == (5, 7, encoding)
        assert message.step * 5 == len(message.data)

    @pytest.mark.parametrize(
        ('image', 'encoding', 'quoted'),
        [
            (random_picture(), '16UC1', "'16UC1'.*rgb8, bgr8, mono8, 32FC1"),
            (random_picture()[..., 0], 'rgb8', r'uint8 \(6, 8\).*\(height, width, 3\)'),
            (random_picture(), 'mono8', r'\(6, 8, 3\).*\(height, width\)'),
            (np.zeros((4, 4)), '32FC1', 'float64.*float32'),
            (np.zeros((0, 4), np.uint8), 'mono8', r'\(0, 4\)'),
        ],
    )
    def test_a_picture_that_does_not_fit_its_encoding_is_refused(self, image, encoding, quoted):
        with pytest.raises(ImageCodecError, match=quoted):
            encode_image_into(SimpleNamespace(), image, encoding)

    @pytest.mark.parametrize(
        ('depth', 'encoding', 'quoted'),
        [
            (np.ones((2, 2), np.float32), '64FC1', "'64FC1'.*32FC1, 16UC1"),
            (np.ones((2, 2, 1), np.float32), '32FC1', r'\(2, 2, 1\)'),
            (np.ones((0, 2), np.float32), '32FC1', r'\(0, 2\)'),
            (np.ones((2, 2), np.uint16), '16UC1', 'uint16'),
        ],
    )
    def test_depth_that_cannot_be_encoded_is_refused(self, depth, encoding, quoted):
        with pytest.raises(ImageCodecError, match=quoted):
            encode_depth_into(SimpleNamespace(), depth, encoding)

    @pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
    def test_the_real_message_takes_it_and_survives_serialisation(self, encoding):
        messages = pytest.importorskip('sensor_msgs.msg')
        serialization = pytest.importorskip('rclpy.serialization')
        depth = np.random.default_rng(2).uniform(0.2, 9, (24, 32)).astype(np.float32)
        message = messages.Image()
        encode_depth_into(message, depth, encoding)
        received = serialization.deserialize_message(
            serialization.serialize_message(message), messages.Image
        )
        np.testing.assert_allclose(decode_depth(received), depth, atol=0.000501, rtol=0)


sizes = st.one_of(st.integers(0, 20), st.sampled_from([2**31, 2**32 - 1]))


@st.composite
def malformed_messages(draw):
    height, width = draw(sizes), draw(sizes)
    encoding = draw(st.sampled_from([*RGB_ENCODINGS, *DEPTH_ENCODINGS, 'nv24', '']) | st.text())
    step = draw(st.one_of(st.integers(0, 200), st.just(width * draw(st.integers(1, 8))), sizes))
    length = draw(
        st.one_of(
            st.integers(0, 300), st.just(min(height * step, 4096)), st.just(height * 3 * step // 2)
        )
    )
    data = bytes(draw(st.integers(0, 255)) for _ in range(8)) * (min(length, 8192) // 8 + 1)
    wrap = draw(st.sampled_from([bytes, lambda raw: array.array('B', raw), list]))
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=draw(st.integers(0, 1)),
        step=step,
        data=wrap(data[: min(length, 8192)]),
    )


@settings(max_examples=1000, deadline=None)
@given(malformed_messages())
def test_a_message_is_decoded_or_refused_and_nothing_else(message):
    for decode in (decode_rgb, decode_depth):
        try:
            decoded = decode(message)
        except ImageCodecError:
            continue
        assert decoded.shape[:2] == (message.height, message.width)
        assert decoded.flags.c_contiguous


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(width=32) | st.sampled_from(NO_MEASUREMENT), min_size=1, max_size=40),
    st.sampled_from(['32FC1', '16UC1']),
)
def test_any_float_goes_out_as_a_measurement_or_as_none(values, encoding):
    depth = np.float32([values])
    message = SimpleNamespace()
    lost = encode_depth_into(message, depth, encoding)
    received = decode_depth(message)
    measured = np.isfinite(depth) & (depth > 0)
    if encoding == '32FC1':
        np.testing.assert_array_equal(received, np.where(measured, depth, 0))
    else:
        fits = measured & (depth.astype(np.float64) <= 65.5344)
        np.testing.assert_allclose(received[fits], depth[fits], atol=0.000505, rtol=0)
        beyond = measured & (depth.astype(np.float64) >= 65.5346)
        assert not received[~measured].any()
        assert not received[beyond].any()
        assert lost >= np.count_nonzero(beyond)
