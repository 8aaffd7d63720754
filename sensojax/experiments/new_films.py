"""What a trained model says of a new film: a run folder and a film in, predicted responses out.

The film is shown as the recording's own were: normalised by the recording's statistics, from its
first frame on. Behaviour and pupil, where the model asks for them, are what the user gives, or
their means in training. Responses come in the units of the recording, one row for each frame of the
film, not-a-number in the first ones if the core cannot predict them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.experiments.predicting import AS_RECORDED, OF_THE_RUN, Predictor
from sensojax.progress import track
from sensojax.recordings import movies
from sensojax.types import Batch


@dataclass(frozen=True)
class Told:
    """A film's responses, {mouse: [clip time neuron]} ([1 image neuron]), and what to say of them.

    lost_frames: how many at the beginning of each clip are not-a-number. levels: least and
    greatest gray level of the film. simulated: whether a mouse was.
    """

    responses: dict[str, np.ndarray]
    lost_frames: int
    levels: tuple[float, float]
    simulated: bool


def predict(
    workdir: str | Path,
    movie: str | Path,
    *,
    mice: Sequence[str] = (),
    weights: str = "best",
    stores: str = "",
    variable: str = "",
    behavior: str | Path = "",
    pupil: str | Path = "",
) -> Told:
    """Predicts the responses of a run's mice to every clip of a film.

    movie, variable: see `recordings.movies`. mice: () is all. weights, stores: see `Predictor`.
    behavior, pupil: .npy files [time column] or [clip time column], as recorded; "" are the means
    in training. Raises UserError when frames have another size than those of a mouse.
    """
    predictor = Predictor(workdir, weights, stores, frames=OF_THE_RUN, units=AS_RECORDED)
    for mouse in mice:
        check_name(mouse, predictor.stores, "mouse")
    found, lost, levels = {}, 0, (0.0, 0.0)
    with jax.set_mesh(predictor.placement.mesh):
        for mouse in mice or predictor.stores:
            store = predictor.stores[mouse]
            clips = movies.read(movie, store.height, store.width, variable)
            images = store.max_frames == 1  # each of them is a clip
            if images:
                clips = clips.reshape(-1, 1, *clips.shape[2:])
            signals = {
                name: _signal(store, name, path, clips.shape[:2])
                for name, path in (("behavior", behavior), ("pupil_center", pupil))
            }
            responses = _responses(predictor, mouse, clips, signals)
            found[mouse] = responses.swapaxes(0, 1) if images else responses
            lost = int(np.isnan(found[mouse][0, :, 0]).sum())
            levels = float(clips.min()), float(clips.max())
    simulated = any(predictor.stores[mouse].simulated for mouse in found)
    return Told(found, lost, levels, simulated)


def _signal(store, name: str, path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Behaviour or pupil of every frame, [clip time column]."""
    columns = store.empty((0,))[name].shape[1]
    if not path:
        known = store.statistics.per_neuron.get(name) or store.statistics.official.get(name)
        mean = np.zeros(columns)
        if known and columns:
            mean = np.nanmean(known["mean"].reshape(-1, columns), axis=0)
        return np.broadcast_to(mean, (*shape, columns)).astype(np.float32)
    try:
        given = np.load(Path(path).expanduser(), allow_pickle=False).astype(np.float32)
        given = np.broadcast_to(given, (*shape, columns))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"found {path} ({str(error).splitlines()[0]}), expected {name} for {shape[0]} clips of "
            f"{shape[1]} frames, with {columns} columns; save it again."
        ) from error
    return given


def _responses(
    predictor: Predictor, mouse: str, clips: np.ndarray, signals: dict[str, np.ndarray]
) -> np.ndarray:
    """[clip time neuron] as recorded, a few clips at a time."""
    size, neurons = predictor.together(len(clips)), len(predictor.stores[mouse].neurons)
    shape = size, clips.shape[1]

    def batch(first: int) -> Batch:
        some = slice(first, first + size)
        return Batch(
            video=_filled(clips[some], size),
            responses=np.zeros((*shape, neurons), np.float32),
            valid=np.ones(shape, bool),
            start=np.zeros(size, np.int32),
            **{name: _filled(signal[some], size) for name, signal in signals.items()},
        )

    starts = range(0, len(clips), size)
    shown = track(map(batch, starts), f"predicting {mouse}", len(starts))
    return np.concatenate(list(predictor.clips(mouse, shown)))[: len(clips)]


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    """So many examples, the missing ones of zeros."""
    return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))
