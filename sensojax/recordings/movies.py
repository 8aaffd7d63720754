"""A new film for a trained model: frames from an .npy or a .mat, never resized.

In goes a path and the size of the frames that the model knows; out come clips [clip time height
width] in gray levels 0..255. An .npy holds frames in our order of axes, [time height width] or
[clip time height width]; a .mat holds them as MATLAB does, (height, width, time) or (height, width,
time, clip). In either, pixels may also lie in one axis, row after row, as in the file of the
superior colliculus: [clip time pixel] or [time pixel], for MATLAB the other way round.
"""

from pathlib import Path

import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.recordings import matlab


def read(path: str | Path, height: int, width: int, variable: str = "") -> np.ndarray:
    """The clips of a file, [clip time height width], uint8 or float32.

    variable: name of the array in a .mat; "" is the only one with frames of this size. Raises
    UserError for frames of another size and for what are no gray levels.
    """
    path = Path(path).expanduser()
    if path.suffix == matlab.ENDING:
        found = _in_matlab(path, height, width, variable)
    elif path.suffix == ".npy" and not variable:
        found = _clips(_npy(path), height, width)
    else:
        raise UserError(
            f"found the film {path}{f' and variable {variable!r}' if variable else ''}, expected "
            f"an .npy, or a {matlab.ENDING} and perhaps the name of one of its arrays; save the "
            "frames as one of them."
        )
    if found is None:
        raise _other_size(path, height, width)
    if found.dtype.kind not in "fiub" or not np.isfinite(found).all():
        raise UserError(
            f"found {found.dtype} with not-a-number or no numbers in {path}, expected gray levels; "
            "save the frames again."
        )
    return found if found.dtype == np.uint8 else found.astype(np.float32)


def _npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read ({str(error).splitlines()[0]}); give an .npy of numbers."
        ) from error


def _in_matlab(path: Path, height: int, width: int, variable: str) -> np.ndarray | None:
    file = matlab.File(path)
    if variable:
        check_name(variable, file.shapes, f"array in {path}")
    frame = (width, height), (height * width,)  # MATLAB's axes, backwards
    fitting = [
        name
        for name, shape in file.shapes.items()
        if variable in ("", name) and (shape[-2:] == frame[0] or shape[-1:] == frame[1])
    ]
    if len(fitting) > 1:
        raise UserError(
            f"found {', '.join(fitting)} in {path}, expected one array of frames; name it."
        )
    if not fitting:
        return None
    found = file.read(fitting[0])
    if found.shape[-2:] == frame[0]:
        found = found.swapaxes(-1, -2)
    return _clips(found, height, width)


def _clips(array: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """[clip time height width] of frames of this size, or of their pixels in a row; else None."""
    if array.shape[-2:] != (height, width) and array.shape[-1:] == (height * width,):
        array = array.reshape(*array.shape[:-1], height, width)
    if array.ndim == 3:
        array = array[None]
    fits = array.ndim == 4 and array.shape[-2:] == (height, width) and array.size
    return array if fits else None


def _other_size(path: Path, height: int, width: int) -> UserError:
    if path.suffix == matlab.ENDING:
        held = matlab.File(path).described()
    else:
        held = f"{path} of shape {_npy(path).shape}"
    return UserError(
        f"found {held}, expected frames of {height} x {width} pixels, those that the model was "
        "trained on; bring the film to that size yourself, nothing is resized here."
    )
