"""A session as both Sensorium competitions published it: which one, its tiers, tables, statistics.

In goes a path and a `trials.Layout`; out comes a `types.Recording`. A session is a folder, or lies
in a .zip that is read in place: `data/` has an .npy for each trial and modality, `meta/` has tiers,
neurons and statistics. A session written by `simulated` has a folder `truth/` too, which is read
along. `sensorium2023` and `sensorium2022` say what is different between the two.
"""

from pathlib import Path

import numpy as np

from sensojax.errors import UserError, nearest
from sensojax.recordings import files, trials
from sensojax.types import MODALITIES, TIERS, Neurons, Recording

TIERS_FILE = "meta/trials/tiers.npy"
STATISTICS = ("mean", "std", "min", "max", "median")
HOLES = ("refuse", "cut")


def find(path: str | Path) -> list[files.Folder | files.Zip]:
    """The sessions at a path: a session folder, a folder of sessions, or a .zip; at least one."""
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
        f"folder below, but {near}; give the folder or .zip named dynamic<animal>-... or "
        "static<animal>-..., or the .mat of the superior colliculus."
    )


def choose(path: str | Path, mouse: str | None) -> files.Folder | files.Zip:
    """The session of one mouse; `mouse` may be None when there is only one."""
    found = {source.name: source for source in find(path)}
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


def recording(
    source: files.Folder | files.Zip,
    path: str | Path,
    layout: trials.Layout,
    *,
    holes: str,
    statistics: str,
    frame_rate_hz: float,
    neuron_columns: bool,
) -> Recording:
    """The recording in a session; meta data are read now, each trial when it is asked for.

    path: what the user gave. holes: "refuse" or "cut", see `sensorium2023.read`. statistics: name
    of the folder under each modality's statistics. frame_rate_hz: as long as no table says another.
    neuron_columns: whether to read what else is said of the neurons.
    """
    if holes not in HOLES:
        raise UserError(f"holes={holes!r}, expected 'refuse' or 'cut'; choose one of the two.")
    tiers = _tiers(source, layout)
    firsts = {key: f"{layout.folder(key)}/0.npy" for key in MODALITIES}
    shapes = {key: files.header(source, name).shape for key, name in firsts.items()}
    for key, shape in shapes.items():
        layout.check_axes(source, firsts[key], key, shape)
    columns = _columns(source, "meta/trials", len(tiers))
    neurons = _neurons(source, layout.rows("responses", shapes["responses"])[0], neuron_columns)
    found = _statistics(source, layout, shapes, statistics)
    simulated = bool(source.listing("truth"))
    reader = trials.Trials(source, layout, tiers, len(neurons), shapes, found, simulated, holes)
    known = _columns(source, "truth/trials", len(tiers))
    return Recording(
        mouse=source.name,
        source=str(Path(path).expanduser()),
        frame_rate_hz=_frame_rate_hz(source, columns, frame_rate_hz),
        neurons=neurons,
        tiers=tiers,
        read=reader.read,
        trial_columns=columns | {f"true_{name}": value for name, value in known.items()},
        statistics=found,
        truth=_columns(source, "truth/neurons", len(neurons)),
        simulated=simulated,
        still=layout.still,
    )


def _tiers(source, layout: trials.Layout) -> tuple[str, ...]:
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
    numbers = {key: _trial_numbers(source, layout.folder(key)) for key in MODALITIES}
    every = set().union(*numbers.values())
    for key in MODALITIES:
        missing = sorted(every - numbers[key])
        if missing:
            name = f"{layout.folder(key)}/{missing[0]}.npy"
            what = layout.folder(key).removeprefix("data/")
            raise UserError(
                f"{source.where(name)} is missing ({len(missing)} of {len(every)} trials have no "
                f"{what}); copy the session again from its source."
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


def _trial_numbers(source, folder: str) -> set[int]:
    return {int(name) for name in _names(source, folder) if name.isdecimal()}


def _is_npy(name: str) -> bool:
    return name.endswith(".npy") and not name.startswith(".")


def _neurons(source, num_recorded: int, with_columns: bool) -> Neurons:
    """The neuron table; missing files become 0, 1, 2... (ids) and NaN (positions)."""
    known = ("unit_ids", "cell_motor_coordinates")
    table = _columns(source, "meta/neurons", None, known)
    num_neurons = len(next(iter(table.values()))) if table else num_recorded
    ids = table.get("unit_ids", np.arange(num_neurons))
    position_um = table.get("cell_motor_coordinates", np.full((num_neurons, 3), np.nan))
    if ids.shape != (num_neurons,) or position_um.shape != (num_neurons, 3):
        raise UserError(
            f"{source.where('meta/neurons')} has unit_ids of shape {ids.shape} and "
            f"cell_motor_coordinates of shape {position_um.shape}, expected one number and three "
            "for each neuron; copy the meta folder again from its source."
        )
    others = set(_names(source, "meta/neurons")) - set(known) if with_columns else ()
    columns = _columns(source, "meta/neurons", num_neurons, others)
    return Neurons(ids.astype(np.int64), position_um.astype(np.float64), columns)


def _names(source, folder: str) -> list[str]:
    return [name[: -len(".npy")] for name in source.listing(folder) if _is_npy(name)]


def _columns(source, folder: str, length: int | None, only=None) -> dict[str, np.ndarray]:
    """The arrays in a meta folder by name; `length` is what each must have, when it is known."""
    columns = {}
    for name in _names(source, folder):
        path = f"{folder}/{name}.npy"
        if path == TIERS_FILE or (only is not None and name not in only):
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


def _statistics(source, layout, shapes, which: str) -> dict[str, dict[str, np.ndarray]]:
    """The published statistics, axes [time ...]; a missing one is left out."""
    statistics = {}
    for key in MODALITIES:
        folder = f"{layout.folder(key, 'meta/statistics')}/{which}"
        present = [name for name in STATISTICS if f"{name}.npy" in source.listing(folder)]
        for name in present:
            path = f"{folder}/{name}.npy"
            array = layout.statistic(source, path, key, files.load(source, path), shapes[key])
            array = np.ascontiguousarray(np.moveaxis(array, -1, 0), np.float64)
            statistics.setdefault(key, {})[name] = array
    return statistics


def _frame_rate_hz(source, columns, otherwise: float) -> float:
    if "target_fps" not in columns:
        return otherwise
    rates = np.unique(columns["target_fps"].astype(np.float64))
    rates = rates[~np.isnan(rates)]
    if not rates.size:
        return otherwise
    if len(rates) > 1 or not 0 < rates[0] < np.inf:
        raise UserError(
            f"{source.where('meta/trials/target_fps.npy')} has the frame rates "
            f"{', '.join(f'{rate:g}' for rate in rates)} Hz, expected one positive number; split "
            "the session by frame rate."
        )
    return float(rates[0])
