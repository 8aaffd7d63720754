"""Less of a recording: some of a mouse's neurons, some of its training trials.

A store goes in; out comes a `NeuronSubset`, which is read like the store itself, or the rows of
some of its trials. What is chosen follows from the mouse's name and a seed alone, and is nested:
of two sizes, the smaller choice lies within the larger one.
"""

import zlib
from functools import cached_property

import numpy as np

from sensojax.errors import UserError
from sensojax.store import Statistics, TrialStore
from sensojax.types import Neurons


class NeuronSubset(TrialStore):
    """A store seen through some of its neurons; made by `of`. All else is the store's own.

    columns: [neuron] int, which of the recording's neurons these are, ascending. The fingerprint
    stays that of the recording.
    """

    columns: np.ndarray

    @classmethod
    def of(cls, store: TrialStore, columns: np.ndarray) -> "NeuronSubset":
        made = cls.open(store.path)
        made.columns = np.asarray(columns)
        return made

    def __reduce__(self):
        made = NeuronSubset.of, (TrialStore.open(self.path), self.columns)
        return *made, {"_tiers": self._tiers}

    # `.func`, because through super() these would be kept under the same names.

    @cached_property
    def neurons(self) -> Neurons:
        every = TrialStore.neurons.func(self)
        columns = {name: values[self.columns] for name, values in every.columns.items()}
        return Neurons(every.ids[self.columns], every.position_um[self.columns], columns)

    @cached_property
    def truth(self) -> dict[str, np.ndarray]:
        return {name: values[self.columns] for name, values in TrialStore.truth.func(self).items()}

    @cached_property
    def statistics(self) -> Statistics:
        every = TrialStore.statistics.func(self)
        return Statistics(self._chosen(every.official), self._chosen(every.per_neuron))

    def _chosen(self, statistics):
        found = dict(statistics)
        if "responses" in found:  # [neuron], official ones [time neuron]
            of_all = found["responses"].items()
            found["responses"] = {name: values[..., self.columns] for name, values in of_all}
        return found

    def _array(self, name):
        array = super()._array(name)
        return array.oindex[:, :, self.columns] if name in ("responses", "rates") else array


def some_neurons(store: TrialStore, at_most: int, seed: int) -> TrialStore:
    """The store with `at_most` of its neurons; 0 is all of them."""
    count = len(store.neurons)
    if not 0 < at_most < count:
        return store
    return NeuronSubset.of(store, chosen(count, at_most, store.mouse, seed))


def columns(store: TrialStore) -> np.ndarray:
    """Which of the recording's neurons a store shows, [neuron]."""
    return store.columns if isinstance(store, NeuronSubset) else np.arange(len(store.neurons))


def some_rows(store: TrialStore, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A share of these rows (more than 0, at most 1), at least one of them, in their order."""
    check_share(share)
    if share == 1:
        return rows
    return rows[chosen(len(rows), max(1, round(share * len(rows))), store.mouse, seed)]


def check_share(share: float) -> None:
    """UserError for what is no share."""
    if not 0 < share <= 1:
        raise UserError(
            f"found data.train_share {share}, expected more than 0 and at most 1; correct it."
        )


def chosen(count: int, wanted: int, mouse: str, seed: int) -> np.ndarray:
    """`wanted` of the numbers 0 .. count - 1 at random, ascending; a larger choice holds it."""
    order = np.random.default_rng([seed, zlib.crc32(mouse.encode())]).permutation(count)
    return np.sort(order[:wanted])
