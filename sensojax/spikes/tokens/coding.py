"""Spike counts written in the tokens of a vocabulary, and read back.

In go counts of one row (a chunk or a session); out comes a matrix of tokens, one for each patch,
and `decode` makes counts of it again. A motif that the vocabulary does not hold gets the nearest
one (`nearest.DISTANCES`), or is written out beside the tokens (`escape`): then nothing is lost.
Motifs that no table ever listed are treated in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs import runs
from sensojax.spikes.sorting import order_of
from sensojax.spikes.tokens.fidelity import Fidelity
from sensojax.spikes.tokens.nearest import DISTANCES, References
from sensojax.spikes.tokens.vocabulary import Vocabulary

ESCAPE = "escape"
RESTS = (*DISTANCES, ESCAPE)  # what becomes of a motif that is not in the vocabulary
REMEMBERED = 2_000_000  # nearest motifs of one layout; more, and they are found anew


@dataclass(frozen=True)
class Encoded:
    """One row in tokens.

    tokens: [slice group], time first, as patches are numbered. escaped: counts of the patches that
    have the escape token, in the order of `tokens.ravel()`, [escape cell]. num_neurons, num_bins,
    bin_s: of the counts.
    """

    tokens: np.ndarray
    escaped: np.ndarray
    num_neurons: int
    num_bins: int
    bin_s: float

    def part(self, start: int, stop: int, vocabulary: Vocabulary) -> "Encoded":
        """Slices start..stop of time."""
        escapes = (self.tokens == vocabulary.escape).sum(axis=1)
        first, last = (int(escapes[:slices].sum()) for slices in (start, stop))
        begin, end = (min(each * vocabulary.patch.bins, self.num_bins) for each in (start, stop))
        tokens, escaped = self.tokens[start:stop], self.escaped[first:last]
        return Encoded(tokens, escaped, self.num_neurons, end - begin, self.bin_s)


def joined(parts: Sequence[Encoded]) -> Encoded:
    """One row of stretches of time that follow each other; all but the last are whole slices."""
    tokens = np.concatenate([part.tokens for part in parts])
    escaped = np.concatenate([part.escaped for part in parts])
    num_bins = sum(part.num_bins for part in parts)
    return Encoded(tokens, escaped, parts[0].num_neurons, num_bins, parts[0].bin_s)


class Encoder:
    """Writes counts in the tokens of a vocabulary; remembers the nearest motifs it looked for."""

    def __init__(self, vocabulary: Vocabulary, rest: str = "cosine"):
        """rest: one of RESTS."""
        check_name(rest, RESTS, "rest")
        self.vocabulary, self.patch = vocabulary, vocabulary.patch
        self._references = None if rest == ESCAPE else References(vocabulary.motifs, rest)
        levels = self.patch.layout_of(vocabulary.motifs)
        self._listed = [
            _Lookup.of(layout.pack(vocabulary.motifs[levels == i]), np.flatnonzero(levels == i))
            for i, layout in enumerate(self.patch.layouts)
        ]
        self._found = [_Lookup.of(each.keys[:0], each.tokens[:0]) for each in self._listed]
        self._silence = int(self.tokens_of(np.zeros((1, self.patch.cells), np.uint8))[0])

    def encode(self, counts: Counts) -> tuple[Encoded, Fidelity]:
        """The tokens of a row, and how faithful they are; UserError for another width of bins."""
        _check_width(counts.bin_s, self.vocabulary)
        groups, slices = self.patch.grid(counts.num_neurons, counts.num_bins)
        tokens = np.full(groups * slices, self._silence, self.vocabulary.dtype)
        written, fidelity = [], Fidelity()
        for level, found in enumerate(self.patch.find(counts)):
            layout = self.patch.layouts[level]
            keys, place, starts = runs.ordered(found.keys, found.place, layout)
            times = np.diff(np.r_[starts, len(keys)])
            motifs = layout.unpack(keys[starts])
            token = self._tokens(level, keys[starts])
            tokens[place] = np.repeat(token, times)
            fidelity += Fidelity.of(motifs, self.read_as(token, motifs), times)
            away = np.repeat(token == self.vocabulary.escape, times)
            written.append((place[away], layout.unpack(keys[away])))
        silent = tokens.size - fidelity.patches
        silence = np.zeros((1, self.patch.cells), np.uint8)
        read = self.read_as(np.array([self._silence]), silence)
        fidelity += Fidelity.of(silence, read, np.array([silent]))
        escaped = _in_order(tokens == self.vocabulary.escape, written, self.patch.cells)
        tokens = tokens.reshape(slices, groups)
        sizes = (counts.num_neurons, counts.num_bins, counts.bin_s)
        return Encoded(tokens, escaped, *sizes), fidelity

    def tokens_of(self, motifs: np.ndarray) -> np.ndarray:
        """The token of each motif, [motif cell] -> [motif]."""
        tokens = np.empty(len(motifs), np.int64)
        levels = self.patch.layout_of(motifs)
        for level, layout in enumerate(self.patch.layouts):
            chosen = levels == level
            tokens[chosen] = self._tokens(level, layout.pack(motifs[chosen]))
        return tokens

    def read_as(self, tokens: np.ndarray, motifs: np.ndarray) -> np.ndarray:
        """What comes back for motifs, [motif cell], that were given these tokens, [motif]."""
        escaped = tokens == self.vocabulary.escape
        read = self.vocabulary.motifs[np.where(escaped, 0, tokens)]
        return np.where(escaped[:, None], motifs, read)

    def _tokens(self, level: int, keys: np.ndarray) -> np.ndarray:
        """The tokens of keys of one layout; a motif should not be there twice."""
        tokens = self._listed[level].find(keys)
        if self._references is None:
            return np.where(tokens < 0, self.vocabulary.escape, tokens)
        unlisted = np.flatnonzero(tokens < 0)
        tokens[unlisted] = self._found[level].find(keys[unlisted])
        unknown = unlisted[tokens[unlisted] < 0]
        if len(unknown):
            layout = self.patch.layouts[level]
            tokens[unknown] = self._references.nearest(layout.unpack(keys[unknown]))
            self._found[level] = self._found[level].with_more(keys[unknown], tokens[unknown])
        return tokens


def decode(encoded: Encoded, vocabulary: Vocabulary) -> Counts:
    """The counts of a row of tokens; what a nearest motif puts into the padding is dropped.

    Raises UserError for tokens that are not of this vocabulary.
    """
    _check_width(encoded.bin_s, vocabulary)
    patch = vocabulary.patch
    groups, slices = patch.grid(encoded.num_neurons, encoded.num_bins)
    tokens = encoded.tokens.ravel().astype(np.int64)
    largest = int(tokens.max(initial=0))
    num_escaped = int((tokens == vocabulary.escape).sum())
    if encoded.tokens.shape != (slices, groups) or largest > vocabulary.escape:
        raise UserError(
            f"found tokens {encoded.tokens.shape} up to {largest}, expected {(slices, groups)} up "
            f"to {vocabulary.escape}; decode with the vocabulary that they were written in."
        )
    if encoded.escaped.shape != (num_escaped, patch.cells):
        raise UserError(
            f"found {len(encoded.escaped)} patches beside the tokens, expected {num_escaped}; "
            "decode with the vocabulary that they were written in."
        )
    # The escaped patches are motifs of their own behind the listed ones.
    motifs = np.concatenate([vocabulary.motifs, encoded.escaped])
    tokens[tokens == vocabulary.escape] += np.arange(num_escaped)
    place = np.flatnonzero(motifs.any(axis=1)[tokens])
    place, cell, count = _events(motifs, tokens[place], place)
    neuron = place % groups * patch.neurons + cell // patch.bins
    bins = place // groups * patch.bins + cell % patch.bins
    inside = np.flatnonzero((neuron < encoded.num_neurons) & (bins < encoded.num_bins))
    inside = inside[order_of(neuron[inside] * np.int64(encoded.num_bins) + bins[inside])]
    sizes = (encoded.num_neurons, encoded.num_bins, encoded.bin_s)
    return Counts(neuron[inside].astype(np.int32), bins[inside], count[inside], *sizes)


def _events(motifs, tokens, place) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place, cell and count of every bin with spikes, of patches with these motifs and places."""
    motif, cells = np.nonzero(motifs)
    sizes = np.bincount(motif, minlength=len(motifs))
    lengths = sizes[tokens]
    firsts = (np.cumsum(sizes) - sizes)[tokens]
    event = np.arange(lengths.sum()) + np.repeat(firsts - (np.cumsum(lengths) - lengths), lengths)
    counts = motifs[motif, cells].astype(np.int64)
    return np.repeat(place, lengths), cells[event], counts[event]


def _in_order(escaped: np.ndarray, written, cells: int) -> np.ndarray:
    """The patches that stand beside the tokens, by place; those not written are silent."""
    places = np.flatnonzero(escaped)
    motifs = np.zeros((len(places), cells), np.uint32)
    for place, found in written:
        motifs[np.searchsorted(places, place)] = found
    return motifs


def _check_width(bin_s: float, vocabulary: Vocabulary) -> None:
    if bin_s != vocabulary.bin_s:
        raise UserError(
            f"found counts in bins of {bin_s} s, expected {vocabulary.bin_s} s as in the "
            "vocabulary; count the motifs at this width."
        )


@dataclass(frozen=True)
class _Lookup:
    """Keys in order and the token of each."""

    keys: np.ndarray
    tokens: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, tokens: np.ndarray) -> "_Lookup":
        order = np.argsort(keys)
        return cls(keys[order], tokens[order].astype(np.int64))

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The tokens of these keys, -1 for those that are not here."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        near = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[near] == keys, self.tokens[near], -1)

    def with_more(self, keys: np.ndarray, tokens: np.ndarray) -> "_Lookup":
        if len(self.keys) + len(keys) > REMEMBERED:
            return _Lookup.of(keys, tokens)
        both = (np.concatenate(each) for each in ((self.keys, keys), (self.tokens, tokens)))
        return _Lookup.of(*both)
