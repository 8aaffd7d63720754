"""A first look at the model of a run folder: its figure, from made-up images or those of a store.

In: a run folder (trained here or imported) and perhaps the folder of its stores; out: a `Look`,
which `insilico.first_look` draws. Without stores the images are naturalistic ones from a random
generator, in the units of their own mean and spread.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from sensojax import build
from sensojax.errors import UserError, check_name
from sensojax.evaluation.results import short_name
from sensojax.experiments.scoring import Scorer
from sensojax.insilico import sensitivity
from sensojax.insilico.first_look import Look
from sensojax.models.encoder import Encoder, assemble
from sensojax.pipeline import windows
from sensojax.pipeline.batches import read_batch
from sensojax.recordings import published
from sensojax.stimuli import synthesis

REFERENCE = 96  # images over which the mean and the spread of each neuron are taken
SHOWN = 5
FOR_DERIVATIVES = 4  # images over which derivatives are averaged
SPOT = 24  # standard deviation of a spot: such a part of the height


def look(
    workdir: str | Path,
    mouse: str = "",
    *,
    weights: str = "best",
    stores: str = "",
    tier: str = "validation",
    neurons: int = 256,
    seed: int = 0,
) -> Look:
    """What there is to see of one mouse of a run, "" the first.

    stores: folder of the stores, whose images of `tier` are shown; "" for made-up images. neurons:
    of how many the derivatives are taken. Raises UserError for a run, mouse or tier that is not
    there.
    """
    graph, arrays, about = build.load_encoder(workdir, weights)
    model = assemble(graph, arrays)
    mouse = mouse or model.mice[0]
    check_name(mouse, model.mice, "mouse")
    rng = np.random.default_rng(seed)
    cortex, unit = _cortex(model.readouts[mouse])
    if stores:
        opened = Scorer().opened(about, stores)[mouse]
        stills, pupil, labels = _recorded(opened, about["config"], tier, rng)
        cortex, unit = opened.neurons.position_um[:, :2], " (µm)"
    else:
        stills, pupil, labels = _made_up(about, rng, _centres(model, mouse, about["frame_size"]))
    responses = sensitivity.responses(model, mouse, stills, pupil)
    reference = responses[len(labels) if not stores else 0 :]
    spread = reference.std(axis=0)
    deviations = (responses[: len(labels)] - reference.mean(axis=0)) / np.where(spread, spread, 1)
    chosen = np.sort(rng.permutation(responses.shape[1])[:neurons])
    some = slice(-FOR_DERIVATIVES, None)
    changes = sensitivity.derivatives(model, mouse, stills[some], pupil[some], chosen)
    centres, reach = sensitivity.reach(np.mean(np.square(changes), axis=0))
    kind = "simulated mouse" if about["config"]["data"]["recordings"] == "simulated" else "mouse"
    return Look(
        title=f"{Path(workdir).resolve().name}, {kind} {short_name(mouse)}",
        stills=stills[: len(labels), ..., 0],
        labels=labels,
        deviations=deviations,
        num_reference=len(reference),
        cortex=cortex if cortex is not None and np.isfinite(cortex).all() else None,
        unit=unit,
        centres=_centres(model, mouse, stills.shape[1:3]),
        chosen=chosen,
        derivatives=changes.mean(axis=0),
        field_centres=centres,
        reach=reach,
        degrees_per_pixel=_degrees_per_pixel(mouse, stills.shape[2]),
    )


def _made_up(about: Mapping, rng, centres) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The images to show, and after them those of the reference; behaviour and pupil at 0.

    centres: the pixels that neurons look at, or None; two spots are at their left and right end.
    """
    height, width = about["frame_size"]
    ends = [(width / 4, height / 2), (3 * width / 4, height / 2)]
    if centres is not None:
        row = np.median(centres[:, 1])
        ends = [(column, row) for column in np.quantile(centres[:, 0], (0.05, 0.95))]
    made = np.stack([synthesis.image(rng, height, width) for _ in range(REFERENCE)])
    made = (made - made.mean()) / made.std()
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    first, last = (
        -3 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * (height / SPOT) ** 2))
        for column, row in ends
    )
    scene = made[np.argsort(made.std(axis=(1, 2)))[-1]]
    wave = 2 * np.pi / (height / 4.5)
    shown = {
        "image": scene,
        "dark spot on the left": first,
        "dark spot on the right": last,
        "vertical stripes": 1.5 * np.sign(np.sin(wave * x)),
        "horizontal stripes": 1.5 * np.sign(np.sin(wave * y)),
    }
    pictures = np.concatenate([np.stack(list(shown.values())), made]).astype(np.float32)
    inputs = about["config"]["inputs"]
    columns = len(inputs["behavior_columns"]) or about["behavior_columns"]
    channels = 1 + (columns + 2 * inputs["pupil"]) * bool(inputs["behavior"])
    stills = np.zeros((*pictures.shape, channels), np.float32)
    stills[..., 0] = pictures
    return stills, np.zeros((len(stills), 2), np.float32), list(shown)


def _recorded(opened, config: Mapping, tier: str, rng) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Different images of a tier, or single frames of its videos, as the model sees them."""
    rows = opened.rows(tier)
    _, first = np.unique(opened.video_ids[rows], return_index=True)
    rows = rng.permutation(rows[first])[:REFERENCE]
    if len(rows) < SHOWN:
        raise UserError(
            f"found {len(rows)} different images in tier {tier!r} of mouse {opened.mouse}, "
            f"expected {SHOWN} or more; name another --tier."
        )
    frames = windows.usable_frames(opened.trials, config["data"]["normalization"])
    middle = [windows.fixed(row, int(frames[row]), 1, int(frames[row]) // 2) for row in rows]
    raw = read_batch(opened, middle, frames, 0, (len(rows), 1))
    known = build.statistics(config["data"], {"mouse": opened})
    ready = jax.jit(build.prepare(config["inputs"], whole=True))({"mouse": raw}, known)["mouse"]
    named = [f"image {opened.video_ids[row]}" for row in rows[:SHOWN]]
    return np.asarray(ready.video[:, 0]), np.asarray(ready.pupil_center[:, 0]), named


def _cortex(readout) -> tuple[np.ndarray | None, str]:
    """Positions in cortex as a position network keeps them: from the middle, of the largest."""
    network = getattr(readout, "network", None)
    return (None, "") if network is None else (np.asarray(network.cortex[...]), "")


def _centres(model: Encoder, mouse: str, size: Sequence[int]) -> np.ndarray | None:
    """The pixels (x, y) that the readouts look at when the pupil is where it mostly is."""
    learned = model.readouts[mouse].positions()
    if learned is None:
        return None
    shift = model.shift(mouse, np.zeros((1, 1, 2), np.float32), 1)
    points = np.clip(learned, -1, 1) + (0 if shift is None else np.asarray(shift)[0])
    height, width = size
    seen = np.asarray(model.core.map_to_image(points, height, width))
    return (seen + 1) / 2 * np.array([width - 1, height - 1])


def _degrees_per_pixel(mouse: str, width: int) -> float:
    """Of a published mouse, in the middle of its screen; 0 for others."""
    known = {session.name: session.monitor for session in published.SESSIONS}
    if mouse not in known:
        return 0.0
    screen = known[mouse]
    return float(np.degrees(np.arctan(screen.width_cm / width / screen.distance_cm)))
