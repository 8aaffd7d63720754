"""The families of models that others publish: how each names the arrays of a model of ours.

In: a model, and how its mice are called in the file; out: the entries of all its arrays
(`entries.load` and `export` move them), which names of a file decide nothing, and the small arrays
that PyTorch wants beside the weights. A model belongs to the family that has its core.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError
from sensojax.interop import dwiseneuro, sensorium, viv1t, viv1t_constants
from sensojax.interop.entries import Entry
from sensojax.models.cores import dwiseneuro as dwiseneuro_core
from sensojax.models.cores import viv1t as viv1t2025_core
from sensojax.models.cores import viv1t2023 as viv1t2023_core
from sensojax.models.encoder import Encoder


@dataclass(frozen=True)
class Family:
    """entries: (model, {mouse: its name there}) -> its arrays; UserError for a part without names.

    deciding: names of a file -> those that decide something about a model. constants: (model, names
    of its weights, {mouse: its name there}, (height, width) of videos) -> arrays that PyTorch asks
    for beside them. mice: our mice -> {mouse: its name there}.
    """

    entries: Callable[[Encoder, Mapping[str, str]], Iterator[Entry]]
    deciding: Callable[[Iterable[str]], list[str]]
    constants: Callable[
        [Encoder, Iterable[str], Mapping[str, str], tuple[int, int]], dict[str, np.ndarray]
    ]
    mice: Callable[[Sequence[str]], dict[str, str]]


def _numbered(mice: Sequence[str]) -> dict[str, str]:
    """The numbers of readouts: the published ones for the published mice, else as they come."""
    known = {mouse: str(number) for number, mouse in enumerate(dwiseneuro.HEADS)}
    if set(mice) == set(known):
        return known
    return {mouse: str(number) for number, mouse in enumerate(mice)}


SENSORIUM = Family(
    entries=sensorium.encoder,
    deciding=sensorium.without_counters,
    constants=lambda model, names, mice, frame_size: sensorium.counters(model, names),
    mice=lambda mice: {mouse: mouse for mouse in mice},
)
DWISENEURO = Family(
    entries=lambda model, mice: dwiseneuro.encoder(model, {m: int(n) for m, n in mice.items()}),
    deciding=dwiseneuro.without_constants,
    constants=lambda model, names, mice, frame_size: dwiseneuro.constants(model.core, names),
    mice=_numbered,
)
VIV1T = Family(
    entries=viv1t.encoder,
    deciding=viv1t.without_constants,
    constants=lambda model, names, mice, frame_size: viv1t_constants.of(model, mice, frame_size),
    mice=lambda mice: {mouse: viv1t.LETTERS.get(mouse, mouse) for mouse in mice},
)


def of(model: Encoder) -> Family:
    """The family of a model; the Sensorium kits' unless its core is another one's.

    Raises UserError for a model with gains, which no published one has.
    """
    if model.gains:
        raise UserError(
            "found gains in the model, for which there are no published names; only models without "
            'them (gain.name "") can be exchanged.'
        )
    if isinstance(model.core, dwiseneuro_core.Core):
        return DWISENEURO
    if isinstance(model.core, viv1t2025_core.Core | viv1t2023_core.Core):
        return VIV1T
    return SENSORIUM


def published_mouse(page: str, name: str) -> str:
    """The mouse of Sensorium 2023 that a file with this page's models calls so, "" for none."""
    if page == "dwiseneuro":
        number = int(name)
        return dwiseneuro.HEADS[number] if number < len(dwiseneuro.HEADS) else ""
    letters = {letter: mouse for mouse, letter in viv1t.LETTERS.items()}
    return letters.get(name, "") if page.startswith("viv1t") else ""
