"""Batches of dense windows of counts, for training: a function of the seed and of the step.

In go sessions; out come `CountBatch`es, read lazily with Grain. Every example is a window of one
session: sessions are drawn as often as they have tokens, windows begin anywhere, and of a session
with more neurons than an example has room for, a random part is taken, in its order. So
`batches[k]` is the same whatever came before, and a run that was killed goes on where it stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grain
import numpy as np

from sensojax.errors import UserError
from sensojax.spikes.session import Session


@dataclass(frozen=True)
class CountBatch:
    """counts: [batch time neuron]; places past a session's neurons are zero and not valid.

    valid: [batch neuron] bool. session: [batch] int32, by number among the sessions. start: [batch]
    int64, the first bin in its session. neuron: [batch neuron] int32, which neurons of its session
    these are, -1 where none.
    """

    counts: np.ndarray
    valid: np.ndarray
    session: np.ndarray
    start: np.ndarray
    neuron: np.ndarray


class CountBatches:
    """An endless sequence of batches: `batches[k]` for any k in any order.

    bin_s: width of a bin. window_bins, num_neurons: size of an example. dtype: of the counts; one
    that does not fit is a UserError, never a smaller number. Raises UserError when no session is as
    long as a window.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        *,
        bin_s: float,
        window_bins: int,
        num_neurons: int,
        batch_size: int,
        seed: int,
        dtype: str = "uint8",
    ):
        self.sessions, self.bin_s, self.dtype = list(sessions), bin_s, np.dtype(dtype)
        self.window_bins, self.num_neurons = window_bins, num_neurons
        self._starts = np.array([each.num_bins(bin_s) - window_bins + 1 for each in sessions])
        neurons = np.array([each.num_neurons for each in sessions])
        tokens = np.maximum(self._starts, 0) * neurons
        if not tokens.any():
            raise UserError(
                f"found no session of {len(sessions)} with {window_bins} bins of {bin_s} s, "
                "expected at least one; take shorter windows."
            )
        self._shares = np.cumsum(tokens) / tokens.sum()
        examples = grain.MapDataset.range(batch_size).repeat().random_map(self._draw, seed=seed)
        self._batches = examples.batch(batch_size, drop_remainder=True, batch_fn=self._read)

    def __getitem__(self, step: int) -> CountBatch:
        """The batch of one step, read now."""
        return self._batches[step]

    def iterate(
        self, start_step: int, stop_step: int, *, num_threads: int = 2, prefetch_steps: int = 2
    ) -> Iterator[tuple[int, CountBatch]]:
        """Yields (k, batches[k]) from start_step to stop_step - 1; threads read ahead."""
        options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch_steps)
        reader = iter(self._batches[start_step:stop_step].to_iter_dataset(options))
        try:
            yield from zip(range(start_step, stop_step), reader, strict=True)
        finally:
            reader.close()

    def _draw(self, _: int, rng: np.random.Generator) -> tuple[int, int, np.ndarray]:
        """Session, first bin and neurons of one example; nothing is read."""
        session = int(np.searchsorted(self._shares, rng.random(), "right"))
        start = int(rng.integers(self._starts[session]))
        total = self.sessions[session].num_neurons
        if total <= self.num_neurons:
            return session, start, np.arange(total)
        return session, start, np.sort(rng.choice(total, self.num_neurons, replace=False))

    def _read(self, drawn: Sequence[tuple[int, int, np.ndarray]]) -> CountBatch:
        """Reads the windows that were drawn."""
        counts = np.zeros((len(drawn), self.window_bins, self.num_neurons), self.dtype)
        neuron = np.full((len(drawn), self.num_neurons), -1, np.int32)
        for example, (session, start, rows) in enumerate(drawn):
            dense = self.sessions[session].counts(self.bin_s, start, start + self.window_bins)
            matrix = dense.dense()[rows]
            largest = int(matrix.max(initial=0))
            if largest > np.iinfo(self.dtype).max:
                raise UserError(
                    f"found {largest} spikes in one bin of {self.sessions[session].name}, expected "
                    f"at most {np.iinfo(self.dtype).max} in {self.dtype}; choose a wider dtype."
                )
            counts[example, :, : len(rows)] = matrix.T
            neuron[example, : len(rows)] = rows
        return CountBatch(
            counts=counts,
            valid=neuron >= 0,
            session=np.array([session for session, _, _ in drawn], np.int32),
            start=np.array([start for _, start, _ in drawn], np.int64),
            neuron=neuron,
        )
