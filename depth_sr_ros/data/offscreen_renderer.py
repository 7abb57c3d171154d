# SPDX-License-Identifier: Apache-2.0
"""Renders a Scene to RGB and metric depth with MuJoCo's offscreen OpenGL renderer."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from depth_sr_ros.data.scene_builder import Scene
from depth_sr_ros.data.scene_layouts import CameraPose

# The sky is a box around the camera, drawn well beyond FARTHEST because FAR is so large.
NEAR, FAR, FARTHEST = 0.08, 600.0, 120.0
# The pixels' centres in an image of twice the pixels and one more.
_CENTRES = (slice(1, -1, 2), slice(1, -1, 2))
_HELP = (
    'rendering scenes needs MuJoCo and OpenGL without a display: install the wheel `mujoco` '
    "(this package's extra `train`) and the system library for EGL or OSMesa (Debian, Ubuntu: "
    'libegl1 libgl1 libegl-mesa0, or libosmesa6)'
)


class RenderingUnavailableError(RuntimeError):
    """No OpenGL context can be made here; the message says what to install."""


def _open_context(width: int, height: int) -> Any:
    """Make an OpenGL context current, through EGL or else OSMesa.

    Either is chosen by the environment variable MUJOCO_GL where it is set. Once PyOpenGL is loaded
    a process stays with one of them.
    """
    wanted = os.environ.get('MUJOCO_GL', '').lower()
    reasons = []
    for name in ('egl', 'osmesa'):
        if wanted in ('egl', 'osmesa') and name != wanted:
            continue
        before = {key: os.environ.get(key) for key in ('MUJOCO_GL', 'PYOPENGL_PLATFORM')}
        os.environ['MUJOCO_GL'] = name
        os.environ['PYOPENGL_PLATFORM'] = name
        try:
            if name == 'egl':
                from mujoco.egl import GLContext
            else:
                from mujoco.osmesa import GLContext
            context = GLContext(width, height)
            context.make_current()
            return context
        # PyOpenGL and its drivers fail in many ways: AttributeError, OSError, EGLError ...
        except Exception as error:
            reasons.append(f'{name}: {type(error).__name__}: {error}')
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value
            for module in [m for m in sys.modules if m.startswith(('OpenGL', 'mujoco.egl'))]:
                del sys.modules[module]
    raise RenderingUnavailableError(f'{_HELP}. ' + ' · '.join(reasons))


class OffscreenRenderer:
    """One OpenGL context that renders one scene after another.

    size: (width, height). samples: RGB is averaged over that many samples a pixel, depth is not.
    Not thread safe; one process should hold one instance.

    Raises RenderingUnavailableError.
    """

    def __init__(self, size: tuple[int, int], *, shadow_size: int = 2048) -> None:
        self.width, self.height = size
        # Twice the pixels and one more: RGB is a 3x3 tent around each odd one, and the depth of
        # that one is exactly the depth at the pixel's centre.
        self._inner = (2 * self.width + 1, 2 * self.height + 1)
        self._shadow_size = shadow_size
        self._gl = _open_context(*self._inner)
        self._model: Any = None
        self._context: Any = None
        self._scene: Any = None
        self._see_through = False
        #: Of the last view, float32 (height, width), metres, 0 where there is nothing: depth as it
        #: were without anything of glass; None where the scene has none.
        self.depth_behind_glass: np.ndarray | None = None

    def close(self) -> None:
        """Free what the graphics driver holds."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
        if self._gl is not None:
            self._gl.free()
        self._gl = self._context = None

    def load(self, scene: Scene) -> None:
        """Upload a scene; it stays until the next one."""
        import mujoco

        spec = _specification(scene, self._inner, self._shadow_size)
        model = spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        self._gl.make_current()
        if self._context is not None:
            self._context.free()
        self._model, self._see_through = model, scene.see_through
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 10)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, mujoco.MjvCamera(),
                               mujoco.mjtCatBit.mjCAT_ALL, self._scene)  # fmt: skip
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = scene.reflective_floor is not None
        flags[mujoco.mjtRndFlag.mjRND_FOG] = scene.fog is not None
        flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = True

    def depth_preview(self, pose: CameraPose, intrinsics: np.ndarray) -> np.ndarray:
        """Render depth alone at a sixteenth of the size, float32 (height // 16, width // 16)."""
        width, height = max(self.width // 16, 8), max(self.height // 16, 8)
        small = intrinsics.copy()
        small[0] *= width / self.width
        small[1] *= height / self.height
        self._aim(pose, small, width, height, (0.0, 0.0))
        return self._draw_depth(width, height)

    def render(self, pose: CameraPose, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Render one view.

        intrinsics: (3, 3), pixels; pixel centres are at whole numbers.
        Returns float32 (H, W, 3) RGB in [0, 1] and float32 (H, W) metres along the optical axis,
        0 where there is nothing.
        """
        rgb, depth = self._render(pose, intrinsics)
        fine = rgb.astype(np.float32) / 255
        rows = fine[0:-2:2] + 2 * fine[1:-1:2] + fine[2::2]
        rgb = (rows[:, 0:-2:2] + 2 * rows[:, 1:-1:2] + rows[:, 2::2]) / 16
        return rgb, depth

    def render_centres(
        self, pose: CameraPose, intrinsics: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Render one view as `render` does, but take the colours at the pixels' centres, uint8."""
        rgb, depth = self._render(pose, intrinsics)
        return rgb[_CENTRES], depth

    def _render(self, pose, intrinsics) -> tuple[np.ndarray, np.ndarray]:
        """RGB of twice the size and one more; depth at the pixels' centres."""
        self._aim(pose, intrinsics, self.width, self.height, (0.25, 0.25))
        rgb, depth = self._draw(*self._inner)
        self.depth_behind_glass = None
        if self._see_through:
            # Glass is blended over what is behind it and leaves that one's depth.
            self.depth_behind_glass = np.ascontiguousarray(depth[_CENTRES])
            depth = self._draw_depth(*self._inner)
        return rgb, np.ascontiguousarray(depth[_CENTRES])

    def _draw_depth(self, width: int, height: int) -> np.ndarray:
        import mujoco

        flags = self._scene.flags.copy()
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = True
        try:
            return self._draw(width, height)[1]
        finally:
            self._scene.flags[:] = flags

    def _aim(self, pose, intrinsics, width, height, margin) -> None:
        """Set the frustum; margin: what the image is larger than (width, height), in pixels."""
        fx, fy = intrinsics[0, 0], intrinsics[1, 1]
        cx, cy = intrinsics[0, 2], intrinsics[1, 2]
        # The image's border runs half a pixel outside the outermost centres.
        left, right = -0.5 - margin[0] - cx, width - 0.5 + margin[0] - cx
        top, bottom = cy + 0.5 + margin[1], cy + 0.5 - height - margin[1]
        for camera in self._scene.camera:
            camera.pos[:] = pose.eye
            camera.forward[:] = pose.forward
            camera.up[:] = pose.up
            camera.orthographic = 0
            camera.frustum_near, camera.frustum_far = NEAR, FAR
            camera.frustum_center = (left + right) / 2 / fx * NEAR
            camera.frustum_width = (right - left) / 2 / fx * NEAR
            camera.frustum_top, camera.frustum_bottom = top / fy * NEAR, bottom / fy * NEAR

    def _draw(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        import mujoco

        self._gl.make_current()
        rect = mujoco.MjrRect(0, 0, width, height)
        rgb = np.empty((height, width, 3), np.uint8)
        inverse = np.empty((height, width), np.float32)
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, inverse, rect, self._context)
        # Reversed depth buffer: 1 at the near plane, 0 at the far one, linear in 1 / depth.
        near, far = np.float64(NEAR), np.float64(FAR)
        metres = near * far / (near + inverse[::-1].astype(np.float64) * (far - near))
        metres[metres > FARTHEST] = 0
        return rgb[::-1], metres.astype(np.float32)


def _specification(scene: Scene, size: tuple[int, int], shadow_size: int) -> Any:
    import mujoco

    spec = mujoco.MjSpec()
    spec.stat.extent, spec.stat.center = 1.0, (0.0, 0.0, 0.0)
    visual = spec.visual
    getattr(visual, 'global').offwidth, getattr(visual, 'global').offheight = size
    visual.quality.offsamples = 0
    visual.quality.shadowsize = shadow_size
    visual.map.znear, visual.map.zfar = NEAR, FAR
    visual.map.shadowclip, visual.map.shadowscale = 12.0, 0.9
    visual.headlight.ambient = [scene.ambient] * 3
    visual.headlight.diffuse = [0.08] * 3
    visual.headlight.specular = [0.0] * 3
    if scene.fog is not None:
        visual.map.fogstart, visual.map.fogend = scene.fog
        visual.rgba.fog = [*(scene.sky.mean(axis=(0, 1)) / 255), 1.0]

    _texture(spec, 'sky', scene.sky, mujoco.mjtTexture.mjTEXTURE_SKYBOX)
    for index, (material, mesh) in enumerate(scene.surfaces):
        name = f's{index}'
        _material(spec, name, material)
        made = spec.add_mesh(name=name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
        made.uservert = mesh.vertices.astype(np.float32).ravel()
        made.usernormal = mesh.normals.astype(np.float32).ravel()
        uv = mesh.uv / np.asarray(material.repeat)
        made.usertexcoord = uv.astype(np.float32).ravel()
        made.userface = mesh.faces.astype(np.int32).ravel()
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=name, contype=0, conaffinity=0
        )
    if scene.reflective_floor is not None:
        material, half, height, share = scene.reflective_floor
        floor = _material(spec, 'floor', material)
        floor.reflectance = share
        floor.texuniform = True
        floor.texrepeat = [1 / material.repeat[0], 1 / material.repeat[1]]
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_PLANE, size=[*half, 1.0],
            pos=[half[0] - 6, half[1] - 6, height],
            material='floor', contype=0, conaffinity=0,
        )  # fmt: skip
    kinds = {
        'directional': mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        'spot': mujoco.mjtLightType.mjLIGHT_SPOT,
        'point': mujoco.mjtLightType.mjLIGHT_POINT,
    }
    for light in scene.lights:
        spec.worldbody.add_light(
            type=kinds[light.kind], pos=light.position, dir=light.direction,
            diffuse=light.colour, specular=0.5 * light.colour, ambient=[0, 0, 0],
            cutoff=light.cutoff, exponent=1.0, castshadow=light.shadow,
        )  # fmt: skip
    return spec


def _material(spec: Any, name: str, material: Any) -> Any:
    import mujoco

    _texture(spec, name, material.texture, mujoco.mjtTexture.mjTEXTURE_2D)
    made = spec.add_material(
        name=name, specular=material.specular, shininess=material.shininess,
        emission=material.emission, rgba=[*material.tint, material.opacity],
    )  # fmt: skip
    made.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return made


def _texture(spec: Any, name: str, image: np.ndarray, kind: Any) -> None:
    made = spec.add_texture(name=name, type=kind)
    made.height, made.width, made.nchannel = image.shape[0], image.shape[1], 3
    made.data = np.ascontiguousarray(image[::-1]).tobytes()
