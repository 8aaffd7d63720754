import numpy as np

from sensojax.stimuli import textures


def test_displaced_video_is_the_video_of_moved_fields():
    rng = np.random.default_rng(0)
    video = rng.standard_normal((6, 9, 11)).astype(np.float32)
    right, down = np.array([0, 2, -3, 0, 1.5, 40]), np.array([0, -1, 0, 4, -0.25, 3])
    seen = textures.displace(video, right, down)
    np.testing.assert_array_equal(seen[0], video[0])
    np.testing.assert_array_equal(seen[1][1:, :-2], video[1][:-1, 2:])
    np.testing.assert_array_equal(seen[2][:, 3:], video[2][:, :-3])
    np.testing.assert_array_equal(seen[3][:5], video[3][4:])
    assert not seen[1][0].any() and not seen[2][:, :3].any() and not seen[5].any()
    expected = (video[4][:, 1:] + video[4][:, :-1]) / 2
    expected = 0.25 * expected[:-1] + 0.75 * expected[1:]
    np.testing.assert_allclose(seen[4][1:, 1:-2], expected[:, 2:], atol=1e-6)


def test_travelling_window_wraps_around_the_texture():
    texture = np.arange(20, dtype=np.float32).reshape(4, 5)
    view = textures.travel(texture, np.array([3.0, -1.0]), np.array([4.0, 0.5]), 2, 2)
    np.testing.assert_array_equal(view[0], [[19, 15], [4, 0]])
    np.testing.assert_array_equal(view[1], [[15.5, 16.5], [0.5, 1.5]])


def test_pink_image_amplitude_falls_as_one_over_frequency():
    images = np.stack([textures.pink_image(np.random.default_rng(i), 64, 64) for i in range(30)])
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=0)
    frequency = np.fft.fftfreq(64)
    radius = np.hypot(*np.meshgrid(frequency, frequency))
    chosen = (radius > 0.03) & (radius < 0.4)
    slope = np.polyfit(np.log(radius[chosen]), np.log(power[chosen]), 1)[0]
    assert abs(slope + 2) < 0.1
    assert abs(images.mean()) < 1e-4 and abs(images.std() - 1) < 0.01


def test_oriented_texture_varies_along_its_wave_vector():
    for orientation in (0.0, 60.0, 120.0):
        image = textures.pink_image(
            *(np.random.default_rng(0), 48, 48), orientation_deg=orientation, bandwidth_deg=10.0
        )
        power = np.abs(np.fft.fft2(image)) ** 2
        rows, columns = np.meshgrid(np.fft.fftfreq(48), np.fft.fftfreq(48), indexing="ij")
        angle = np.arctan2(-rows, columns)
        mean = np.angle(np.sum(power * np.exp(2j * angle))) / 2
        assert abs((np.degrees(mean) - orientation + 90) % 180 - 90) < 8


def test_pink_video_is_smoother_in_time_when_slower():
    fast, slow = (
        textures.pink_video(np.random.default_rng(0), 60, 16, 16, speed) for speed in (4.0, 0.5)
    )
    change = [np.abs(np.diff(video, axis=0)).mean() for video in (fast, slow)]
    assert change[1] < 0.7 * change[0]
