"""The table of published sessions agrees with itself and is found by every name people use."""

import urllib.parse

import pytest

from sensojax.errors import UserError
from sensojax.recordings import published

ALL = published.SESSIONS


def letters(*arguments) -> str:
    return "".join(session.letter for session in published.choose(*arguments))


def test_sessions_are_those_of_the_competitions():
    video = [session for session in ALL if session.set != "2022"]
    assert len(video) == 10 and sum(session.neurons for session in video) == 78_853
    new = [session for session in ALL if session.set == "new"]
    assert sum(each.neurons for each in new) == 40_034 and sum(each.trials for each in new) == 3555
    images = [session for session in ALL if session.set == "2022"]
    assert len(images) == 7 and sum(session.neurons for session in images) == 54_569


def test_no_two_sessions_share_a_name_or_letter():
    for name in ("letter", "name", "key", "address"):
        assert len({getattr(session, name) for session in ALL}) == len(ALL)


@pytest.mark.parametrize("session", ALL, ids=lambda session: session.letter)
def test_every_session_is_found_by_each_of_its_names(session):
    animal = session.key.split("-")[0]
    for name in (session.letter, session.letter.lower(), session.name, session.key, animal):
        assert published.choose([name]) == [session]


@pytest.mark.parametrize("session", ALL, ids=lambda session: session.letter)
def test_addresses_are_of_zips_in_the_archive(session):
    parts = urllib.parse.urlsplit(session.address)
    assert (parts.scheme, parts.hostname) == ("https", "gin.g-node.org")
    assert parts.path.endswith(f"/raw/master/{session.name}.zip")


def test_sets_and_mice_choose_in_the_order_of_the_table():
    assert letters([], "old") == "ABCDE" and letters([], "new") == "FGHIJ"
    assert letters([], "2023") == "ABCDEFGHIJ" and letters([], "2022") == "1234567"
    assert letters() == "ABCDEFGHIJ1234567"
    assert letters(["f", "29156-11-10"]) == "AF" and letters(["G"], "2023") == "G"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["K"],), r"mouse 'K', expected one of A \(29156-11-10\), .*7 \(23964-4-22\)\.$"),
        ((["29513-3-6"],), "did you mean '29513-3-5'"),
        (([], "2024"), "set '2024', expected one of 2022, 2023, new, old"),
        ((["A"], "new"), "mouse A, which is not of set new but of old"),
    ],
)
def test_wrong_names_get_one_sentence(arguments, said):
    with pytest.raises(UserError, match=said):
        published.choose(*arguments)


def test_monitor_is_the_stated_one_and_as_wide_as_the_pictures():
    """36 x 64 pixels must be square on it, or degrees would differ between the axes."""
    monitor = ALL[0].monitor
    assert (monitor.width_cm, monitor.height_cm, monitor.distance_cm) == (56.5, 31.8, 15.0)
    assert monitor.width_cm / monitor.height_cm == pytest.approx(64 / 36, rel=0.001)
