"""The motif of a vocabulary that is nearest to another motif, decided in exact arithmetic.

In go motifs and references (whole numbers); out comes the number of a reference for each motif. Two
distances: `cosine`, the published one, which knows the direction of a motif but not its amplitude
(5 spikes in a bin become 1), and `euclidean`, which respects it. Of equally near references the
first one is taken, that is the more frequent one; rounding never decides.

A float32 product finds the few references that can be nearest; these are compared exactly. The
published tool compares rounded numbers, so its ties fall as they fall.
"""

from fractions import Fraction

import numpy as np

DISTANCES = ("cosine", "euclidean")
MOTIFS_AT_ONCE = 256
REFERENCES_AT_ONCE = 2048  # 2 MB of scores, which stay in a core's cache
EXACT = 2.0**52  # below it float64 holds whole numbers and tells quotients of them apart, see below


class References:
    """The references of a vocabulary, prepared for many questions: [reference cell] of counts."""

    def __init__(self, motifs: np.ndarray, distance: str):
        if distance not in DISTANCES:
            raise ValueError(f"distance {distance!r}, expected one of {', '.join(DISTANCES)}")
        self.distance = distance
        motifs = motifs.astype(np.int64)
        if distance == "cosine":
            self.number = _first_of_each_direction(motifs)
            self.motifs = motifs[self.number]
            norms = np.sqrt((self.motifs**2).sum(axis=1))
            self.scaled = (self.motifs / norms[:, None]).astype(np.float32).T.copy()
        else:
            self.number = np.arange(len(motifs))
            self.motifs = motifs
        self.squares = (self.motifs**2).sum(axis=1)

    def nearest(self, motifs: np.ndarray) -> np.ndarray:
        """The nearest reference of each motif, [motif cell] -> [motif]; the first one on a tie.

        By cosine a motif that shares no bin with any reference (silence too) gets reference 0,
        whatever that is, as published.
        """
        motifs = np.asarray(motifs).astype(np.int64)
        work = self._by_cosine if self.distance == "cosine" else self._by_difference
        steps = range(0, len(motifs), MOTIFS_AT_ONCE)
        found = [work(motifs[start : start + MOTIFS_AT_ONCE]) for start in steps]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    # --- cosine -----------------------------------------------------------------------------------

    def _by_cosine(self, motifs: np.ndarray) -> np.ndarray:
        """Largest <motif, reference> / |reference|; the motif's own norm changes nothing."""
        found = np.zeros(len(motifs), np.int64)
        row, column = self._candidates(motifs)
        if not len(row):
            return found
        product = np.einsum("pc,pc->p", motifs[row], self.motifs[column])
        square = self.squares[column]
        # The squared score is product^2 / square. Two different such quotients differ, relative to
        # one of them, by at least 1 / (its square * the other's product^2): float64 keeps them
        # apart, and equal ones equal, as long as this number stays below 2^52.
        if float(product.max()) ** 2 * float(square.max()) < EXACT:
            score = product.astype(float) ** 2 / square
            order = np.lexsort((column, -score, row))
        else:
            pairs = zip(product.tolist(), square.tolist(), strict=True)
            exact = [-Fraction(p * p, s) for p, s in pairs]
            order = np.array(sorted(range(len(row)), key=lambda i: (row[i], exact[i], column[i])))
        row, column = row[order], column[order]
        best = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
        found[row[best]] = self.number[column[best]]
        return found

    def _candidates(self, motifs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (motif, reference) whose score may be the largest of the motif, if above zero.

        All products are positive, so the relative error of a score is at most (cells + 2) roundings
        of float32, and a reference below the largest score by four times that cannot win.
        """
        rounding = (motifs.shape[1] + 2) * 2.0**-24
        slack = np.float32(1 - 4 * rounding)
        queries = motifs.astype(np.float32)
        largest = np.full(len(motifs), np.finfo(np.float32).tiny, np.float32)
        kept = [(np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))]
        for start in range(0, self.scaled.shape[1], REFERENCES_AT_ONCE):
            scores = queries @ self.scaled[:, start : start + REFERENCES_AT_ONCE]
            np.maximum(largest, scores.max(axis=1), out=largest)
            # flatnonzero: ten times as fast as nonzero on a matrix.
            row, column = np.divmod(
                np.flatnonzero(scores >= (largest * slack)[:, None]), scores.shape[1]
            )
            kept.append((row, column + start, scores[row, column]))
        row, column, score = (np.concatenate(each) for each in zip(*kept, strict=True))
        still = score >= (largest * slack)[row]
        return row[still], column[still]

    # --- euclidean --------------------------------------------------------------------------------

    def _by_difference(self, motifs: np.ndarray) -> np.ndarray:
        """Least |motif - reference|^2, as |reference|^2 - 2 <motif, reference>."""
        bound = float((motifs**2).sum(axis=1).max() + self.squares.max()) * 2
        dtype = np.float32 if bound < 2**24 else np.float64 if bound < EXACT else object
        least, found = None, np.zeros(len(motifs), np.int64)
        for start in range(0, len(self.motifs), REFERENCES_AT_ONCE):
            some = self.motifs[start : start + REFERENCES_AT_ONCE].astype(dtype)
            squares = self.squares[start : start + REFERENCES_AT_ONCE].astype(dtype)
            distance = squares - 2 * (motifs.astype(dtype) @ some.T)  # whole numbers, exact
            column = distance.argmin(axis=1)  # the first of equal ones
            here = distance[np.arange(len(motifs)), column]
            better = np.ones(len(motifs), bool) if least is None else here < least
            least = here if least is None else np.where(better, here, least)
            found[better] = column[better] + start
        return found


def _first_of_each_direction(motifs: np.ndarray) -> np.ndarray:
    """Numbers of the references that are no multiple of an earlier one, without silence."""
    spiking = np.flatnonzero(motifs.any(axis=1))
    divisor = np.gcd.reduce(motifs[spiking], axis=1)
    _, first = np.unique(motifs[spiking] // divisor[:, None], axis=0, return_index=True)
    return spiking[np.sort(first)]
