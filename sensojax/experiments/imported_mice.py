"""The mice of an imported model: their names here, and whether stores at hand are really of them.

In: what is known of the mice of a file of weights, and a folder of stores, if there is one; out:
the same with the names of stores, their fingerprints, and cortical positions, which are compared
with those that a position network keeps among its weights: other neurons, or the same in another
order, would give predictions for the wrong ones.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sensojax import build, store
from sensojax.errors import UserError, nearest
from sensojax.interop import families
from sensojax.interop.told import Architecture
from sensojax.models.encoder import Encoder
from sensojax.models.readouts import gaussian2d
from sensojax.recordings import published
from sensojax.types import Neurons

SAME_POSITION = 1e-3  # of the largest distance from the centre; published to five digits


def named(said: Mapping, given: Mapping[str, str], stores: str) -> dict:
    """What is said of a model, with the mice under their names here.

    Each mouse then has `neurons`, `fingerprint` ("" without a store), `in_file`, its name there,
    and `store`, opened, or None. given: {name in the file: name here}. A mouse whose `name` is
    known has that one, unless there are stores and none of it.
    """
    for name in given:
        if name not in said["mice"]:
            raise UserError(
                f"found --mouse {name}=..., expected one of the file's mice, "
                f"{', '.join(said['mice'])}{nearest(name, said['mice']) or '.'}"
            )
    present = store.stores_in(stores) if stores else []
    if stores and not present:
        raise UserError(f"found no stores in {stores}, expected those of the mice; check --stores.")
    mice = {}
    for in_file, about in said["mice"].items():
        name = given.get(in_file) or _published_name(about, present) or _own_name(in_file, present)
        if name in mice:
            raise UserError(f"found two mice with the name {name}, expected one; see --mouse.")
        opened = _opened(stores, name, about, present) if stores else None
        print_of = opened.fingerprint if opened else about["fingerprint"]
        neurons = len(opened.neurons) if opened else about["neurons"]
        known = dict(neurons=neurons, fingerprint=print_of, in_file=in_file, store=opened)
        mice[name] = dict(about, **known)
    config = {**said["config"], "data": {**said["config"]["data"], "mice": list(mice)}}
    said = {**said, "config": config, "mice": mice}
    if stores:
        config["data"] |= dict(folder=str(stores), recordings="stores")
        first = next(iter(mice.values()))["store"]
        said["frame_size"] = list(build.frame_size(first, config["inputs"]))
        said["behavior_columns"] = first.empty((1,))["behavior"].shape[-1]
    return said


def described(mice: Mapping[str, Mapping[str, Any]]) -> dict[str, dict]:
    """What a checkpoint says of the mice."""
    return {m: dict(neurons=v["neurons"], fingerprint=v["fingerprint"]) for m, v in mice.items()}


def of_file(found: Architecture) -> dict[str, dict]:
    """What a file of others tells of its mice, by their names there.

    Where the file's family calls mice by letters or numbers, those with the neurons of the
    published mouse have its `name`.
    """
    sessions = {session.name: session for session in published.choose(set_name="2023")}
    mice = {}
    for in_file, count in found.mice.items():
        session = sessions.get(families.published_mouse(found.page, in_file))
        mice[in_file] = dict(neurons=count, fingerprint="", spare=found.spare)
        if session and count - found.spare <= session.neurons <= count:
            mice[in_file] |= dict(neurons=session.neurons, spare=0, name=session.name)
        elif in_file.isdecimal():
            mice[in_file] |= dict(name=f"mouse{in_file}")
    return mice


def names_in_file(model: Encoder) -> dict[str, str]:
    """What the file calls the mice of a model: as its family does, in 2022 by a session's numbers.

    {mouse: name there}.
    """
    keys = {session.name: session.key for session in published.choose(set_name="2022")}
    there = families.of(model).mice(model.mice)
    return {mouse: keys.get(name, name) for mouse, name in there.items()}


def stand_in(about: Mapping) -> Neurons:
    """Neurons of the right count: their true positions come with the weights."""
    count = about["neurons"]
    return Neurons(ids=np.arange(count), position_um=np.eye(count, 3))


def check_positions(model: Encoder, said: Mapping) -> None:
    """UserError when the neurons of a store lie elsewhere in cortex than the model's neurons."""
    for mouse, about in said["mice"].items():
        network = getattr(model.readouts[mouse], "network", None)
        if about["store"] is None or network is None:
            continue
        there = gaussian2d.cortex_grid(about["store"].neurons.position_um)
        away = np.abs(there - np.asarray(network.cortex[...])).max(axis=1)
        if (away > SAME_POSITION).any():
            raise UserError(
                f"found {(away > SAME_POSITION).sum():,} of {len(away):,} neurons of mouse {mouse} "
                f"elsewhere in cortex in {about['store'].path} than in the file, expected the same "
                "neurons in the same order; give the store of that recording (--stores, --mouse)."
            )


def _published_name(about: Mapping, present: list[str]) -> str:
    """The name that a mouse is known to have, "" if it cannot have that here."""
    name = about.get("name", "")
    return name if name in present or not present else ""


def _own_name(in_file: str, present: list[str]) -> str:
    """The name of a store with the same numbers, of a published session, or the one in the file."""
    numbers = re.compile(rf"(^|\D){re.escape(in_file)}(\D|$)")
    fitting = [in_file] if in_file in present else [p for p in present if numbers.search(p)]
    if in_file.isdecimal():  # the number of a readout says nothing of a session
        return in_file
    if len(fitting) == 1:
        return fitting[0]
    known = [session.name for session in published.SESSIONS if session.key == in_file]
    return known[0] if known and not present else in_file


def _opened(stores: str, name: str, about: Mapping, present: list[str]) -> store.TrialStore:
    if name not in present:
        raise UserError(
            f"found no store of mouse {name} in {stores}, which has {', '.join(present)}; say "
            f"which of them it is with --mouse {name}=STORE."
        )
    opened = store.TrialStore.open(f"{stores}/{name}")
    most = about["neurons"]
    if not most - about.get("spare", 0) <= len(opened.neurons) <= most:
        raise UserError(
            f"found {len(opened.neurons):,} neurons in the store of mouse {name} and "
            f"{most:,} in the file, expected the same; see --mouse."
        )
    return opened
