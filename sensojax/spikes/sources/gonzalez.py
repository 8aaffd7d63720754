"""Firing rates in place of spikes (Gonzalez and Giocomo, dandiset 000405).

The files hold rates in Hz on a grid of 50 Hz, made from spike counts in bins of 20 ms that were not
published themselves. The rate divided by 50 and rounded is the count; its spikes are put in the
middle of their bin, so counts can be had for 20 ms and multiples of it, and the session ends where
the rates end.
"""

from collections.abc import Iterable, Sequence

import h5py
import numpy as np

from sensojax.errors import UserError
from sensojax.spikes import trains
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.clocks import Clock
from sensojax.spikes.sources import nwb
from sensojax.spikes.sources.files import FAILURES, File, Found, one_each, reading

SUFFIX = nwb.SUFFIX
RESOLUTION_S = BIN_S
RATE_HZ = 50.0
SERIES = "acquisition/firing_rates/data"  # [time neuron]
PIECE = 1 << 16  # rows read at once


def sessions(files: Sequence[File]) -> list[Found]:
    """One session per file; the subject is the folder it lies in, the session the file's name."""
    return one_each(files)


def read(found: Found, component: str = "", columns: Iterable[str] = ()) -> trains.Trains:
    """The counts of one file as spikes; there are no columns to ask for.

    Raises NoSpikes when the file has no rates, UserError when it is damaged or a rate is none.
    """
    (file,) = found.files
    if columns := tuple(columns):
        raise UserError(
            f"found the columns {', '.join(columns)} asked of {file.where}, expected none: its "
            "neurons have no table."
        )
    with reading(file, "NWB", *FAILURES) as stream, h5py.File(stream, "r") as opened:
        rates = opened.get(SERIES)
        if rates is None:
            raise trains.NoSpikes(f"{file.where} has no {SERIES}; it is passed over.")
        num_bins, num_neurons = rates.shape
        pieces = [
            _events(rates[start : start + PIECE], start, file.where)
            for start in range(0, num_bins, PIECE)
        ]
    none = np.zeros(0, np.int64)
    bins = np.concatenate([none, *(each for each, _ in pieces)])
    neurons = np.concatenate([none, *(each for _, each in pieces)])
    order = np.argsort(neurons, kind="stable")
    return trains.of_flat(
        Clock.of_bins(BIN_S).seconds(bins[order]),
        np.searchsorted(neurons[order], np.arange(num_neurons + 1)),
        file.where,
        component=component,
        subject=found.subject,
        session=found.session,
        columns={},
        end_s=(num_bins - 0.5) * BIN_S,
        resolution_s=BIN_S,
        source=file.path,
    )


def _events(rates: np.ndarray, start: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Bin and neuron of every spike of some rows, in order of time. rates: [time neuron]."""
    if not np.isfinite(rates).all() or rates.min(initial=0) < 0:
        raise UserError(
            f"found rates that are negative or no numbers in {where} near {start / RATE_HZ:.0f} s, "
            "expected spike counts times 50; the file is damaged or was written wrongly."
        )
    counts = np.round(rates / RATE_HZ).astype(np.int64)
    bins, neurons = np.nonzero(counts)
    times = counts[bins, neurons]
    return np.repeat(bins + start, times), np.repeat(neurons, times)
