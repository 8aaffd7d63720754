"""Videos like those of the Sensorium 2023 competition, made from a random generator.

In go (rng, frames, height, width, frame_rate_hz); out comes a clip [time height width] of grey
levels 0..255 as uint8. `movie` stands for the natural movies, the others for the five kinds that
are out of their domain. Lengths and sizes are in pixels or in parts of the height, so that
any size works. Directions of motion are in degrees counter-clockwise from rightward.
"""

import numpy as np

from sensojax.stimuli import textures
from sensojax.types import STIMULUS_KINDS

OUT_OF_DOMAIN = STIMULUS_KINDS[1:]  # each of them is a function here, as `movie` is
RATE_HZ = 30.0
MID = 127.5


def movie(
    rng: np.random.Generator,
    frames: int,
    height: int,
    width: int,
    frame_rate_hz: float = RATE_HZ,
    *,
    scene_seconds: float = 3.0,
    pan_heights_per_second: float = 0.35,
    flicker: float = 0.1,
    objects: int = 6,
) -> np.ndarray:
    """A naturalistic movie: scenes with cuts, panning 1/f textures, objects that move over them.

    scene_seconds: mean length of a scene (at least half a second). pan_heights_per_second: typical
    speed of the camera. flicker: share of the signal that is 1/f noise in space and time rather
    than a moving picture. objects: at most so many textured ellipses in a scene.
    """
    clip = np.empty((frames, height, width), np.uint8)
    start = 0
    while start < frames:
        length = round(frame_rate_hz * (0.5 + rng.exponential(scene_seconds - 0.5)))
        # The last scene also takes a rest too short to be one.
        if frames - (start + length) < frame_rate_hz / 2:
            length = frames - start
        speed = pan_heights_per_second * height / frame_rate_hz
        scene = _scene(rng, length, height, width, speed, rng.integers(0, objects + 1))
        evolving = textures.pink_video(rng, length, height, width, speed=0.3)
        scene = np.sqrt(1 - flicker) * scene + np.sqrt(flicker) * evolving
        contrast, brightness = np.exp(0.25 * rng.standard_normal()), 0.3 * rng.standard_normal()
        clip[start : start + length] = textures.to_levels(scene, contrast, brightness)
        start += length
    return clip


def image(rng: np.random.Generator, height: int, width: int, *, objects: int = 6) -> np.ndarray:
    """A naturalistic image, [height width]: what `movie` shows in one moment of a scene."""
    scene = _scene(rng, 1, height, width, 0.0, rng.integers(0, objects + 1))[0]
    contrast, brightness = np.exp(0.25 * rng.standard_normal()), 0.3 * rng.standard_normal()
    return textures.to_levels(scene, contrast, brightness)


def _scene(rng, frames: int, height: int, width: int, speed: float, objects: int) -> np.ndarray:
    """One take: a panning background, objects in front; std about 1, [time height width]."""
    texture = 0.8 * textures.pink_image(rng, 2 * height, 2 * width)
    top, left = _walk(rng, frames, speed)
    scene = textures.travel(texture.astype(np.float32), top, left, height, width)
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    for _ in range(objects):
        # Things differ from each other more than within themselves: that is what edges are.
        texture = 0.5 * textures.pink_image(rng, height, height) + 1.1 * rng.standard_normal()
        radii = 0.1 * height * np.exp(rng.uniform(0, 1.4, 2))
        down, right = _walk(rng, frames, 2 * speed)
        # What leaves on one side comes back on the other.
        down = (down + rng.uniform(0, height)) % (height + 2 * radii[0]) - radii[0]
        right = (right + rng.uniform(0, width)) % (width + 2 * radii[1]) - radii[1]
        y = (rows - down.astype(np.float32)[:, None]) / np.float32(radii[0])
        x = (columns - right.astype(np.float32)[:, None]) / np.float32(radii[1])
        inside = (y**2)[:, :, None] + (x**2)[:, None, :] < 1
        # The texture moves with the object: the window's corner relative to the object.
        painted = textures.travel(texture.astype(np.float32), -down, -right, height, width)
        np.copyto(scene, painted, where=inside)
    return scene


def _walk(rng, frames: int, speed: float) -> tuple[np.ndarray, np.ndarray]:
    """A smooth path in two dimensions, from 0: drift plus a wobble, pixels."""
    heading = rng.uniform(0, 2 * np.pi)
    drift = (
        speed * np.exp(0.5 * rng.standard_normal()) * np.array([np.sin(heading), np.cos(heading)])
    )
    time = np.arange(frames)
    wobble = rng.uniform(0.01, 0.04, 2) * 2 * np.pi
    paths = [
        drift[axis] * time
        + speed / wobble[axis] * (np.sin(wobble[axis] * time + phase) - np.sin(phase))
        for axis, phase in enumerate(rng.uniform(0, 2 * np.pi, 2))
    ]
    return paths[0], paths[1]


def pink_noise(
    rng: np.random.Generator,
    frames: int,
    height: int,
    width: int,
    frame_rate_hz: float = RATE_HZ,
    *,
    segment_seconds: float = 0.9,
    heights_per_second: float = 0.6,
    contrast: float = 50.0,
) -> np.ndarray:
    """Directional pink noise: 1/f noise of one orientation drifting across it, in segments.

    Every segment draws one of 8 directions anew. contrast: standard deviation in grey levels.
    """
    speed = heights_per_second * height / frame_rate_hz
    pieces = []
    for length in _segments(frames, segment_seconds * frame_rate_hz):
        direction = 45.0 * rng.integers(8)
        texture = textures.pink_image(rng, 2 * height, 2 * width, orientation_deg=direction)
        path = speed * np.arange(length)
        # The window moves against the picture; rows count downwards.
        top, left = path * np.sin(np.radians(direction)), -path * np.cos(np.radians(direction))
        pieces.append(textures.travel(texture, top, left, height, width))
    return _levels(MID + contrast * np.concatenate(pieces))


def gaussian_dots(
    rng: np.random.Generator,
    frames: int,
    height: int,
    width: int,
    frame_rate_hz: float = RATE_HZ,
    *,
    dot_seconds: float = 0.3,
    radius_heights: tuple[float, float] = (0.11, 0.2),
) -> np.ndarray:
    """One black or white Gaussian dot on grey at a time, at a new place every `dot_seconds`.

    radius_heights: range of the radius at half amplitude, in parts of the height.
    """
    pieces = []
    y, x = np.mgrid[:height, :width]
    for length in _segments(frames, dot_seconds * frame_rate_hz):
        radius = rng.uniform(*radius_heights) * height
        center_y, center_x = rng.uniform(0, height - 1), rng.uniform(0, width - 1)
        distance2 = ((y - center_y) ** 2 + (x - center_x) ** 2) / radius**2
        sign = rng.choice([-1.0, 1.0])
        picture = MID + sign * MID * np.exp2(-distance2)
        pieces.append(np.broadcast_to(picture, (length, height, width)))
    return _levels(np.concatenate(pieces))


def random_dots(
    rng: np.random.Generator,
    frames: int,
    height: int,
    width: int,
    frame_rate_hz: float = RATE_HZ,
    *,
    segment_seconds: float = 1.0,
    heights_per_second: float = 0.8,
    coherence: tuple[float, ...] = (0.25, 0.5, 1.0),
    life_seconds: float = 0.4,
    density: float = 0.012,
    radius_heights: float = 0.035,
) -> np.ndarray:
    """Random-dot kinematogram: white dots on black, a share of them moving in one direction.

    Every segment draws one of 8 directions and a coherence; the other dots move each in a direction
    of its own. Dots reappear elsewhere after `life_seconds`. density: dots per pixel.
    """
    speed = heights_per_second * height / frame_rate_hz
    dots = max(1, round(density * height * width))
    place = rng.uniform(0, 1, (dots, 2)) * (height, width)
    clip = np.zeros((frames, height, width), np.float32)
    step = np.zeros((dots, 2))
    starts = np.cumsum([0, *_segments(frames, segment_seconds * frame_rate_hz)])
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    radius = np.float32(max(radius_heights * height, 0.7))
    for frame in range(frames):
        if frame in starts:
            angle = np.radians(45.0 * rng.integers(8))
            together = rng.uniform(size=dots) < rng.choice(coherence)
            angles = np.where(together, angle, rng.uniform(0, 2 * np.pi, dots))
            step = speed * np.stack([-np.sin(angles), np.cos(angles)], axis=1)
        reborn = rng.uniform(size=dots) < 1.0 / (life_seconds * frame_rate_hz)
        place = np.where(reborn[:, None], rng.uniform(0, 1, (dots, 2)) * (height, width), place)
        place = (place + step) % (height, width)
        across = np.exp(-0.5 * ((y - place[:, :1].astype(np.float32)) / radius) ** 2)
        along = np.exp(-0.5 * ((x - place[:, 1:].astype(np.float32)) / radius) ** 2)
        clip[frame] = across.T @ along
    return _levels(255.0 * clip)


def drifting_gabor(
    rng: np.random.Generator,
    frames: int,
    height: int,
    width: int,
    frame_rate_hz: float = RATE_HZ,
    *,
    block_frames: int = 25,
    wavelengths: tuple[float, ...] = (0.18, 0.38, 0.65),
    cycles: tuple[float, ...] = (0.512, 1.408, 3.52),
    envelope: float = 0.3,
) -> np.ndarray:
    """Gabors in the middle of the screen, a new one every block, as in baselines 4.6 of the data.

    Lengths are in half heights of the screen, cycles per block of `block_frames` at 30 Hz.
    """
    block = max(1, round(block_frames * frame_rate_hz / RATE_HZ))
    y = np.linspace(1, -1, height)[:, None]
    x = np.linspace(-width / height, width / height, width)
    window = np.exp(-(x**2 + y**2) / (2 * envelope**2))
    pieces = []
    for length in _segments(frames, block):
        direction = np.radians(45.0 * rng.integers(8))
        along = (x * np.cos(direction) + y * np.sin(direction)) / rng.choice(wavelengths)
        turn = rng.choice(cycles) * np.arange(length)[:, None, None] / block
        pieces.append(MID + MID * window * np.cos(2 * np.pi * (along - turn)))
    return _levels(np.concatenate(pieces))


def flashed_images(
    rng: np.random.Generator,
    frames: int,
    height: int,
    width: int,
    frame_rate_hz: float = RATE_HZ,
    *,
    blank_seconds: float = 0.5,
    image_seconds: float = 0.55,
) -> np.ndarray:
    """Still naturalistic pictures, each after a grey blank whose length varies by a third."""
    clip = np.full((frames, height, width), round(MID), np.uint8)
    shown = round(image_seconds * frame_rate_hz)
    frame = 0
    while frame < frames:
        frame += max(1, round(blank_seconds * frame_rate_hz * rng.uniform(0.8, 1.3)))
        picture = textures.to_levels(textures.pink_image(rng, 2 * height, 2 * width))
        clip[frame : frame + shown] = picture[:height, :width]
        frame += shown
    return clip


def _segments(frames: int, length: float) -> list[int]:
    """Lengths of consecutive segments that fill a clip; the last one may be shorter."""
    edges = np.minimum(np.round(np.arange(frames + 1) * max(length, 1.0)), frames).astype(int)
    lengths = np.diff(edges)
    return lengths[lengths > 0].tolist()


def _levels(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
