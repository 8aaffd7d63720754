"""Gabor, dot and image features beside the published tools on the same clips.

Each golden file is read for what it holds: sizes, bank and number of clips are its own. Where
there are real data, the published tables (`ood_features/`) are drawn as videos, which must be
measured as these very tables.
"""

import re

import numpy as np
import pytest

from sensojax.stimuli import features
from tests import real_data
from tests.goldens import Golden, assert_close, golden_files

FLOAT32 = 1e-6  # the published parameters were float32, ours are decimals


def bank_of(golden: Golden) -> features.Bank:
    """The bank that a file was made with, from its list of parameters and its sentence on it."""
    axes = [dict.fromkeys(each.tolist()) for each in golden["output/template_parameters"].T]
    # Written to decimals, as they were chosen.
    axes = [tuple(float(f"{value:.6g}") for value in axis) for axis in axes]
    told = golden.config["bank"]
    return features.Bank(
        *axes,
        sigma=float(re.search(r"sigma ([\d.]+\d)", told)[1]),
        block_frames=int(re.search(r"(\d+) frames", told)[1]),
    )


@pytest.mark.parametrize("path", golden_files("analysis_gabor"))
def test_templates_are_those_of_the_published_tool(path):
    golden = Golden(path)
    bank = bank_of(golden)
    size = golden["output/template_frames"].shape[2:]
    assert_close(bank.parameters, golden["output/template_parameters"], FLOAT32)
    templates = np.stack([bank.template(i, *size) for i in range(len(bank.parameters))])
    kept = templates[golden.config["template_index_kept"]]
    frames = kept[:, golden.config["template_frames_kept"]]
    assert_close(frames, golden["output/template_frames"], FLOAT32)
    assert_close(templates.mean((1, 2, 3)), golden["output/template_mean"], FLOAT32)
    assert_close(templates.std((1, 2, 3)), golden["output/template_sd"], FLOAT32)
    frame, row, column = np.array(golden.config["sample_points_frame_row_column"]).T
    assert_close(templates[:, frame, row, column], golden["output/template_samples"], FLOAT32)


@pytest.mark.parametrize("path", golden_files("analysis_gabor"))
def test_gabors_are_matched_as_by_the_published_tool(path):
    golden = Golden(path)
    bank, clip = bank_of(golden), golden["input/clip"]
    expected = golden["output64/correlations"]
    found = features.correlations(clip, bank)
    blank = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), blank)
    assert_close(np.where(blank, 0, found), np.where(blank, 0, expected), FLOAT32)
    np.testing.assert_array_equal(
        features.gabors(clip, bank), golden["output/parameters_per_frame"]
    )


@pytest.mark.parametrize("path", golden_files("analysis_features"))
def test_dots_are_measured_as_by_the_published_tool(path):
    golden = Golden(path)
    expected = golden["output/dot_x_y_radius_black"]
    found = features.dots(golden["input/dot_clip"], two_dots="mean")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("path", golden_files("analysis_features"))
@pytest.mark.parametrize("split", features.SPLITS)
def test_images_are_numbered_as_by_the_published_tool(path, split):
    """Both ways of splitting agree where there is a blank between any two images."""
    golden = Golden(path)
    images = features.Images(split)
    clips = sum(key.startswith("input/flash_clip") for key in golden.arrays)
    assert clips
    for number in range(clips):
        found = images.identify(golden[f"input/flash_clip{number}"])
        expected = golden[f"output/flash_image_id_per_frame{number}"]
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(images.pictures, np.rint(golden["output/flash_unique_images"]))


# Published tables of real sessions ----------------------------------------------------------------


def real_tables(kind: str) -> list[np.ndarray]:
    """The tables of a kind, by the number of the trial; skips where there is no real data."""
    folder = real_data.found("sensorium2023_metadata") / "ood_features" / kind
    paths = sorted(folder.glob("*/*.npy"), key=lambda path: int(path.stem))
    assert paths, f"found no tables in {folder}"
    return [np.load(path) for path in paths]


def test_real_gabor_tables_drawn_as_videos_are_read_back():
    bank = features.Bank()
    known = {tuple(row): i for i, row in enumerate(bank.parameters.astype(np.float32).tolist())}
    seen = set()
    for table in real_tables("drifting_gabor"):
        blocks = table.reshape(-1, bank.block_frames, 3)
        assert (blocks == blocks[:, :1]).all()
        shown = [known[tuple(row)] for row in blocks[:, 0].tolist()]
        clip = np.concatenate([bank.template(number, 36, 64) for number in shown])
        np.testing.assert_array_equal(features.gabors(np.rint(clip).astype(np.uint8), bank), table)
        seen |= set(shown)
    assert len(seen) > 50  # of 72: the mouse saw most of them


def test_real_dot_tables_drawn_as_videos_are_read_back():
    """Of the passage between two dots the published tool made a mean, which no dot has."""
    rows, columns = np.mgrid[:36, :64]
    for table in real_tables("gaussian_dots"):
        whole = (2 * table[:, :2] % 1 == 0).all(
            axis=1
        )  # the middle of a dot's first and last pixel
        assert whole.mean() > 0.99
        x, y, radius, is_black = table[whole].T[:, :, None, None]
        dot = (np.abs(columns - x) <= radius) & (np.abs(rows - y) <= radius)
        clip = np.where(dot, 255 * (1 - is_black), 127)
        np.testing.assert_array_equal(features.dots(clip), table[whole])


def test_real_image_tables_drawn_as_videos_are_numbered_as_published():
    """Numbers count up over the clips of a mouse, each clip at its first repeat."""
    pictures = np.random.default_rng(0).integers(0, 256, (100, 6, 8))
    pictures[-1] = 127  # the blank
    images = {split: features.Images(split) for split in features.SPLITS}
    for table in real_tables("flashing_images"):
        for split in features.SPLITS:
            found = images[split].identify(pictures[table])
            np.testing.assert_array_equal(found, table)
