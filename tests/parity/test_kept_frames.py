"""The published loader's clip lengths on the mini recording (case 12_loader_2023)."""

import pytest

from sensojax.recordings import sensorium2023
from tests.goldens import GOLDEN, Golden, golden_files


@pytest.mark.parametrize("path", golden_files("12_loader_2023"))
def test_official_frames_are_where_the_published_loader_stops(path):
    golden = Golden(path)
    for mouse in golden.config["mice_order"]:
        recording = sensorium2023.read(GOLDEN / golden.config["recording"], mouse)
        assert list(recording.tiers) == golden.config["mice"][mouse]["tiers"]
        assert len(recording.neurons) == golden.config["mice"][mouse]["neurons"]
        trials = [recording.read(index) for index in range(len(recording.tiers))]
        kept = golden[f"output/kept_frames/{mouse}"]
        assert [trial.official_frames for trial in trials] == kept.tolist()
        assert all(trial.official_frames <= trial.num_frames for trial in trials)
