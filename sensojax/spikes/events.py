"""A session that is kept as events: counts at any bin width, and the spike times themselves.

In goes a folder that `event_writing.write` made; out come counts of any window of time, for which
only the blocks it touches are read, by the published binning rule bit for bit.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import tensorstore as ts

from sensojax import zarrs
from sensojax.errors import UserError
from sensojax.spikes import binning, blocks, layout
from sensojax.spikes.blocks import Block, BlockCounts
from sensojax.spikes.clocks import Clock
from sensojax.spikes.counts import Counts, check_window
from sensojax.spikes.session import Session
from sensojax.spikes.trains import Trains

READ_EVENTS = 1 << 22  # held at once where a whole session is gone through


class EventStore(Session):
    """A finished event store; made by `EventStore.open`. Pickles as its path.

    name, component, subject, session; source: what it was built from. num_neurons, num_spikes.
    end_s: the last spike, or the end of the recording. rule: of `binning`. resolution_s: 0 for
    exact times. notes: what was put right. fingerprint: SHA-256 (hex) of everything.
    """

    def __init__(self, path: Path, description: dict):
        self.path = path
        for key in (*layout.ABOUT, "fingerprint", "notes"):
            setattr(self, key, description[key])
        self.num_neurons: int = description["neurons"]
        self.num_spikes: int = description["spikes"]
        self._description = description
        self._block_s: float = description["block_s"]
        self._first_block: int = description["first_block"]
        self._clocks = [Clock(*each) for each in description["clocks"]]

    @classmethod
    def open(cls, path: str | Path) -> "EventStore":
        """Opens one store; UserError when it is not there, not whole or of another format."""
        path = Path(path).resolve()
        if path.name.endswith(layout.PARTIAL) or not (path / layout.DESCRIPTION).is_file():
            raise UserError(
                f"found no finished event store at {path}; build it, or go on building it, with "
                "python scripts/pile_build.py."
            )
        try:
            description = json.loads((path / layout.DESCRIPTION).read_text())
            if description["format"] != layout.FORMAT:
                raise UserError(
                    f"the event store {path} has format {description['format']}, expected "
                    f"{layout.FORMAT}; delete the folder and build it again."
                )
            return cls(path, description)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise layout.damaged(path, error) from error

    def __reduce__(self):
        return EventStore.open, (self.path,), {"name": self.name, "component": self.component}

    def __repr__(self) -> str:
        return f"EventStore({self.name}: {self.num_neurons} neurons, {self.num_spikes} spikes)"

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What the source says of neurons, by name, [neuron]."""
        named = {name.partition("/"): column for name, column in self._neurons.items()}
        return {name: column for (kind, _, name), column in named.items() if kind == "column"}

    def num_bins(self, bin_s: float) -> int:
        self._check(bin_s)
        return binning.num_bins(self.end_s, bin_s, self.rule)

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        total = self.num_bins(bin_s)
        stop = total if stop is None else stop
        check_window(start, stop, total)
        # Half a bin more on either side: which spikes belong is decided by the rule alone.
        first = math.floor((start - 0.5) * bin_s / self._block_s) - self._first_block
        last = math.floor((stop + 0.5) * bin_s / self._block_s) - self._first_block
        first, last = np.clip([first, last + 1], 0, len(self._block_ends)).tolist()
        bins_of = self._binning(bin_s, start, stop, total)
        parts = [
            BlockCounts.of_bins(block.lengths, bins_of(block), stop - start)
            for block in self._blocks(first, max(first, last))
        ]
        return blocks.joined(parts, self.num_neurons, stop - start, bin_s)

    def trains(self) -> Trains:
        """All spike times as they were written, to the last bit."""
        found = list(self._blocks(0, len(self._block_ends)))
        lengths = np.stack([block.lengths for block in found])
        times = np.concatenate([self._times(block) for block in found])
        return Trains(
            times=times[blocks.by_neuron(lengths)],
            offsets=np.append(0, np.cumsum(lengths.sum(axis=0))),
            columns=self.columns,
            notes=tuple(self.notes),
            **{key: getattr(self, key) for key in layout.ABOUT},
        )

    def verify(self) -> None:
        """Reads everything; UserError unless it is what was written."""
        found = {name: hashlib.sha256() for name in self._description["checksums"]}
        ends = np.append(0, self._block_ends)
        start = 0
        while start < len(ends) - 1:
            stop = max(
                int(np.searchsorted(ends, ends[start] + READ_EVENTS, "right")) - 1, start + 1
            )
            for name, part in self._arrays(start, stop).items():
                found[name].update(np.ascontiguousarray(part))
            start = stop
        found["neurons"] = layout.digest_of(self._neurons)
        for name, expected in self._description["checksums"].items():
            if found[name].hexdigest() != expected:
                raise layout.damaged(self.path, f"{name} has another checksum than when written")
        if layout.fingerprint(self._description) != self.fingerprint:
            raise layout.damaged(self.path, f"{layout.DESCRIPTION} was changed")

    def _check(self, bin_s: float) -> None:
        if not bin_s > 0:
            raise UserError(f"found bins of {bin_s} s, expected a width above zero.")
        parts = bin_s / self.resolution_s if self.resolution_s else 1.0
        if abs(parts - round(parts)) > 1e-6 * parts or parts < 0.5:
            raise UserError(
                f"found bins of {bin_s} s for {self.name}, expected a multiple of "
                f"{self.resolution_s} s, since its times are not known any better."
            )

    def _binning(
        self, bin_s: float, start: int, stop: int, total: int
    ) -> Callable[[Block], np.ndarray]:
        """What puts the events of a block into the bins of a window, numbered from 0, [event]."""
        in_ticks = None
        if not self._description["residuals"] and len(self._clocks) == 1:
            in_ticks = binning.tick_bins(self._clocks[0], bin_s, start, stop, total, self.rule)
        if in_ticks is not None:
            return lambda block: in_ticks.bins_of(block.ticks)
        return lambda block: binning.bins_of(self._times(block), bin_s, total, self.rule) - start

    def _blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Blocks start..stop, read together and unpacked one by one."""
        arrays = self._arrays(start, stop)
        numbers = np.arange(start, stop) + self._first_block
        firsts = layout.first_ticks(self._clocks, numbers, self._block_s)[self._neurons["clock"]]
        ends = np.cumsum(arrays["counts"].sum(axis=1, dtype=np.int64))
        for number, lengths in enumerate(arrays["counts"]):
            events = slice(ends[number - 1] if number else 0, ends[number])
            residuals = arrays["residuals"][events] if "residuals" in arrays else None
            yield Block.of_gaps(lengths, arrays["spikes"][events], residuals, firsts[:, number])

    def _times(self, block: Block) -> np.ndarray:
        """In seconds, to the last bit, [event]."""
        residuals = None if block.residuals is None else layout.unfolded(block.residuals)
        return self._clock_of(block.neuron).times(block.ticks, residuals)

    def _clock_of(self, neuron: np.ndarray) -> Clock:
        """The clock of these neurons; of several clocks, one whose numbers are per event."""
        if len(self._clocks) == 1:
            return self._clocks[0]
        clock = self._neurons["clock"][neuron]
        rates = np.array([each.rate_hz for each in self._clocks])
        return Clock(rates[clock], np.array([each.shift_s for each in self._clocks])[clock])

    def _arrays(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """What lies on disk of blocks start..stop: counts, spikes and, where kept, residuals."""
        ends = np.append(0, self._block_ends)
        events, wanted = slice(int(ends[start]), int(ends[stop])), {"counts": slice(start, stop)}
        try:
            under_way = {
                name: array[wanted.get(name, events)].read() for name, array in self._opened.items()
            }
            found = {name: future.result() for name, future in under_way.items()}
        except ValueError as error:  # how TensorStore reports missing, cut or altered pieces
            raise layout.damaged(self.path, error) from error
        if found["counts"].sum(dtype=np.int64) != len(found["spikes"]):
            raise layout.damaged(self.path, "counts do not add up to the events")
        return found

    @cached_property
    def _opened(self) -> dict[str, ts.TensorStore]:
        names = ["counts", "spikes"] + ["residuals"] * self._description["residuals"]
        try:
            return {name: zarrs.open_array(self.path, name) for name in names}
        except ValueError as error:
            raise layout.damaged(self.path, error) from error

    @cached_property
    def _neurons(self) -> dict[str, np.ndarray]:
        try:
            with open(self.path / layout.NEURONS, "rb") as file, np.load(file) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise layout.damaged(self.path, error) from error

    @property
    def _block_ends(self) -> np.ndarray:
        """How many events there are up to the end of each block, [block] int64."""
        return self._neurons["block_ends"]
