"""Write the submission of a run for the tracks of the Sensorium competitions.

    python -m sensojax.submit --workdir runs/baseline --track main,bonus --out submission

In: a run folder (or that of an ensemble) and the stores of its mice; out: a parquet file for each
of the two tiers of a track, named as the rules say, and the zip to upload. Predictions of
finished mice are kept while others are under way, so the same line again continues a stopped one;
a finished file is left alone. With responses at hand a file is scored as the server would:

    python -m sensojax.submit --score submission --stores data/stores

Images (Sensorium 2022) have one track, whose files are CSV (parquet with --parquet); --truth writes
the recorded responses in the same form, and two such files can be scored as the benchmark does:

    python -m sensojax.submit --workdir runs/static --track images --truth --out submission
    python -m sensojax.submit --score submission/submission_file_live_test.csv \
        --truth_file submission/ground_truth_file_test.csv
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from absl import app, flags

from sensojax import errors
from sensojax.errors import UserError, check_name, command_line
from sensojax.evaluation import image_submission, submission, submission_scores
from sensojax.evaluation.predictions import has_responses
from sensojax.evaluation.results import Score
from sensojax.experiments import submitting_images
from sensojax.experiments.predicting import OF_THE_RUN, Predictor
from sensojax.pipeline.windows import SCORED_FRAMES
from sensojax.progress import track as shown
from sensojax.store import TrialStore, stores_in
from sensojax.training import mesh

IMAGES = "images"  # the track of mice that saw images


def submit(
    workdir: str | Path,
    tracks: Sequence[str],
    out: str | Path,
    *,
    mice: Sequence[str] = (),
    weights: str = "best",
    stores: str = "",
    frames: str = "kit",
    double: bool = True,
    bits: int = submission.ALL_BITS,
) -> list[Path]:
    """Writes the files of each track and their zip; returns the paths of the zips.

    mice: () for those whose responses were withheld, or all when none were. weights, stores,
    frames: see `Predictor`; double, bits: see `submission.write`. Raises UserError when the run
    cannot predict these mice, tiers or frames, when a file of another run is in the way, and when
    the zip is too large to be uploaded.
    """
    for track in tracks:
        check_name(track, (*submission.TRACKS, IMAGES), "track")
        if track == IMAGES:
            raise UserError(f"found tracks {', '.join(tracks)}; submit {IMAGES} by itself.")
    submission.check_bits(bits)
    predictor = Predictor(workdir, weights, stores, frames=frames, units="official")
    for mouse in mice:
        check_name(mouse, predictor.stores, "mouse")
    archives = []
    with jax.set_mesh(predictor.placement.mesh):
        for track in tracks:
            paths = [Path(out) / submission.NAMES[tier] for tier in submission.TRACKS[track]]
            for tier, path in zip(submission.TRACKS[track], paths, strict=True):
                chosen = list(mice) or _withheld(predictor.stores, tier)
                about = dict(tier=tier, mice=chosen, double=double, bits=bits, **predictor.about)
                _write(path, predictor, tier, chosen, about)
                print(f"{path}: {len(chosen)} mice, {_megabytes(path)} MB", flush=True)
            archives.append(Path(out) / f"submission_{track}.zip")
            submission.pack(archives[-1], paths)
            print(f"{archives[-1]}: {_megabytes(archives[-1])} MB, of at most 5,000 MB", flush=True)
    return archives


def score(paths: Sequence[str | Path], stores: str | Path, frames: str = "") -> list[Score]:
    """The scores of submission files, or of those in a folder, under either's names.

    frames: "" for those that a file itself names, or else those of the published code.
    """
    opened = {mouse: TrialStore.open(Path(stores) / mouse) for mouse in stores_in(stores)}
    if not opened:
        raise UserError(f"found no stores in {stores}, expected those of the mice; give --stores.")
    counted = None
    if frames:
        check_name(frames, SCORED_FRAMES, "frames")
        counted = SCORED_FRAMES[frames]
    files = []
    for path in map(Path, paths):
        inside = [submission.find(path, tier) for tier in submission.NAMES]
        files += [file for file in inside if file] or [path]
    return [submission_scores.score(file, opened, frames=counted) for file in files]


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f}"


def _withheld(stores, tier: str) -> list[str]:
    """The mice of the competition, if they are among these, else all."""
    found = [mouse for mouse, store in stores.items() if not has_responses(store, tier)]
    return found or list(stores)


def _write(path: Path, predictor: Predictor, tier: str, mice: Sequence[str], about: dict) -> None:
    """Writes the file of a tier, from parts that hold one mouse each."""
    if path.is_file():
        told = submission.about(path)
        if told != about:
            other = next((k for k in about if told.get(k) != about[k]), "run")
            raise UserError(
                f"{path} was written with another {other}, expected that of this command; delete "
                "the file, or choose another --out."
            )
        return
    parts = path.with_name(f"{path.name}.parts")
    of_parts = dict(tier=tier, **predictor.about)
    made = [_part(parts / f"{mouse}.parquet", predictor, tier, mouse, of_parts) for mouse in mice]
    total = sum(len(predictor.stores[mouse].rows(tier)) for mouse in mice)
    rows = shown(_rows(made), f"writing {path.name}", total)
    submission.write(path, rows, about, double=about["double"], bits=about["bits"])
    shutil.rmtree(parts)


def _rows(parts: Sequence[Path]) -> Iterator[submission.Row]:
    for part in parts:
        yield from submission.read(part)


def _part(part: Path, predictor: Predictor, tier: str, mouse: str, about: dict) -> Path:
    """The predictions of one mouse, unless they are there already."""
    if part.is_file() and submission.about(part) == about:
        return part
    store = predictor.stores[mouse]
    recorded = len(TrialStore.open(store.path).neurons)
    if len(store.neurons) < recorded:
        raise UserError(
            f"the run was trained on {len(store.neurons)} of the {recorded} neurons of mouse "
            f"{mouse}, expected all; a submission needs them (data.max_neurons 0)."
        )
    lengths, trials = predictor.trials(mouse, [tier])
    for row, length in lengths.items():
        if not length:
            raise UserError(
                f"trial {store.trials.index[row]} of mouse {mouse} has "
                f"{store.trials.num_frames[row]} frames and none is left when the first "
                f"{predictor.frames.skip_frames} are skipped; choose other --frames."
            )

    def rows():
        ids = store.neurons.ids.astype("uint32")
        for row, predicted in shown(trials, f"{mouse}, {tier}", len(lengths)):
            yield submission.Row(mouse, int(store.trials.index[row]), predicted.T, ids)

    submission.write(part, rows(), about, double=False, packed=False)
    return part


@command_line
def _main(argv: list[str]) -> None:
    del argv
    if TRUTH_FILE.value:
        for path in SCORE.value:
            scores = image_submission.score(path, TRUTH_FILE.value)
            print(image_submission.described(scores, path, TRUTH_FILE.value))
        return
    if SCORE.value:
        for each in score(SCORE.value, STORES.value, FRAMES.value if FRAMES.present else ""):
            print(each.describe())
        return
    mesh.join_processes()
    if TRACKS.value == [IMAGES]:
        submitting_images.submit(
            WORKDIR.value,
            OUT.value,
            mice=MICE.value,
            weights=WEIGHTS.value,
            stores=STORES.value,
            parquet=PARQUET.value,
            truth=TRUTH.value,
        )
        return
    submit(
        WORKDIR.value,
        TRACKS.value,
        OUT.value,
        mice=MICE.value,
        weights=WEIGHTS.value,
        stores=STORES.value,
        frames=FRAMES.value,
        double=not FLOAT32.value,
        bits=BITS.value,
    )


if __name__ == "__main__":  # defined here, so that importing this module defines no flags
    WORKDIR = flags.DEFINE_string("workdir", "runs/dynamic", "Folder of a run or an ensemble.")
    TRACKS = flags.DEFINE_list("track", ["main"], "main, bonus, both with a comma, or images.")
    OUT = flags.DEFINE_string("out", "submission", "Folder of the files.")
    MICE = flags.DEFINE_list("mice", [], "Default: those with withheld responses, or all.")
    WEIGHTS = flags.DEFINE_enum("weights", "best", ["best", "newest"], "Which weights predict.")
    STORES = flags.DEFINE_string("stores", "", "Folder of the stores, when they have been moved.")
    FRAMES = flags.DEFINE_string(
        "frames", "kit", f"Predicted frames: {', '.join((*SCORED_FRAMES, OF_THE_RUN))}."
    )
    FLOAT32 = flags.DEFINE_bool("float32", False, "Write 32-bit numbers, not 64-bit ones.")
    BITS = flags.DEFINE_integer(
        "bits", submission.ALL_BITS, "Binary digits kept; 15 saves a third."
    )
    PARQUET = flags.DEFINE_bool("parquet", False, "Files of images as parquet, not CSV.")
    TRUTH = flags.DEFINE_bool("truth", False, "Also write the recorded responses to images.")
    TRUTH_FILE = flags.DEFINE_string("truth_file", "", "Score files of images against this one.")
    SCORE = flags.DEFINE_list("score", [], "Score these files or folders; needs --stores.")
    app.run(_main, flags_parser=command_line(errors.parse_flags))
