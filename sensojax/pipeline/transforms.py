"""What happens to a batch inside the jitted step: raw numbers in, normalised numbers out.

`Statistics.of(store, normalization)` puts one mouse's statistics on the device, once; `normalize`
turns a raw `Batch` (uint8 video, responses as recorded) into what a model sees, and so bytes cross
to the device once and small. Six rules, by name. `official` is the published one: every frame of
a trial is scaled by the statistics of that very frame, counted from the trial's start (baselines
1.2 and 1.3, step 1). `per_neuron` has one number per neuron, behaviour column and pupil coordinate
and one for the video, from the training tier. `none` leaves all as recorded, gray levels 0 to 255,
as DwiseNeuro takes them (sota 1.1). `counts` is `per_neuron` but for the responses, which are spike
counts and stay as recorded. `min_max` brings everything between 0 and 1, by the smallest and the
largest value of the training tier (sota 3.6). `viv1t2023` is what
the released models of that name were trained on: of every frame behaviour and pupil between 0 and
1, responses as in `official`, and the video, by a published slip, (x - mean) / (std - mean) (sota
2.10). Frames that are padding come out as zeros.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sensojax.errors import UserError, check_name
from sensojax.pipeline.windows import NORMALIZATIONS
from sensojax.types import MODALITIES, Batch

# A response whose spread is below this fraction of the average spread is divided by that fraction.
SILENT_FRACTION = 0.01
POOL_RULES = ("mean", "bilinear")
BETWEEN_EXTREMES = ("min_max", "viv1t2023")


@struct.dataclass
class Statistics:
    """One mouse's statistics on the device, float32; under `official` one entry per frame.

    There, the last frame is repeated as often again, for windows that pass the end of a trial.

    video_*: [time height width] or [1 1 1]; response_multiplier: [time neuron] or [1 neuron];
    behavior_*: [time 2] or [1 2]; pupil_*: likewise. time counts from the trial's first frame.
    *_mean is what is subtracted (None: nothing), *_std what is divided by, whatever they are.
    """

    video_mean: jax.Array
    video_std: jax.Array
    response_multiplier: jax.Array
    behavior_std: jax.Array
    pupil_mean: jax.Array
    pupil_std: jax.Array
    normalization: str = struct.field(pytree_node=False)
    behavior_mean: jax.Array | None = None

    @classmethod
    def of(cls, store, normalization: str) -> "Statistics":
        """The named statistics of a TrialStore; UserError when the store does not hold them."""
        check_name(normalization, NORMALIZATIONS, "normalization")
        if normalization == "none":
            nothing, once = jnp.zeros((1, 1)), jnp.ones((1, 1))
            return cls(nothing[None], once[None], once, once, nothing, once, normalization)
        if normalization in BETWEEN_EXTREMES:
            return cls._between_extremes(store, normalization)
        published = normalization == "official"
        found = store.statistics.official if published else store.statistics.per_neuron
        missing = [key for key in MODALITIES if key not in found]
        if missing:
            needs = "published statistics" if published else "trials of tier train"
            others = " or ".join(repr(each) for each in NORMALIZATIONS if each != normalization)
            raise UserError(
                f"found no {normalization} statistics of {', '.join(missing)} for mouse "
                f"{store.mouse}, expected those of all four modalities; use the normalization "
                f"{others}, or convert a recording with {needs}."
            )
        # Only the official ones have a time axis; giving the others one of length 1 lets one
        # formula serve both.
        lift = (lambda x: x) if published else (lambda x: x[None])
        video = found["videos"]
        if not published:
            video = {k: np.reshape(v, (1, 1)) for k, v in video.items()}
        spread = np.ones(1) if normalization == "counts" else found["responses"]["std"]
        return cls(
            video_mean=_device(lift(video["mean"])),
            video_std=_device(lift(video["std"])),
            response_multiplier=_device(response_multiplier(lift(spread), store.mouse)),
            behavior_std=_device(lift(found["behavior"]["std"])),
            pupil_mean=_device(lift(found["pupil_center"]["mean"])),
            pupil_std=_device(lift(found["pupil_center"]["std"])),
            normalization=normalization,
        )

    @classmethod
    def _between_extremes(cls, store, normalization: str) -> "Statistics":
        """Those of `min_max` and `viv1t2023`; UserError without extremes."""
        published = normalization == "viv1t2023"
        found = store.statistics.official if published else store.statistics.per_neuron
        pair, extremes = ("mean", "std"), ("min", "max")
        wanted = dict.fromkeys(MODALITIES, extremes)
        if published:
            wanted |= dict(videos=pair, responses=pair[1:])
        missing = [
            key for key, names in wanted.items() if not set(names) <= set(found.get(key, ()))
        ]
        if missing:
            raise UserError(
                f"found no {' and '.join(wanted[missing[0]])} of {', '.join(missing)} for mouse "
                f"{store.mouse}, which the normalization {normalization!r} needs; convert the "
                "recording again (stores of before have no extremes), or use another normalization."
            )

        def low_and_range(key):
            first, second = (np.float64(found[key][name]) for name in wanted[key])
            if not published:
                first, second = (
                    x.reshape(1, 1, 1) if key == "videos" else x[None] for x in (first, second)
                )
            return _device(first), _device(second - first)

        video_low, video_range = low_and_range("videos")
        behavior_low, behavior_range = low_and_range("behavior")
        pupil_low, pupil_range = low_and_range("pupil_center")
        responses = found["responses"]
        # The smallest response is 0: deconvolved activity.
        spread = responses["std"] if published else (responses["max"] - responses["min"])[None]
        return cls(
            video_mean=video_low,
            video_std=video_range,
            response_multiplier=_device(response_multiplier(spread, store.mouse)),
            behavior_mean=behavior_low,
            behavior_std=behavior_range,
            pupil_mean=pupil_low,
            pupil_std=pupil_range,
            normalization=normalization,
        )


def _device(x) -> jax.Array:
    """float32 on the device, its last frame repeated once over so that windows may pass the end."""
    x = np.asarray(x, dtype=np.float32)
    if len(x) > 1:
        x = np.concatenate([x, np.broadcast_to(x[-1:], x.shape)])
    return jnp.asarray(x)


def response_threshold(std: np.ndarray) -> float:
    """One hundredth of the mean spread over all entries that are numbers, as recorded."""
    return SILENT_FRACTION * float(np.nanmean(np.asarray(std, dtype=np.float64)))


def response_multiplier(std: np.ndarray, mouse: str) -> np.ndarray:
    """What responses are multiplied with, float64 in the shape of `std` (baselines 1.3, step 1).

    1 / std where std exceeds the threshold; 1 / threshold for (almost) silent neurons and where
    std is not a number. Raises UserError when all responses of the mouse are constant.
    """
    std = np.asarray(std, dtype=np.float64)
    threshold = response_threshold(std) if np.isfinite(std).any() else 0.0
    if threshold <= 0:
        raise UserError(
            f"found constant responses in every neuron of mouse {mouse}, expected some that vary; "
            "the responses of this recording were probably withheld."
        )
    return 1.0 / np.where(std > threshold, std, threshold)


def _at(statistic: jax.Array, start: jax.Array, length: int) -> jax.Array:
    """The statistic at each example's frames, [batch time ...]; [1 1 ...] when it has no time.

    A window that passes the end of the statistics repeats their last frame there; such frames are
    never valid.
    """
    if len(statistic) == 1:
        return statistic[None]
    frames = len(statistic) // 2  # as `_device` made it
    if length > frames:
        reach = ((0, length - frames),) + ((0, 0),) * (statistic.ndim - 1)
        statistic = jnp.pad(statistic, reach, mode="edge")
    # A slice past the end would silently be moved to earlier frames, hence the repeated last frame.
    # Slices rather than a gather of single frames: 5 times faster for the video on a CPU.
    return jax.vmap(lambda first: jax.lax.dynamic_slice_in_dim(statistic, first, length))(start)


def _divide(x: jax.Array, std: jax.Array) -> jax.Array:
    """x / std, and 0 where std is 0 or not finite: never anything that is not finite."""
    usable = jnp.isfinite(std) & (std != 0)
    # The inner choice keeps gradients with respect to raw pixels finite too.
    return jnp.where(usable, x / jnp.where(usable, std, 1.0), 0.0)


def _center(x: jax.Array, mean: jax.Array | None, std: jax.Array) -> jax.Array:
    return _divide(x if mean is None else x - jnp.nan_to_num(mean), std)


def normalize(batch: Batch, statistics: Statistics, *, given_features: bool = False) -> Batch:
    """A raw batch in normalised units, float32, its video with a channel axis of length 1.

    given_features: there are features of a core in place of the video; they stay as they are.

    Video and pupil: (x - mean) / std. Behaviour likewise, but most normalizations have no mean for
    it, as published. Responses: times `response_multiplier`. Frames after an example's last valid
    one (padding) are 0.0 in every field; warm-up frames, which models need as input, are normalised
    like the others. Where std is 0 the result is 0.0; the kit has infinity or not-a-number there.
    """
    length = batch.valid.shape[1]

    def at(name):
        statistic = getattr(statistics, name)
        return None if statistic is None else _at(statistic, batch.start, length)

    if given_features:
        video = batch.video
    else:
        video = _center(batch.video, at("video_mean"), at("video_std"))[..., None]
    fields = {
        "video": video,
        "responses": batch.responses * at("response_multiplier"),
        "behavior": _center(batch.behavior, at("behavior_mean"), at("behavior_std")),
        "pupil_center": _center(batch.pupil_center, at("pupil_mean"), at("pupil_std")),
    }
    shown = jax.lax.cummax(batch.valid.astype(jnp.int32), axis=1, reverse=True) > 0
    for name, x in fields.items():
        mask = shown.reshape(shown.shape + (1,) * (x.ndim - 2))
        fields[name] = jnp.where(mask, x, 0.0).astype(jnp.float32)
    return dataclasses.replace(batch, **fields)


def behavior_as_channels(
    batch: Batch, pupil_center: bool = False, scale: float = 1.0, columns: Sequence[int] = ()
) -> Batch:
    """A normalised batch whose video has the behaviour as further channels, constant over space.

    scale: what these channels are multiplied with, 1 as published. All weights of a filter see the
    same value of such a plane, so Adam moves them together, as many times faster than a pixel's
    as the filter has weights; a small scale makes up for that.

    Channels: video, pupil dilation, running speed (or those `columns` of the behaviour), and with
    `pupil_center` its two coordinates (baselines 1.3, step 7).
    """
    behavior = batch.behavior[..., np.array(columns)] if columns else batch.behavior
    added = [behavior, batch.pupil_center] if pupil_center else [behavior]
    planes = scale * jnp.concatenate(added, axis=-1)[:, :, None, None, :]
    shape = (*batch.video.shape[:-1], planes.shape[-1])
    video = jnp.concatenate([batch.video, jnp.broadcast_to(planes, shape)], axis=-1)
    return dataclasses.replace(batch, video=video)


def crop_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """A batch of some rows of its video, from the first to the one before the second; () is all.

    What the picture between the black bars of a film is (`colliculus2017.picture_rows`). Raises
    UserError for rows that the video does not have.
    """
    if not tuple(rows):
        return batch
    height = batch.video.shape[2]
    if len(rows) != 2 or not 0 <= rows[0] < rows[1] <= height:
        raise UserError(
            f"found inputs.rows {tuple(rows)} for a video of {height} rows, expected the first row "
            "and the one after the last, or () for all; correct them."
        )
    return dataclasses.replace(batch, video=batch.video[:, :, rows[0] : rows[1]])


def pool(batch: Batch, factor: int, rule: str = "mean") -> Batch:
    """A normalised batch with a smaller video, one pixel for a square of factor x factor.

    rule: `mean` of the square; or `bilinear`, its value in the middle, which is the mean of the
    central 2 x 2 pixels for an even factor and the central pixel for an odd one: what interpolation
    between the centres of pixels gives, the published scaling of images (baselines 2.2).
    1 changes nothing. Raises UserError when height or width is not a multiple of the factor.
    """
    check_name(rule, POOL_RULES, "inputs.pool_rule")
    if factor == 1:
        return batch
    examples, time, height, width, channel = batch.video.shape
    if factor < 1 or height % factor or width % factor:
        raise UserError(
            f"found pooling by {factor} for a video of {height}x{width} pixels, expected a factor "
            "that divides both; choose another factor, or 1 for none."
        )
    squares = (examples, time, height // factor, factor, width // factor, factor, channel)
    video = batch.video.reshape(squares)
    if rule == "bilinear":
        middle = slice((factor - 1) // 2, factor // 2 + 1)
        video = video[:, :, :, middle, :, middle]
    return dataclasses.replace(batch, video=video.mean(axis=(3, 5)))


def center(batch: Batch, canvas: Sequence[int]) -> Batch:
    """A batch whose video lies in the middle of a larger frame of zeros.

    canvas: (height, width); (0, 0) changes nothing. Published: 36 x 64 pixels in 64 x 64, the first
    row being row 14 (sota 1.1). Raises UserError for a canvas smaller than the video.
    """
    if tuple(canvas) == (0, 0):
        return batch
    around = [(0, 0)] * 5
    for axis, (size, wanted) in enumerate(zip(batch.video.shape[2:4], canvas, strict=True), 2):
        if wanted < size:
            raise UserError(
                f"found inputs.canvas {tuple(canvas)} for a video of {batch.video.shape[2]}x"
                f"{batch.video.shape[3]} pixels, expected no less; enlarge it, or (0, 0) for none."
            )
        before = (wanted - size) // 2
        around[axis] = (before, wanted - size - before)
    return dataclasses.replace(batch, video=jnp.pad(batch.video, around))


def every(batch: Batch, step: int) -> Batch:
    """Every so many of a batch's frames, the last one among them; 1 changes nothing.

    `start` stays that of the window: nothing that is normalised needs it any more.
    """
    if step == 1:
        return batch
    first = (batch.valid.shape[1] - 1) % step
    frames = {
        field.name: getattr(batch, field.name)[:, first::step]
        for field in dataclasses.fields(batch)
        if field.name != "start"
    }
    return dataclasses.replace(batch, **frames)


def without_negatives(batch: Batch) -> Batch:
    """A batch whose negative responses are 0: a Poisson loss has no lower bound for them."""
    return dataclasses.replace(batch, responses=jnp.maximum(batch.responses, 0.0))


def scale_responses(recorded: jax.Array, start: jax.Array, statistics: Statistics) -> jax.Array:
    """Responses or rates as recorded, in normalised units, [batch time neuron].

    start: [batch], the trial's frame that the first of these frames is.
    """
    return recorded * _at(statistics.response_multiplier, start, recorded.shape[1])


def unscale_responses(normalized: jax.Array, start: jax.Array, statistics: Statistics) -> jax.Array:
    """The inverse of `scale_responses`: predictions in the units of the recording."""
    return normalized / _at(statistics.response_multiplier, start, normalized.shape[1])
