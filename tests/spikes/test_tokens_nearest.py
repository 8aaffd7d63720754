"""The nearest motif is that of exact arithmetic, and ties go to the more frequent motif."""

from fractions import Fraction

import numpy as np
import pytest

from sensojax.spikes.tokens import nearest
from sensojax.spikes.tokens.nearest import References


def by_cosine(motif, references) -> int:
    """One after the other: the first with the largest <m, r>^2 / |r|^2."""
    best, found = Fraction(0), 0
    for number, reference in enumerate(references.tolist()):
        product = sum(int(m) * r for m, r in zip(motif, reference, strict=True))
        square = sum(r * r for r in reference)
        score = Fraction(product * product, square) if square else Fraction(0)
        if score > best:
            best, found = score, number
    return found


def by_difference(motif, references) -> int:
    distances = [
        sum((int(m) - r) ** 2 for m, r in zip(motif, reference, strict=True))
        for reference in references.tolist()
    ]
    return distances.index(min(distances))


PLAIN = dict(cosine=by_cosine, euclidean=by_difference)


@pytest.mark.parametrize("distance", nearest.DISTANCES)
@pytest.mark.parametrize("largest", [2, 9, 255, 70_000, 3_000_000])
def test_the_nearest_one_is_that_of_exact_arithmetic(distance, largest, monkeypatch):
    monkeypatch.setattr(nearest, "MOTIFS_AT_ONCE", 7)
    monkeypatch.setattr(nearest, "REFERENCES_AT_ONCE", 11)
    rng = np.random.default_rng(largest)
    references = rng.integers(0, largest + 1, (40, 5)) * rng.integers(0, 2, (40, 5))
    references[:8] = references[:8].clip(0, 1)
    motifs = rng.integers(0, largest + 1, (50, 5)) * rng.integers(0, 2, (50, 5))
    motifs[:10] = references[20:30] * 2  # parallel to a reference
    found = References(references, distance).nearest(motifs)
    assert found.tolist() == [PLAIN[distance](motif, references) for motif in motifs]


def test_parallel_references_tie_and_the_first_one_wins():
    references = np.array([[1, 1, 0], [2, 2, 0], [3, 3, 0]])
    assert References(references, "cosine").nearest([[9, 9, 0]]).tolist() == [0]
    assert References(references[::-1], "cosine").nearest([[9, 9, 0]]).tolist() == [0]
    assert References(references, "euclidean").nearest([[9, 9, 0]]).tolist() == [2]


def test_scores_that_differ_less_than_rounding_are_told_apart():
    n = 3_000_000  # cosines differ in the 14th digit, float32 knows seven
    references = np.array([[n, n + 1], [n + 1, n + 2], [n + 2, n + 3]])
    assert References(references, "cosine").nearest([[1, 1]]).tolist() == [2]
    assert References(references, "cosine").nearest([[n, n + 1]]).tolist() == [0]


def test_a_motif_that_shares_no_bin_with_any_reference_gets_the_first():
    references = np.array([[0, 1, 0], [0, 0, 0], [0, 1, 1]])
    motifs = np.array([[5, 0, 0], [0, 0, 0]])
    assert References(references, "cosine").nearest(motifs).tolist() == [0, 0]
    assert References(references, "euclidean").nearest(motifs).tolist() == [1, 1]


def test_amplitude_counts_only_where_it_should():
    references = np.array([[0, 0], [1, 0], [6, 0]])
    assert References(references, "cosine").nearest([[5, 0]]).tolist() == [1]
    assert References(references, "euclidean").nearest([[5, 0]]).tolist() == [2]


def test_only_silence_in_the_vocabulary_is_the_nearest_of_all():
    for distance in nearest.DISTANCES:
        found = References(np.zeros((1, 3), int), distance).nearest([[1, 2, 3], [0, 0, 0]])
        assert found.tolist() == [0, 0]
    assert len(References(np.ones((1, 3), int), "cosine").nearest(np.empty((0, 3), int))) == 0
