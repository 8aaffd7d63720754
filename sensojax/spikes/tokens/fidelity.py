"""What is left of spike counts after they were written as tokens, as sums that add up.

In go motifs and what stands for them; out come counts of patches and spikes that are as they were,
and the errors of the rest. `Fidelity` of any parts of the data can be added.
"""

from dataclasses import asdict, dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Fidelity:
    """Sums over patches, padding included.

    lossless: patches that come back as they were, and their spikes. lost and added: spikes of the
    other patches that are missing afterwards, and that were not there before. squared_error: of
    the counts of all bins. silenced: patches with spikes that come back without.
    """

    patches: int = 0
    spikes: int = 0
    lossless: int = 0
    lossless_spikes: int = 0
    lost: int = 0
    added: int = 0
    squared_error: int = 0
    silenced: int = 0

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, times: np.ndarray) -> "Fidelity":
        """Of motifs [motif cell] that are replaced by others, each met so many times, [motif]."""
        before, after = before.astype(np.int64), after.astype(np.int64)
        spikes = before.sum(axis=1)
        same = (before == after).all(axis=1)
        change = after - before
        silenced = (spikes > 0) & ~after.any(axis=1)
        return cls(
            patches=int(times.sum()),
            spikes=int(spikes @ times),
            lossless=int(times[same].sum()),
            lossless_spikes=int(spikes[same] @ times[same]),
            lost=int(np.maximum(-change, 0).sum(axis=1) @ times),
            added=int(np.maximum(change, 0).sum(axis=1) @ times),
            squared_error=int((change**2).sum(axis=1) @ times),
            silenced=int(times[silenced].sum()),
        )

    def __add__(self, other: "Fidelity") -> "Fidelity":
        names = [field.name for field in fields(self)]
        return Fidelity(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def plain(self) -> dict[str, int]:
        return asdict(self)

    def __str__(self) -> str:
        changed = self.patches - self.lossless
        said = (
            f"{_share(self.lossless, self.patches)} of {self.patches:,} tokens and "
            f"{_share(self.lossless_spikes, self.spikes)} of {self.spikes:,} spikes are lossless"
        )
        if not changed:
            return said
        return (
            f"{said}; the other {changed:,} patches lose {_share(self.lost, self.spikes)} of all "
            f"spikes and add {_share(self.added, self.spikes)} (squared error "
            f"{self.squared_error / changed:.2f} per patch, {self.silenced:,} silenced)"
        )


def _share(part: int, whole: int) -> str:
    return f"{part / whole * 100:.4g} %" if whole else "none"
