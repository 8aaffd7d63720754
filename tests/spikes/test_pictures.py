"""Rasters show every spike where it is, and neurons by area."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from sensojax.errors import UserError
from sensojax.spikes import pictures
from sensojax.spikes.counts import Counts
from sensojax.spikes.pictures import Panel
from sensojax.spikes.rows import Row
from sensojax.spikes.session import CountsSession
from sensojax.tools.pile import showing


@pytest.mark.parametrize("pixels", [(100, 100), (4, 7), (1, 1), (12, 5)])
def test_every_pixel_is_the_mean_count_under_it(pixels):
    rng = np.random.default_rng(0)
    array = rng.poisson(0.5, (12, 70))
    order = rng.permutation(12)
    image = pictures.density(Counts.of_dense(array, 0.02), order, pixels)
    rows, columns = min(12, pixels[0]), min(70, pixels[1])
    assert image.shape == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            neurons = [order[i] for i in range(12) if i * rows // 12 == row]
            bins = [i for i in range(70) if i * columns // 70 == column]
            assert image[row, column] == pytest.approx(array[np.ix_(neurons, bins)].mean())


def test_neurons_are_together_with_those_of_their_area():
    groups = np.array(["VISp", "", "CA1", "VISp", "CA1"])
    order, borders = pictures.grouped(groups, 5)
    assert order.tolist() == [2, 4, 0, 3, 1]
    assert borders == [("CA1", 0, 2), ("VISp", 2, 4), ("", 4, 5)]
    for alone in (None, np.array(["CA1"] * 5)):
        order, borders = pictures.grouped(alone, 5)
        assert order.tolist() == [0, 1, 2, 3, 4] and borders == []


def test_a_picture_is_drawn_for_any_number_of_panels_and_of_silence():
    rng = np.random.default_rng(0)
    areas = np.array(["a", "b"])[np.arange(30) % 2]
    panels = [
        Panel("busy", Counts.of_dense(rng.poisson(0.2, (30, 900)), 0.02), 12.0, areas),
        Panel("silent", Counts.of_dense(np.zeros((3, 50), int), 0.02), 0.0),
        Panel("one", Counts.of_dense(np.ones((1, 1), int), 0.02), 0.0),
    ]
    for number in (1, 3):
        image = imread(io.BytesIO(pictures.png(pictures.draw(panels[:number], "made"))))
        assert image.shape[0] > 300 and image.shape[1] > 800
        assert 0.02 < (image[..., :3].mean(axis=2) < 0.6).mean() < 0.5  # ink on paper


def test_panels_of_a_row_are_equally_high():
    counts = Counts.of_dense(np.ones((3, 50), int), 0.02)
    drawn = pictures.draw([Panel("a session", counts, 0.0)] * 3, "made")
    drawn.draw_without_rendering()
    first, beside = (drawn.axes[number].get_position() for number in (1, 3))
    assert (first.y0, first.y1) == pytest.approx((beside.y0, beside.y1))
    assert first.x1 < beside.x0


def sessions() -> tuple[list, list]:
    found = []
    for number, bins in enumerate((100, 40)):
        counts = Counts.of_dense(np.arange(bins)[None] % 7, 0.02)
        found.append(CountsSession(f"s{number}", counts))
    rows = [Row(0, 0, 0, 50), Row(0, 1, 50, 100), Row(1, 0, 0, 40)]
    return found, rows


def test_rows_are_chosen_at_random_by_a_seed_or_by_name():
    found, rows = sessions()
    many = [Row(0, number, 0, 1) for number in range(50)]
    chosen = showing.some(many, 9, seed=4)
    assert chosen == showing.some(many, 9, seed=4) != showing.some(many, 9, seed=5)
    assert len(set(chosen)) == 9 and showing.some(rows, 9, 0) == rows
    assert showing.named(found, rows, ["s1", "s0:1", "s0:0"]) == [rows[2], rows[1], rows[0]]
    with pytest.raises(UserError, match="found no session 's2', expected one of the 2"):
        showing.named(found, rows, ["s2"])
    with pytest.raises(UserError, match="found no segment 2 of s0, expected 0 to 1"):
        showing.named(found, rows, ["s0:2"])


def test_a_panel_is_a_window_inside_its_row():
    found, rows = sessions()
    starts = set()
    for seed in range(40):
        panel = showing.panel(found[0], rows[1], 1, 0.02, 0.4, seed, "brain_area")
        start = round(panel.start_s / 0.02)
        assert 50 <= start <= 80 and panel.counts.num_bins == 20
        np.testing.assert_array_equal(panel.counts.dense()[0], np.arange(start, start + 20) % 7)
        starts.add(start)
    assert len(starts) > 10 and panel.title == "s0, row 2 of 2, 1 neurons"
    for seconds in (0, 99):
        panel = showing.panel(found[0], rows[1], 1, 0.02, seconds, 0, "brain_area")
        assert (panel.start_s, panel.counts.num_bins) == (1.0, 50)
