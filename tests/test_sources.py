"""Recordings and stores are found and read alike, and one bad mouse does not stop the others."""

import threading
from pathlib import Path

import numpy as np
import pytest

from sensojax import conversion
from sensojax.errors import UserError
from sensojax.recordings import sensorium2023
from sensojax.tools import sources
from tests import handmade

MICE = ("dynamic1-1-1-Video-a", "dynamic2-1-1-Video-b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two sessions and the stores made of them."""
    made = tmp_path_factory.mktemp("sources")
    for mouse in MICE:
        handmade.write_session(made / "sessions", mouse)
        conversion.write(made / "stores", sensorium2023.read(made / "sessions" / mouse))
    return made


@pytest.mark.parametrize("kind", ["sessions", "stores"])
def test_mice_are_found_in_folders_and_one_by_one(folder, kind):
    every = folder / kind
    assert tuple(sources.find([every])) == MICE
    assert tuple(sources.find([every / mouse for mouse in MICE])) == MICE
    for mouse, opening in sources.find([every]).items():
        assert opening().mouse == mouse and opening().where.startswith(str(every))


def test_trials_of_a_store_are_those_of_its_recording(folder):
    kept = [
        next(iter(sources.find([folder / kind / MICE[0]]).values()))()
        for kind in ("sessions", "stores")
    ]
    assert kept[0].tiers == kept[1].tiers == handmade.TIERS
    assert kept[0].rows() == kept[1].rows() == [0, 1, 2, 3, 4, 5, 7]  # without tier none
    assert kept[1].rows(["train"]) == [0, 2, 5, 7]
    for row in range(len(handmade.TIERS)):
        recorded, stored = (each.read(row) for each in kept)
        assert (recorded.index, recorded.tier) == (stored.index, stored.tier)
        assert recorded.checksum == stored.checksum
        for name in ("video", "responses", "behavior", "pupil_center"):
            np.testing.assert_array_equal(
                getattr(recorded, name).astype(np.float32), getattr(stored, name)
            )


def test_an_empty_trial_of_a_store_reads_as_empty(tmp_path):
    path = conversion.write(tmp_path, handmade.cut(handmade.recording(), 1, 0))
    (opening,) = sources.find([path]).values()
    assert opening().read(1).num_frames == 0


def test_unknown_tiers_and_a_mouse_in_two_places_are_refused(folder):
    (opening, _) = sources.find([folder / "stores"]).values()
    with pytest.raises(UserError, match=r"has no trial of tier 'trian'; .*did you mean 'train'"):
        opening().rows(["trian"])
    with pytest.raises(UserError, match=r"is in .*sessions and in .*stores; give one of them"):
        sources.find([folder / "sessions", folder / "stores"])


def test_what_one_mouse_cannot_is_said_and_the_others_go_on(capsys):
    done = []

    def act(mouse):
        if mouse == "b":
            raise UserError("b is broken.")
        done.append(mouse)

    with pytest.raises(UserError, match=r"1 of 3 mice could not be done \(reasons above\)"):
        sources.for_each("abc", act, "done")
    assert done == ["a", "c"] and capsys.readouterr().err == "error: b is broken.\n"
    with pytest.raises(UserError, match=r"^b is broken\.$"):
        sources.for_each("b", act, "done")


def test_reading_ahead_keeps_the_order_and_goes_no_further_than_asked():
    begun, hold = [], threading.Event()

    def make(item):
        begun.append(item)
        hold.wait(10)
        return item * 10

    ahead = sources.read_ahead(range(100), make, workers=2)
    hold.set()
    assert next(ahead) == 0
    assert max(begun) <= 5
    assert list(ahead) == [10 * item for item in range(1, 100)]


def test_an_error_ahead_comes_when_its_turn_has_come():
    def make(item):
        if item == 3:
            raise UserError("3")
        return item

    found = []
    with pytest.raises(UserError, match="3"):
        for item in sources.read_ahead(range(10), make, workers=4):
            found.append(item)
    assert found == [0, 1, 2]
