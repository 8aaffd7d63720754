"""The runs of an ablation: a base config and, by name, what each of them changes of it.

In go plain settings and a page of configs/ablations; out come `Variant`s, each with a whole config.
Everything that can be wrong with them is found here, before anything runs.
"""

import copy
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from sensojax import build
from sensojax.errors import UserError, nearest
from sensojax.evaluation.runs import settings
from sensojax.experiments import transfer
from sensojax.recordings import simulated
from sensojax.types import Neurons

PAGE = "report.html"  # the last file that a run writes


@dataclass(frozen=True)
class Variant:
    """One run of an ablation: the name of its folder, its config and what that changes."""

    name: str
    config: Mapping
    changes: Mapping

    def finished(self, workdir: Path) -> bool:
        return (workdir / self.name / PAGE).exists()


def get_changes(page: str | Path, base: ConfigDict) -> dict[str, dict]:
    """The changes of a page in configs/ablations; UserError for a page that has none."""
    spec = importlib.util.spec_from_file_location("ablation", page)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_changes"):
        raise UserError(
            f"found no get_changes in {page}, expected an ablation; see configs/ablations."
        )
    return module.get_changes(base)


def of(base: Mapping, changes: Mapping[str, Mapping], seeds: Sequence[int] = ()) -> list[Variant]:
    """Every run of an ablation: all changes with the first seed, then with the next one.

    base: plain nested settings. changes: {name: {"section.setting": value}}, the first of them
    empty. seeds: () is that of the base; runs of others have folders `<name>-seed<n>`. Raises
    UserError for settings that the base does not have and for what cannot be built.
    """
    if not changes or next(iter(changes.values())):
        raise UserError(
            "found an ablation whose first change is not empty, expected the base itself, as in "
            '{"base": {}, ...}; put it first.'
        )
    made: list[Variant] = []
    for seed in seeds or (base["seed"],):
        for name, change in changes.items():
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise UserError(
                    f"found the name {name!r}, expected letters, digits and _.- only, since it "
                    "becomes a folder; rename the change."
                )
            config = changed({**base, "seed": seed}, change, name)
            own_folder = name if seed == base["seed"] else f"{name}-seed{seed}"
            for other in made:
                if other.config == config or other.name == own_folder:
                    raise UserError(
                        f"found {own_folder!r} and {other.name!r} for the same run, expected "
                        "changes that differ; leave one of them out."
                    )
            made.append(Variant(own_folder, config, change))
    for variant in made[: len(changes)]:
        _check(variant)
    return made


def changed(base: Mapping, change: Mapping, name: str) -> dict:
    """The base with some settings, given by dotted name, replaced; UserError for unknown ones."""
    config = copy.deepcopy(dict(base))
    for setting, value in change.items():
        *sections, last = setting.split(".")
        place = config
        for section in sections:
            place = place.get(section) if isinstance(place, Mapping) else None
        if not isinstance(place, Mapping) or last not in place:
            known = settings(base)
            raise UserError(
                f"found the change {setting!r} in {name!r}, expected a setting of the base config"
                f"{nearest(setting, known) or '.'}"
            )
        place[last] = value
    return config


def _check(variant: Variant) -> None:
    """UserError, before anything runs, for a config of which nothing can be built."""
    try:
        build.check(variant.config)
        config = transfer.resolved(variant.config, transfer.source(variant.config))
        build.loss(config["loss"])
        build.schedule(config["schedule"])
        build.optimizer(config)
        few = {"mouse": Neurons(np.arange(3), np.eye(3))}
        screen = simulated.Settings(**config["simulation"])  # the published one, if not simulated
        size = build.frame_size(screen, config["inputs"])
        jax.eval_shape(lambda: build.new_encoder(config, few, 2, frame_size=size))
    except UserError as error:
        raise UserError(f"{variant.name}: {error}") from error
