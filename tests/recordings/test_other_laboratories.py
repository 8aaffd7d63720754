"""A laboratory with another monitor, microscope and plan of trials uses everything as it is.

Frames of 28 x 50 pixels (the competition's have 36 x 64) at 25 Hz, padded to 400 frames, 37 neurons
in one plane without unit numbers, tiers of its own, videos as bytes or 32-bit numbers, no
statistics: what a second laboratory published in this layout.
"""

from pathlib import Path

import numpy as np
import pytest

from scripts import compute_statistics, convert, save_responses
from sensojax import submit
from sensojax.errors import UserError
from sensojax.evaluation import submission
from sensojax.experiments.scoring import Scorer
from sensojax.recordings import sensorium2023
from sensojax.store import TrialStore
from sensojax.tools import response_files
from tests import handmade, runs

HEIGHT, WIDTH, PADDED, NEURONS, FRAME_RATE_HZ = 28, 50, 400, 37, 25.0
TIERS = ("train",) * 8 + ("validation",) * 4
SUBMITTED = ("live_test_main", "final_test_main")
CHANGES = {
    "data.recordings": "sensorium2023",
    "data.window_frames": 20,
    "core.spatial_kernels": (9,),
    "core.strides": (4,),
    "evaluation.validation": "validation",
    "evaluation.tiers": ("validation",),
    "schedule.steps": 2,
    "schedule.warmup_steps": 1,
    "train.evaluate_every": 2,
    "train.log_every": 1,
    "train.checkpoint_every": 2,
}


def write_session(folder: Path, name: str, dtype: type, tiers: tuple[str, ...]) -> Path:
    """A session of the other laboratory; bytes cannot say where padding begins, signals do."""
    session, rng = folder / name, np.random.default_rng(len(tiers))
    for trial in range(len(tiers)):
        frames = int(rng.integers(60, 90))
        video = rng.integers(0, 256, (HEIGHT, WIDTH, PADDED)).astype(dtype)
        if dtype is not np.uint8:
            video += dtype(0.25)
            video[..., frames:] = np.nan
        handmade.save(session / "data" / "videos" / f"{trial}.npy", video)
        for key, rows in {"responses": NEURONS, "behavior": 2, "pupil_center": 2}.items():
            signal = rng.exponential(0.15, (rows, PADDED)).astype(np.float32)
            signal[:, frames:] = np.nan
            handmade.save(session / "data" / key / f"{trial}.npy", signal)
    position_um = np.column_stack([rng.random((NEURONS, 2)) * 900, np.full(NEURONS, 180.0)])
    handmade.save(session / "meta/neurons/cell_motor_coordinates.npy", position_um)
    handmade.save(session / "meta/trials/tiers.npy", np.array(tiers))
    handmade.save(session / "meta/trials/target_fps.npy", np.full(len(tiers), FRAME_RATE_HZ))
    return session


@pytest.fixture(autouse=True)
def compiled_once(cache):
    with runs.cached(cache):
        yield


@pytest.mark.parametrize(
    ("dtype", "stored"), [(np.uint8, "uint8"), (np.float32, "float32"), (np.float64, "float32")]
)
def test_a_session_is_read_converted_and_summarized_as_it_is(tmp_path, dtype, stored):
    session = write_session(tmp_path / "sessions", "VIPcre232-FOV1-day1", dtype, TIERS)
    convert.main([str(session), "--out", str(tmp_path / "stores"), "--verify"])
    store = TrialStore.open(tmp_path / "stores" / session.name)
    assert (store.height, store.width, store.frame_rate_hz) == (HEIGHT, WIDTH, FRAME_RATE_HZ)
    assert store.video_dtype == stored and store.trials.num_frames.max() < 90
    assert store.neurons.ids.tolist() == list(range(NEURONS))
    assert np.unique(store.neurons.position_um[:, 2]).tolist() == [180.0]
    recording = sensorium2023.read(session)
    for row in (0, 11):
        np.testing.assert_array_equal(store.read(row)["video"], recording.read(row).video)

    for source in (session, tmp_path / "stores"):
        out = tmp_path / f"statistics of {source.name}"
        compute_statistics.main([str(source), "--out", str(out)])
        assert np.load(out / session.name / "response" / "median.npy").shape == (NEURONS,)
        np.testing.assert_allclose(
            np.load(out / session.name / "video" / "mean.npy"),
            store.statistics.per_neuron["videos"]["mean"],
        )
    save_responses.main([str(session), "--out", str(tmp_path)])
    path = tmp_path / f"{session.name}.h5"
    assert len(response_files.tiers(path)) == len(TIERS)
    (found,) = response_files.read_responses(path, [3])
    np.testing.assert_array_equal(found, recording.read(3).responses.T[:, 50:300])


@pytest.mark.slow
def test_a_model_is_trained_scored_and_submitted(tmp_path):
    """In units per neuron; a submission needs statistics for every frame, which one mouse gets."""
    sessions, stores = tmp_path / "sessions", tmp_path / "stores"
    bare, complete = "lab-bytes", "lab-floats"
    for name, dtype in ((bare, np.uint8), (complete, np.float32)):
        write_session(sessions, name, dtype, TIERS + SUBMITTED)
    compute_statistics.main([str(sessions / complete), "--out", str(sessions), "--official"])
    convert.main([str(sessions), "--out", str(stores)])
    scores = runs.run(tmp_path / "run", stores, CHANGES)
    found = {mouse: len(score.correlation) for mouse, score in scores["validation"].mice.items()}
    assert found == {bare: NEURONS, complete: NEURONS}
    assert (tmp_path / "run" / "report.html").is_file()
    again = Scorer().score(tmp_path / "run", ["validation"])["validation"]
    assert again.correlation == pytest.approx(scores["validation"].correlation, rel=1e-6)

    def submitted(mouse: str, track: str = "main") -> None:
        submit.submit(tmp_path / "run", [track], tmp_path / "out", mice=[mouse])

    submitted(complete)
    store = TrialStore.open(stores / complete)
    for tier in SUBMITTED:
        (row,) = submission.read(tmp_path / "out" / submission.NAMES[tier])
        (place,) = store.rows(tier)
        # Frames that no trial of tier train reaches have no statistics, and so no prediction.
        frames = store.trials.official_frames[place] - 50
        assert row.prediction.shape == (NEURONS, frames) and np.isfinite(row.prediction).all()
    with pytest.raises(UserError, match=r"mouse lab-floats has no trial of tier 'live_test_bonus'"):
        submitted(complete, "bonus")
    (tmp_path / "out" / submission.NAMES["live_test_main"]).unlink()
    with pytest.raises(UserError, match=r"found no official statistics of .*lab-bytes"):
        submitted(bare)
