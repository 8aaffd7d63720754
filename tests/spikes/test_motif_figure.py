"""The picture of motifs shows every count as what it is."""

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.spikes.motifs import figure
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.motifs.table import Motifs


def motifs(*counts, frequency=1000) -> Motifs:
    cells = np.array(counts, np.uint8)
    number = np.full(len(cells), frequency)
    about = dict(patches=5_000_000, motifs=70, bin_s=0.02)
    return Motifs(Patch(2, len(cells[0]) // 2), cells, number, about)


def shown(counts) -> list[tuple[float, ...]]:
    """The colour of each cell of the first motif."""
    image = figure.draw(motifs(counts)).axes[0].get_images()[0]
    return [tuple(color) for color in image.to_rgba(image.get_array()).reshape(-1, 4)]


def test_every_count_has_its_own_colour_and_the_same_one_in_every_picture():
    white, *inked = shown([0, 1, 2, 3, 4, 5, 6, 8])
    assert white == (1, 1, 1, 1) and len({white, *inked}) == 8
    lightness = [sum(color[:3]) for color in (white, *inked)]
    assert lightness == sorted(lightness, reverse=True)
    assert shown([0, 2, 0, 1]) == [white, inked[1], white, inked[0]]


def test_counts_above_one_are_written_into_their_cells():
    panel, bar = figure.draw(motifs([0, 1, 2, 0, 11, 200])).axes
    assert [text.get_text() for text in panel.texts] == ["2", "11", "200"]
    places = [text.get_position() for text in panel.texts]
    assert places == [(2, 0), (1, 1), (2, 1)]
    labels = [label.get_text() for label in bar.get_xticklabels()]
    assert labels == ["0", "1", "2", "3", "4", "5", "6", "7", "8 and more"]


def test_each_motif_has_rank_frequency_and_share():
    drawn = figure.draw(motifs(*np.eye(5, 6, dtype=int), frequency=1234))
    titles = [panel.get_title(loc="left") for panel in drawn.axes if panel.get_visible()]
    assert titles[:5] == [f"{rank}.  1.23 k  (0.0247 %)" for rank in range(1, 6)]
    assert [figure._short(each) for each in (200, 2000, 999_600)] == ["200", "2.00 k", "1.00 M"]
    assert drawn.get_suptitle().startswith("The 5 most frequent of 70 motifs (2 x 3 bins of 20 ms)")


def test_the_file_is_a_picture(tmp_path):
    figure.write(tmp_path / "new" / "motifs.png", motifs([0, 1, 2, 0], [1, 0, 0, 0]))
    assert (tmp_path / "new" / "motifs.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(UserError, match="without motifs"):
        figure.draw(Motifs(Patch(1, 2), np.empty((0, 2), np.uint8), np.empty(0, int), {}))
