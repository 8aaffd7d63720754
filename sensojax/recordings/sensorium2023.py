"""Sensorium 2023: mice that watched videos, as published (baselines 1.1).

In goes a session folder, a folder of sessions, or a .zip of them (read in place); out comes a
`types.Recording`. On disk every trial has four float64 arrays with time last, padded with NaN, and
the meta folder holds tiers, neurons and statistics per frame. Here time comes first and the padding
is gone. A session written by `simulated` has a folder `truth/` too, which is read along.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sensojax.errors import UserError, nearest
from sensojax.recordings import files, trials
from sensojax.types import MODALITIES, TIERS, Neurons, Recording

TIERS_FILE = "meta/trials/tiers.npy"
STATISTICS = ("mean", "std", "min", "max", "median")
DEFAULT_FRAME_RATE_HZ = 30.0


def sessions(path: str | Path) -> list[str]:
    """Names of the sessions at a path: a session folder, a folder of sessions, or a .zip."""
    return [source.name for source in _find(path)]


def read(path: str | Path, mouse: str | None = None, *, holes: str = "refuse") -> Recording:
    """The recording of one mouse; meta data are read now, each trial when it is asked for.

    mouse: the session's name, needed when the path holds several. holes: what to do where a signal
    is NaN and later a number again: "refuse" (UserError) or "cut" (the trial ends at its first
    NaN).
    Raises UserError when the path, the meta data or (from Recording.read) a trial are not as
    published. Recording.read may be called from several threads.
    """
    if holes not in ("refuse", "cut"):
        raise UserError(f"holes={holes!r}, expected 'refuse' or 'cut'; choose one of the two.")
    source = _choose(path, mouse)
    tiers = _tiers(source)
    shapes = {key: files.header(source, f"data/{key}/0.npy").shape for key in MODALITIES}
    for key, shape in shapes.items():
        trials.check_axes(source, f"data/{key}/0.npy", key, shape)
    columns = _columns(source, "meta/trials", len(tiers))
    neurons = _neurons(source, shapes["responses"][0])
    statistics = _statistics(source)
    simulated = bool(source.listing("truth"))
    reader = trials.Trials(source, tiers, len(neurons), shapes, statistics, simulated, holes)
    kinds = _columns(source, "truth/trials", len(tiers))
    return Recording(
        mouse=source.name,
        source=str(Path(path).expanduser()),
        frame_rate_hz=_frame_rate_hz(source, columns),
        neurons=neurons,
        tiers=tiers,
        read=reader.read,
        trial_columns=columns | {f"true_{name}": value for name, value in kinds.items()},
        statistics=statistics,
        truth=_columns(source, "truth/neurons", len(neurons)),
        simulated=simulated,
    )


def _find(path: str | Path) -> list[files.Folder | files.Zip]:
    found = files.find(path, TIERS_FILE)
    if found:
        return found
    path = Path(path).expanduser()
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir())
        near = f"it holds {', '.join(inside[:5])}" if inside else "it is empty"
        near += f" and {len(inside) - 5} more" if len(inside) > 5 else ""
        above = [parent for parent in path.resolve().parents if (parent / TIERS_FILE).is_file()]
        near += f"; did you mean {above[0]}?" if above else ""
    else:
        near = "no folder in the zip has one"
    raise UserError(
        f"{path} is neither a session nor a folder of sessions: expected {TIERS_FILE} in it or one "
        f"folder below, but {near}; give the folder or .zip named dynamic<animal>-..."
    )


def _choose(path: str | Path, mouse: str | None) -> files.Folder | files.Zip:
    found = {source.name: source for source in _find(path)}
    if mouse is None and len(found) == 1:
        return next(iter(found.values()))
    if mouse is None:
        raise UserError(
            f"{path} holds {len(found)} sessions, expected one; name the mouse to read: "
            f"{', '.join(found)}."
        )
    if mouse not in found:
        raise UserError(
            f"{path} has no session {mouse!r}{nearest(mouse, found)}; it has {', '.join(found)}."
        )
    return found[mouse]


def _tiers(source) -> tuple[str, ...]:
    """One tier per trial, checked against the trial files of every modality."""
    array = files.load(source, TIERS_FILE)
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise UserError(
            f"{source.where(TIERS_FILE)} holds {array.dtype} of shape {array.shape}, expected one "
            "tier name per trial; copy the meta folder again from its source."
        )
    tiers = tuple(str(tier) for tier in array.astype(np.str_))
    unknown = sorted(set(tiers) - set(TIERS))
    if unknown:
        raise UserError(
            f"{source.where(TIERS_FILE)} names a tier {unknown[0]!r}"
            f"{nearest(unknown[0], TIERS)}; known tiers are {', '.join(TIERS)}."
        )
    numbers = {key: _trial_numbers(source, key) for key in MODALITIES}
    every = set().union(*numbers.values())
    for key in MODALITIES:
        missing = sorted(every - numbers[key])
        if missing:
            raise UserError(
                f"{source.where(f'data/{key}/{missing[0]}.npy')} is missing ({len(missing)} of "
                f"{len(every)} trials have no {key}); copy the session again from its source."
            )
    if every != set(range(len(tiers))):
        raise UserError(
            f"{source.where('data')} has {len(every)} trials"
            f"{f' numbered up to {max(every)}' if every else ''} but {TIERS_FILE} names "
            f"{len(tiers)} tiers; copy the session again from its source."
        )
    if not tiers:
        raise UserError(f"{source.where('data')} has no trials; copy the session again.")
    return tiers


def _trial_numbers(source, key: str) -> set[int]:
    stems = (name[: -len(".npy")] for name in source.listing(f"data/{key}") if _is_npy(name))
    return {int(stem) for stem in stems if stem.isdecimal()}


def _is_npy(name: str) -> bool:
    return name.endswith(".npy") and not name.startswith(".")


def _neurons(source, num_recorded: int) -> Neurons:
    """The neuron table; missing files become 0, 1, 2... (ids) and NaN (positions)."""
    table = _columns(source, "meta/neurons", None, only=("unit_ids", "cell_motor_coordinates"))
    num_neurons = len(next(iter(table.values()))) if table else num_recorded
    ids = table.get("unit_ids", np.arange(num_neurons))
    position_um = table.get("cell_motor_coordinates", np.full((num_neurons, 3), np.nan))
    if ids.shape != (num_neurons,) or position_um.shape != (num_neurons, 3):
        raise UserError(
            f"{source.where('meta/neurons')} has unit_ids of shape {ids.shape} and "
            f"cell_motor_coordinates of shape {position_um.shape}, expected one number and three "
            "for each neuron; copy the meta folder again from its source."
        )
    return Neurons(ids.astype(np.int64), position_um.astype(np.float64))


def _columns(source, folder: str, length: int | None, only=None) -> dict[str, np.ndarray]:
    """The arrays in a meta folder by name; `length` is what each must have, when it is known."""
    columns = {}
    for file in source.listing(folder):
        name = file[: -len(".npy")]
        path = f"{folder}/{file}"
        if not _is_npy(file) or path == TIERS_FILE or (only and name not in only):
            continue
        # Pickled objects are never loaded; nothing we need is published as such.
        if files.header(source, path).dtype.hasobject:
            continue
        array = files.load(source, path)
        if length is not None and array.shape[:1] != (length,):
            raise UserError(
                f"{source.where(path)} has shape {array.shape}, expected {length} entries; copy "
                "this file again from its source."
            )
        columns[name] = array
    return columns


def _statistics(source) -> dict[str, dict[str, np.ndarray]]:
    """The published statistics, axes [time ...]; a missing one is left out."""
    statistics = {}
    for key in MODALITIES:
        folder = f"meta/statistics/{key}/all"
        present = [name for name in STATISTICS if f"{name}.npy" in source.listing(folder)]
        for name in present:
            path = f"{folder}/{name}.npy"
            array = files.load(source, path)
            trials.check_axes(source, path, key, array.shape)
            array = np.ascontiguousarray(np.moveaxis(array, -1, 0), np.float64)
            statistics.setdefault(key, {})[name] = array
    return statistics


def _frame_rate_hz(source, columns: Mapping[str, np.ndarray]) -> float:
    if "target_fps" not in columns:
        return DEFAULT_FRAME_RATE_HZ
    rates = np.unique(columns["target_fps"].astype(np.float64))
    rates = rates[~np.isnan(rates)]
    if not rates.size:
        return DEFAULT_FRAME_RATE_HZ
    if len(rates) > 1 or not 0 < rates[0] < np.inf:
        raise UserError(
            f"{source.where('meta/trials/target_fps.npy')} has the frame rates "
            f"{', '.join(f'{rate:g}' for rate in rates)} Hz, expected one positive number; split "
            "the session by frame rate."
        )
    return float(rates[0])
