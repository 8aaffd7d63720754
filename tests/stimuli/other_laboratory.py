"""Stimuli as another laboratory would make them: a second generator, nothing of it from the first.

In go a random generator and a size; out come clips [time height width] of grey levels. The six
kinds follow the published descriptions (sota 4.6 to 4.8): drifting Gabors from tables of direction,
wavelength and frequency, dots from tables of place, radius and colour, images flashed between
blanks, dots that move together, oriented noise that drifts. Movies are walks over pictures made of
occluding discs and boxes, or over a photograph, with cuts, fades, still shots and black bars. What
a laboratory chooses (background, contrast, sizes, speeds, hard or soft edges) is drawn at random.
"""

import functools

import matplotlib.cbook
import matplotlib.image
import numpy as np
import scipy.ndimage

DIRECTIONS = np.arange(0, 360, 45)
WAVELENGTHS, FREQUENCIES = (0.18, 0.38, 0.65), (0.008, 0.022, 0.055)


def movie(rng, frames, height, width):
    clip = np.concatenate([_shot(rng, n, height, width) for n in _parts(rng, frames, 25, 200)])
    manner = rng.integers(5)
    if manner == 0:  # wide-screen film: black bars above and below
        bar = max(1, height // 9)
        clip[:, :bar] = clip[:, -bar:] = 0
    if manner == 1:  # fades in from black
        dark = min(frames // 4, 30)
        clip[:dark] *= np.linspace(0, 1, dark)[:, None, None] ** 2
    if manner == 2:  # film of 24 pictures a second, shown at 30
        clip = clip[(np.arange(frames) * 0.8).astype(int)]
    return clip


def _shot(rng, frames, height, width):
    """A camera that walks and zooms over a picture, or stands still before something small."""
    picture = photograph() if rng.random() < 0.3 else _leaves(rng, 220, 300)
    picture = 255 * _curve(picture, rng)
    still = rng.random() < 0.2
    speed = 0 if still else 0.004 * rng.exponential()
    angle = rng.uniform(0, 2 * np.pi)
    scale = rng.uniform(0.6, 1.8) * (1 + (0 if still else rng.normal(0, 0.002)) * np.arange(frames))
    rows, columns = picture.shape
    soft = scipy.ndimage.gaussian_filter(picture, 1.2)  # as a camera of few pixels sees it
    y, x = np.mgrid[:height, :width].astype(float)
    start = rng.uniform(0, 1, 2) * (rows, columns)
    found = np.empty((frames, height, width))
    unit = 0.4 * rows / height
    for t in range(frames):
        shift = speed * t * rows * np.array([np.sin(angle), np.cos(angle)])
        place = [
            each * scale[t] * unit + at for each, at in zip((y, x), start + shift, strict=True)
        ]
        found[t] = scipy.ndimage.map_coordinates(soft, place, order=1, mode="mirror")
        if still:
            row, column = height * (0.5 + 0.3 * np.sin(t / 9)), width * (0.5 + 0.3 * np.cos(t / 7))
            found[t][(y - row) ** 2 + (x - column) ** 2 < (0.15 * height) ** 2] = 230
    return found


@functools.cache
def photograph():
    """The one photograph that comes with matplotlib, grey, 0..1."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        picture = matplotlib.image.imread(file, format="jpg")
    return picture[::2, ::2].mean(axis=-1) / 255


def _leaves(rng, height, width, count=400):
    """Occluding discs and boxes whose sizes follow a power law, each of one grey: 0..1."""
    picture = np.full((height, width), rng.random())
    y, x = np.mgrid[:height, :width]
    size = 6.0 / np.sqrt(rng.uniform((6 / 90) ** 2, 1, count))[::1]
    for radius in size:
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        if rng.random() < 0.6:
            inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
        else:
            inside = (abs(y - row) < radius) & (abs(x - column) < radius * rng.uniform(0.3, 2))
        picture[inside] = rng.random()
    return picture + 0.03 * rng.standard_normal((height, width))


def _curve(picture, rng):
    """Another exposure: brighter or darker, harder or softer."""
    return np.clip(picture, 0, 1) ** rng.uniform(0.7, 2.0) * rng.uniform(0.6, 1.0)


def pink_noise(rng, frames, height, width):
    """Gaussian noise, oriented and drifting for a part of each period and shapeless in between."""
    mean, deviation = rng.uniform(100, 140), rng.uniform(20, 55)
    cut, sharpness = rng.uniform(0.08, 0.3), rng.uniform(5, 25)
    size = (2 * height, 2 * width)
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
    radius = np.hypot(fy, fx)
    pink = np.exp(-radius / cut) / np.maximum(radius, 1 / size[1])
    pieces = []
    for length in _parts(rng, frames, 20, 40):
        angle, speed = np.radians(rng.choice(np.arange(0, 360, 22.5))), rng.uniform(0.1, 1.0)
        along = np.abs(np.cos(np.arctan2(fy, fx) - angle))
        oriented = pink * np.exp((along - 1) * sharpness)
        phase = -2j * np.pi * speed * (fy * np.sin(angle) + fx * np.cos(angle))
        time = np.arange(length)[:, None, None]
        noise = np.fft.rfft2(rng.standard_normal(size)) * oriented
        drifting = np.fft.irfft2(noise * np.exp(phase * time), size)[:, :height, :width]
        slow = scipy.ndimage.gaussian_filter1d(rng.standard_normal((length, *size)), 3, axis=0)
        shapeless = np.fft.irfft2(np.fft.rfft2(slow) * pink, size)[:, :height, :width]
        swell = np.sin(np.pi * time / length) ** rng.uniform(0.5, 1.5)
        window = np.clip(1.5 * swell, 0, 1)
        pieces.append(
            window * drifting / drifting.std() + (1 - window) * shapeless / shapeless.std()
        )
    noise = np.concatenate(pieces)
    return mean + deviation * (noise - noise.mean()) / noise.std()


def gaussian_dots(rng, frames, height, width):
    """A table as published, [time 4]: x, y, radius, black; 9 frames for each dot."""
    length = rng.integers(6, 16)
    count = frames // length + 1
    radius = rng.uniform(0.08, 0.2) * height
    dots = np.column_stack(
        (
            rng.uniform(0, width, count),
            rng.uniform(0, height, count),
            np.full(count, radius),
            rng.integers(0, 2, count),
        )
    )
    hard, grey = rng.random() < 0.4, rng.uniform(80, 150)
    return dots_of_table(np.repeat(dots, length, axis=0)[:frames], height, width, grey, hard)


def dots_of_table(table, height, width, grey=127.0, hard=False):
    """Frames from [time 4] x, y, radius (at half height) and whether the dot is black."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot(x - table[:, 0, None, None], y - table[:, 1, None, None])
    away = away / np.maximum(table[:, 2, None, None], 0.5)
    dot = (away <= 1) if hard else np.exp2(-(away**2))
    color = np.where(table[:, 3] == 1, 0.0, 255.0)[:, None, None]
    return grey + (color - grey) * dot


def random_dots(rng, frames, height, width):
    """Discs that move together by a share, reborn at random; on black, white or grey."""
    background, *colors = [(0, 255), (255, 0), (127, 255), (127, 0, 255)][rng.integers(4)]
    radius, speed = rng.uniform(0.03, 0.06) * height, rng.uniform(0.01, 0.05) * height
    covered = rng.uniform(0.03, 0.3) * height * width
    count = max(10, int(covered / (np.pi * radius**2)))
    place = rng.uniform(0, 1, (count, 2)) * (height, width)
    color = rng.choice(colors, count)
    y, x = np.mgrid[:height, :width]
    clip = np.full((frames, height, width), float(background))
    for t in range(frames):
        if t % 30 == 0:
            angle = np.where(
                rng.random(count) < rng.uniform(0, 1),
                rng.uniform(0, 2 * np.pi),
                rng.uniform(0, 2 * np.pi, count),
            )
        place += speed * np.stack((np.sin(angle), np.cos(angle)), axis=1)
        place %= (height, width)
        reborn = rng.random(count) < 0.03
        place[reborn] = rng.uniform(0, 1, (reborn.sum(), 2)) * (height, width)
        for (row, column), grey in zip(place, color, strict=True):
            edge = np.clip(radius + 0.5 - np.hypot(y - row, x - column), 0, 1)
            clip[t] += edge * (grey - clip[t])
    return clip


def drifting_gabor(rng, frames, height, width):
    """A table as published, [time 3]: direction, wavelength, frequency; 25 frames for each."""
    count = frames // 25 + 1
    table = np.column_stack(
        (
            rng.choice(DIRECTIONS, count),
            rng.choice(WAVELENGTHS, count),
            rng.choice(FREQUENCIES, count),
        )
    )
    contrast, grey = rng.uniform(0.3, 1), rng.uniform(90, 127.5)
    middle = rng.uniform(-0.3, 0.3, 2) * rng.integers(0, 2)
    clip = gabors_of_table(np.repeat(table, 25, axis=0)[:frames], height, width, middle)
    return grey + contrast * (clip - 127.5) * grey / 127.5


def gabors_of_table(table, height, width, middle=(0.0, 0.0)):
    """Frames 0..255 from [time 3] direction, wavelength, frequency in blocks of 25 (sota 4.6)."""
    x = np.linspace(-width / height, width / height, width) - middle[0]
    y = np.linspace(-1, 1, height)[:, None] - middle[1]
    envelope = np.exp(-(x**2 + y**2) / (2 * 0.3**2))
    clip = np.empty((len(table), height, width))
    for t, (direction, wavelength, frequency) in enumerate(table):
        angle, passed = np.radians(direction), np.linspace(0, 1, 25)[t % 25]
        along = (x * np.cos(angle) - y * np.sin(angle)) / wavelength
        carrier = np.cos(2 * np.pi * (along + 64 * frequency * passed))
        clip[t] = 127.5 + 127.5 * envelope * carrier
    return clip


def flashed_images(rng, frames, height, width):
    """A table as published, [time]: the number of the image, -1 for a blank."""
    table, number = [], 0
    while len(table) < frames:
        table += [-1] * rng.integers(10, 20) + [number] * rng.integers(13, 19)
        number += 1
    pictures = [_picture(rng, height, width) for _ in range(number)]
    return images_of_table(np.array(table[:frames]), pictures, rng.choice([0, 80, 127, 255]))


def images_of_table(table, pictures, blank=127):
    """Frames from [time] numbers of pictures, -1 for a blank of this grey."""
    clip = np.full((len(table), *pictures[0].shape), float(blank))
    for t, number in enumerate(table):
        if number >= 0:
            clip[t] = pictures[number]
    return clip


def _picture(rng, height, width):
    return _shot(rng, 1, height, width)[0]


def _parts(rng, frames, least, most):
    """Lengths of parts between least and most that fill so many frames."""
    lengths = []
    while sum(lengths) < frames:
        lengths.append(int(rng.integers(least, most + 1)))
    lengths[-1] -= sum(lengths) - frames
    return lengths


def disturbed(rng, clip):
    """The same clip as it may reach us: another contrast, blurred, rounded to 8 bits, cut short."""
    contrast, sigma = rng.uniform(0.5, 1.0), rng.choice([0, 0.4, 0.7])
    middle = rng.uniform(60, 150)
    clip = middle + contrast * (clip - middle)
    clip = scipy.ndimage.gaussian_filter(clip, (0, sigma, sigma))
    start = rng.integers(0, max(len(clip) // 2, 1))
    return np.rint(np.clip(clip[start:], 0, 255)).astype(np.uint8)
