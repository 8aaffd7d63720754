"""A new film is read as it is, whatever holds it, and never resized."""

import h5py
import numpy as np
import pytest
import scipy.io

from sensojax.errors import UserError
from sensojax.recordings import movies

HEIGHT, WIDTH = 4, 6
CLIPS = np.random.default_rng(0).integers(0, 256, (2, 5, HEIGHT, WIDTH)).astype(np.uint8)


def npy(folder, array):
    np.save(folder / "film.npy", array)
    return folder / "film.npy"


def new(folder, **arrays):
    """A .mat of version 7.3 of arrays as they are in MATLAB."""
    with h5py.File(folder / "film.mat", "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
    return folder / "film.mat"


def old(folder, **arrays):
    scipy.io.savemat(folder / "film.mat", arrays)
    return folder / "film.mat"


def matlab(clips):
    """(height, width, time, clip), or without its last axis."""
    return np.moveaxis(clips, (-2, -1), (0, 1)) if clips.ndim == 3 else clips.transpose(2, 3, 1, 0)


FLAT = CLIPS.reshape(2, 5, -1)
HOLDERS = {
    "npy, one clip": lambda folder: npy(folder, CLIPS[0]),
    "npy, clips": lambda folder: npy(folder, CLIPS),
    "npy, pixels in a row": lambda folder: npy(folder, FLAT),
    "npy, one clip in a row": lambda folder: npy(folder, FLAT[0]),
    "MATLAB 7.3, one clip": lambda folder: new(folder, film=matlab(CLIPS[0]), fps=np.ones((1, 1))),
    "MATLAB 7.3, clips": lambda folder: new(folder, film=matlab(CLIPS)),
    "MATLAB 7.3, as the competition": lambda folder: new(folder, film=FLAT.T),
    "MATLAB 5, one clip": lambda folder: old(folder, film=matlab(CLIPS[0]), fps=30.0),
    "MATLAB 5, clips": lambda folder: old(folder, film=matlab(CLIPS)),
    "MATLAB 5, as the competition": lambda folder: old(folder, film=FLAT.T),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_frames_are_those_that_were_saved(tmp_path, holder):
    found = movies.read(HOLDERS[holder](tmp_path), HEIGHT, WIDTH)
    expected = CLIPS[:1] if "one clip" in holder else CLIPS
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_levels_that_are_no_bytes_stay_what_they_are(tmp_path):
    found = movies.read(npy(tmp_path, CLIPS / 2), HEIGHT, WIDTH)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, CLIPS / np.float32(2))


def test_one_of_several_arrays_is_named(tmp_path):
    path = new(tmp_path, one=matlab(CLIPS), two=matlab(255 - CLIPS), fps=np.ones((1, 1)))
    with pytest.raises(UserError, match=r"found one, two in .*, expected one array of frames"):
        movies.read(path, HEIGHT, WIDTH)
    np.testing.assert_array_equal(movies.read(path, HEIGHT, WIDTH, "two"), 255 - CLIPS)
    with pytest.raises(UserError, match=r"array in .* 'twp', .*did you mean 'two'"):
        movies.read(path, HEIGHT, WIDTH, "twp")
    with pytest.raises(UserError, match=r"found .*fps \(1, 1\).*, expected frames of 4 x 6 pixels"):
        movies.read(path, HEIGHT, WIDTH, "fps")


def cut(folder):
    path = npy(folder, CLIPS)
    path.write_bytes(path.read_bytes()[:90])
    return path


WRONG = {
    "another size": (lambda folder: npy(folder, CLIPS[..., :5]), "nothing is resized here"),
    "turned": (
        lambda folder: npy(folder, CLIPS.swapaxes(2, 3)),
        r"\(2, 5, 6, 4\), expected frames",
    ),
    "turned for MATLAB": (
        lambda folder: new(folder, film=matlab(CLIPS.swapaxes(2, 3))),
        r"film \(2, 5, 4, 6\), expected frames of 4 x 6",
    ),
    "a single frame": (lambda folder: npy(folder, CLIPS[0, 0]), r"of shape \(4, 6\), expected"),
    "no frames": (lambda folder: npy(folder, CLIPS[:0]), "expected frames"),
    "not-a-number": (lambda folder: npy(folder, CLIPS * np.nan), "found float64 with not-a-number"),
    "text": (lambda folder: npy(folder, CLIPS.astype(str)), "expected gray levels"),
    "cut short": (cut, "film.npy cannot be read"),
    "no file": (lambda folder: folder / "film.npy", "film.npy cannot be read"),
    "an .avi": (lambda folder: folder / "film.avi", "expected an .npy, or a .mat"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_film_is_refused_in_one_sentence(tmp_path, name):
    make, sentence = WRONG[name]
    with pytest.raises(UserError, match=sentence) as refusal:
        movies.read(make(tmp_path), HEIGHT, WIDTH)
    assert "\n" not in str(refusal.value)
