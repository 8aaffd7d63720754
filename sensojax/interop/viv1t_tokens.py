"""The settings of a ViV1T's tokeniser and position codes, from the shapes of their weights.

In: what a file tells; out: a `Tokens`. A tokeniser that is a convolution tells all its sizes. One
that maps whole patches only tells how many numbers a patch has, channels x frames x pixels x
pixels; of the ways to make such a number those are taken that fit all else that is known, and among
them the published one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sensojax.errors import UserError
from sensojax.interop.core_architecture import Found
from sensojax.interop.told import File

PATCH, STRIDE, MAX_FRAMES = 7, 2, 300  # of both published models
CHANNELS = (5, 3, 1)  # with behaviour and pupil, with behaviour alone, or the picture alone
COLUMNS = (4, 2)  # of behaviour that a network sees, with the pupil and without


class Published(NamedTuple):
    """prefix: of the tokeniser's names; frames: of a patch."""

    prefix: str
    frames: int


class Tokens(NamedTuple):
    """columns: of behaviour and pupil that the core sees."""

    found: Found
    columns: int


class Patch(NamedTuple):
    """How the numbers of a patch are made up; columns: of behaviour, beside it or in its planes."""

    channels: int
    frames: int
    pixels: int
    columns: int


def has(file: File, published: Published) -> bool:
    """Whether the file has such a tokeniser."""
    return any(name.startswith(f"{published.prefix}tokenizer.") for name in file.shapes)


def of(file: File, published: Published, network: int | None) -> Tokens:
    """network: how many numbers the behaviour's network sees; None where there is none."""
    here = f"{published.prefix}tokenizer."
    found, shapes = Found(), file.shapes
    kernel = shapes.get(f"{here}tokenizer.0.weight", ())
    found.told["patch_norm"] = len(kernel) != 5
    if len(kernel) == 5:
        _, channels, frames, pixels, _ = kernel
        columns = network // frames if network else channels - 1
        patch = Patch(channels, frames, pixels, columns)
        found.told |= dict(patch=pixels, patch_frames=frames)
    else:
        maps = (s for n, s in shapes.items() if n.startswith(here) and n.endswith(".weight"))
        size = max((shape[1] for shape in maps if len(shape) == 2), default=0)
        patch = _patch(found, file, published, size, network)
    if patch is None:
        return Tokens(found, 0)
    _add_codes(found, file, here, patch)
    return Tokens(found, patch.columns)


def _patch(found: Found, file: File, published: Published, size: int, network) -> Patch | None:
    """What a patch of so many numbers is made of; None when the user has to say."""
    known = {name: file.given.get(f"core.{name}") for name in ("patch_frames", "patch")}
    possible = [
        each
        for each in _patches(size, network)
        if known["patch"] in (None, each.pixels) and known["patch_frames"] in (None, each.frames)
    ]
    usual = [p for p in possible if (p.pixels, p.frames) == (PATCH, published.frames)]
    if not possible:
        raise UserError(
            f"found patches of {size} numbers, which cannot be those of {known['patch'] or 'any'} "
            f"pixels and {known['patch_frames'] or 'any'} frames; correct core.patch and "
            "core.patch_frames."
        )
    if len(possible) == 1 or usual:
        chosen = (usual or possible)[0]
        settings = dict(patch=chosen.pixels, patch_frames=chosen.frames)
        (found.told if len(possible) == 1 else found.assumed).update(settings)
        return chosen
    why = (
        f"a patch has {size} numbers, of {published.frames} frames of {PATCH} x {PATCH} pixels in "
        "the published model: how many"
    )
    found.asked |= {name: why for name, given in known.items() if given is None}
    return None


def _patches(size: int, network: int | None) -> list[Patch]:
    """All ways to make a patch of so many numbers."""
    found = []
    for frames in range(1, size + 1):
        for channels in CHANNELS if network is None else (1,):
            pixels, rest = divmod(size, frames * channels)
            side = round(pixels**0.5)
            columns = channels - 1 if network is None else network // frames
            fits = network is None or (columns in COLUMNS and columns * frames == network)
            if not rest and side and side * side == pixels and fits:
                found.append(Patch(channels, frames, side, columns))
    return found


def _add_codes(found: Found, file: File, here: str, patch: Patch) -> None:
    """Kinds of position codes, and what their tables tell of the grid and of the longest clip."""
    shapes = file.shapes
    joint = shapes.get(f"{here}pos_embedding")
    tables = {"space": f"{here}spatial_pos_embedding", "time": f"{here}temporal_pos_"}
    learned = {
        "space": shapes.get(tables["space"]),
        "time": shapes.get(f"{tables['time']}embedding"),
    }
    sines = {
        "space": shapes.get(f"{tables['space']}.pos_encoding"),
        "time": shapes.get(f"{tables['time']}encoding.pos_encoding"),
    }
    for axis, long in (("space", "spatial"), ("time", "temporal")):
        blocks = f"core.vivit.{long}_transformer.blocks.0."
        if learned[axis]:
            code = "learned"
        elif sines[axis]:
            code = "sines"
        elif f"{blocks}rotary_position_embedding.inv_freq" in shapes:
            code = "rotary"
        elif f"{blocks}pos_encoding.pos_embedding.weight" in shapes:
            code = "convolution"
        else:
            code = "none"
        found.told[f"{axis}_code"] = code
    if joint:
        found.told["space_code"] = "joint"
    elif (found.told["space_code"], found.told["time_code"]) == ("none", "rotary"):
        found.told["space_code"] = "grid"  # whose table is not among the weights
    table = joint or learned["space"] or sines["space"]
    of_readouts = shapes.get("readouts.position_embedding.twod_pe")
    places = table[2] if table else of_readouts[1] if of_readouts else 0
    _add_stride(found, file, here, patch, places)
    _add_longest(found, file, patch, joint or learned["time"])


def _add_longest(found: Found, file: File, patch: Patch, table: Sequence[int] | None) -> None:
    padded = file.given.get("core.padded", "core.tokenizer.norm.weight" in file.shapes)
    if table:
        found.told["max_frames"] = table[1] + (0 if padded else patch.frames - 1)
    else:
        found.assumed["max_frames"] = MAX_FRAMES


def _add_stride(found: Found, file: File, here: str, patch: Patch, places: int) -> None:
    """The stride with which a frame has as many tokens as tables have places (0: there is none)."""
    if "core.stride" in file.given or not places:
        found.assumed["stride"] = STRIDE
        return
    padded = file.given.get("core.padded", here == "core.tokenizer.")
    fitting = [s for s in range(1, patch.pixels + 1) if _tokens(file, patch, s, padded) == places]
    if not fitting:
        height, width = file.frame_size
        raise UserError(
            f"found position codes of {places} places, which patches of {patch.pixels} x "
            f"{patch.pixels} pixels do not have in frames of {height}x{width} with any stride; say "
            "--frame-size HEIGHTxWIDTH."
        )
    found.told["stride"] = STRIDE if STRIDE in fitting else fitting[0]


def _tokens(file: File, patch: Patch, stride: int, padded: bool) -> int:
    """How many tokens a frame has (sota 2.2, 3.2)."""
    height, width = file.frame_size
    if padded:
        return -(-height // stride) * -(-width // stride)
    return ((height - patch.pixels) // stride + 1) * ((width - patch.pixels) // stride + 1)
