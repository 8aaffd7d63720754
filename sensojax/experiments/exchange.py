"""Models of other people as run folders, and run folders as files that other people can read.

`import_run`: in goes a file of published weights (PyTorch or .safetensors), and what it does not
say; out comes a run folder with a config and one checkpoint, which everything that takes a run
accepts. `export_run`: in goes a run folder; out comes a .safetensors file with the published names,
which can be imported again without a word, since the config travels with it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sensojax import build
from sensojax.errors import UserError
from sensojax.experiments import imported_mice
from sensojax.interop import architecture, entries, families, state_dicts
from sensojax.interop.state_dicts import StateDict
from sensojax.interop.told import File
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.training import checkpoints, folder, provenance
from sensojax.writing import plain, write_atomically

NOTES = "sensojax"  # the entry of a .safetensors file that holds what a checkpoint says of itself
SAID = ("config", "mice", "behavior_columns", "frame_size")
BEHAVIOR_COLUMNS = {"images": 3}  # of the published recordings, 2 in all others
FRAME_SIZE = (36, 64)  # likewise, as the models see them


@dataclass(frozen=True)
class Imported:
    """A model made of a file.

    about: what its checkpoint says of it. assumed: {"section.setting": value} that the weights do
    not tell, and that all published models share. unused: arrays that were left out.
    """

    model: Encoder
    about: Mapping[str, Any]
    assumed: Mapping[str, Any]
    unused: Sequence[str]


def import_run(path: str | Path, out: str | Path, pages: Mapping, **how) -> Imported:
    """Makes the run folder `out` of a file of weights; the arguments are those of `read_model`.

    Raises UserError, before anything is written, when there is such a folder already.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"found {out} already, expected a new folder; give another --out.")
    made = read_model(path, pages, **how)
    _write(out, made)
    return made


def read_model(
    path: str | Path,
    pages: Mapping[str, Mapping],
    *,
    changes: Mapping[str, Any] | None = None,
    mice: Mapping[str, str] | None = None,
    stores: str = "",
    frame_size: tuple[int, int] = FRAME_SIZE,
    leave_out: Sequence[str] = (),
    part: str = "",
) -> Imported:
    """The model of a file of weights.

    pages: {name: config} for `told.Architecture.page`, which say what weights do not decide.
    changes: {"section.setting": value}, over what the file tells. mice: {name in the file: name of
    its store}; others keep theirs, or get the name of the published session with those numbers.
    stores: folder of the mice's stores, "" for none yet; those in it are compared with the file.
    frame_size: (height, width) of a frame as the model sees it. leave_out: beginnings of names of
    arrays that may be left out. part: of the file, when it holds several models. Raises UserError
    for what does not fit, and for what has to be said.
    """
    state = state_dicts.read(path, part)
    if NOTES in state.notes:
        said, assumed = _own(state, changes or {}), {}
    else:
        said, assumed = _foreign(state, pages, changes or {}, frame_size)
    said = imported_mice.named(said, mice or {}, stores)
    build.check(said["config"])
    model = _zeros(said)
    unused = _fill(model, said, state, leave_out)
    return Imported(model, _about(said, state, assumed, unused), assumed, unused)


def export_run(workdir: str | Path, path: str | Path, weights: str = "best") -> list[str]:
    """Writes the model of a run as a .safetensors file; returns the names of its arrays.

    weights: "best" or "newest". Raises UserError for an ensemble, and for models of which a part
    has no published name.
    """
    path = Path(path)
    if (Path(workdir) / build.ENSEMBLE).exists():
        raise UserError(
            f"found an ensemble in {workdir}, expected the run of one model; export its members."
        )
    if path.suffix != ".safetensors":
        raise UserError(f"found {path}, expected a name that ends in .safetensors; change it.")
    graph, arrays, about = build.load_encoder(workdir, weights)
    model = assemble(graph, arrays)
    family, there = families.of(model), imported_mice.names_in_file(model)
    exported = entries.export(family.entries(model, there))
    exported |= family.constants(model, exported, there, tuple(about["frame_size"]))
    said = {name: about[name] for name in SAID}
    said["mice"] = {there[mouse]: {**each, "name": mouse} for mouse, each in about["mice"].items()}
    state_dicts.write(path, exported, {"format": "pt", NOTES: json.dumps(plain(said))})
    return sorted(exported)


def _own(state: StateDict, changes: Mapping[str, Any]) -> dict:
    """What a file of our own says of its model; a trial of it shows whether it is all there."""
    try:
        found = json.loads(state.notes[NOTES])
        said = {name: found[name] for name in SAID}
        said["config"] = _changed(said["config"], changes)
        build.check(said["config"])
        jax.eval_shape(lambda: _new(said))
        return said
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"found {state.path} with a description of its model that is damaged or of another "
            f"version ({type(error).__name__}: {error}), expected what this version's "
            "scripts/export_checkpoint.py writes; export it again."
        ) from error


def _foreign(state: StateDict, pages, changes, frame_size) -> tuple[dict, dict]:
    """What the weights of others tell of their model, and what is assumed."""
    numbers = state.numbers()
    file = File(state.shapes, state.modules, numbers, changes, tuple(frame_size), state.path)
    found = architecture.of(file)
    asked = {name: why for name, why in found.asked.items() if name not in changes}
    if asked:
        name, why = next(iter(asked.items()))
        raise UserError(f"found weights that do not decide {name}: {why}; say --set {name}=VALUE.")
    config = dict(plain(pages[found.page]))
    for name, told in found.sections.items():
        page = config[name]
        # What a page says of another kind of core, readout or shifter does not belong here.
        same = page.get("name", "") == told.get("name", "")
        config[name] = {**(page if same else {}), **told}
    config = _changed(config, changes)
    canvas = tuple(config["inputs"]["canvas"])
    said = dict(
        config=config,
        mice=imported_mice.of_file(found),
        behavior_columns=BEHAVIOR_COLUMNS.get(found.page, 2),
        frame_size=list(frame_size if canvas == (0, 0) else canvas),
    )
    _check_map_size(said, found.map_size)
    return said, {name: v for name, v in found.assumed.items() if name not in changes}


def _changed(config: Mapping, changes: Mapping[str, Any]) -> dict:
    """The config with some settings replaced; UserError for a section that it does not have."""
    config = {name: dict(v) if isinstance(v, Mapping) else v for name, v in config.items()}
    for setting, value in changes.items():
        section, _, name = setting.partition(".")
        if not name or not isinstance(config.get(section), dict):
            raise UserError(
                f"found --set {setting}, expected section.setting=VALUE with one of the sections "
                f"{', '.join(name for name, v in config.items() if isinstance(v, dict))}."
            )
        config[section][name] = value
    return config


def _check_map_size(said: Mapping, wanted: tuple[int, int] | None) -> None:
    """UserError when features do not have the size that factorised readouts were made for."""
    if wanted is None:
        return
    core = jax.eval_shape(lambda: _new(said)).core
    made = core.map_size(*said["frame_size"])
    if tuple(made) != tuple(wanted):
        height, width = said["frame_size"]
        raise UserError(
            f"found readouts for features of {wanted[0]}x{wanted[1]} pixels, and frames of "
            f"{height}x{width} give {made[0]}x{made[1]}; say --frame-size HEIGHTxWIDTH, or set "
            "the core's paddings."
        )


def _new(said: Mapping) -> Encoder:
    neurons = {mouse: imported_mice.stand_in(each) for mouse, each in said["mice"].items()}
    size = tuple(said["frame_size"])
    return build.new_encoder(said["config"], neurons, said["behavior_columns"], frame_size=size)


def _zeros(said: Mapping) -> Encoder:
    """The model with zeros for all arrays."""
    graph, shapes = separate(jax.eval_shape(lambda: _new(said)))
    return assemble(graph, jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes))


def _fill(model: Encoder, said: Mapping, state: StateDict, leave_out: Sequence[str]) -> list[str]:
    """Puts the file's arrays into the model; returns the names of those that were left out.

    Raises UserError when one is missing, of another shape, not a number, or not to be left out.
    """
    family, there = families.of(model), {m: about["in_file"] for m, about in said["mice"].items()}
    unused = family.deciding(entries.load(family.entries(model, there), state.tensors))
    refused = [name for name in unused if not name.startswith(tuple(leave_out))]
    if refused:
        few = ", ".join(refused[:5]) + (f" and {len(refused) - 5} more" if refused[5:] else "")
        raise UserError(
            f"found arrays that no part of our model takes: {few}; without them it would predict "
            "something else. If they do not matter, say --leave-out with how their names begin."
        )
    for entry in family.entries(model, there):
        if not np.isfinite(np.asarray(entry.variable[...])).all():
            raise UserError(
                f"found {entry.name} in {state.path} with values that are not finite, expected "
                "weights of a trained model; get another file."
            )
    imported_mice.check_positions(model, said)
    return unused


def _about(said: Mapping, state: StateDict, assumed: Mapping, unused: Sequence[str]) -> dict:
    """What the checkpoint says of itself."""
    with open(state.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    source = dict(file=state.path.name, sha256=digest, assumed=plain(assumed), unused=list(unused))
    config = plain(said["config"])
    return dict(
        {name: said[name] for name in SAID},
        config=config,
        mice=imported_mice.described(said["mice"]),
        **provenance.circumstances(),
        step=0,
        best_step=0,
        schedule=build.schedule(config["schedule"]).state(),
        finished=True,
        imported=source,
    )


def _write(out: Path, made: Imported) -> None:
    """Writes the folder beside its place, and moves it there when it is complete."""
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    try:
        _, state = build.initial_state(made.model, made.about["config"])
        write_atomically(partial / folder.CONFIG, json.dumps(made.about["config"], indent=2))
        with checkpoints.Checkpoints(partial) as saved:
            saved.save(0, state, dict(made.about))
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
