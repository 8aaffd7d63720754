"""A file arrives whole or not at all, whatever the server does."""

import hashlib
import io
import random
import types
from pathlib import Path

import pytest

from sensojax.errors import UserError
from sensojax.tools import downloading
from sensojax.tools.downloading import fetching, obtaining
from sensojax.tools.downloading.display import Display, Stopped
from sensojax.tools.downloading.partial import Partial
from tests.serving import CONTENT, FILES, Listening, Server, Trick, no_room, zipped

OTHER = random.Random(1).randbytes(200_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(fetching, "PROGRESS", 1)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    with Server({"a.bin": CONTENT}) as server:
        yield server


def accept(path: Path) -> None:
    pass


def only(expected: bytes):
    """A check that knows what the file must hold."""

    def check(path: Path) -> None:
        if path.read_bytes() != expected:
            raise downloading.Damaged("it is another file")

    return check


def fetched(server, tmp_path, check=accept, watch=None, name="a.bin") -> bytes:
    """What fetch brought, and that it left nothing else."""
    path = downloading.fetch(f"{server.address}/{name}", tmp_path / "to" / "file", check, watch)
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    return path.read_bytes()


# A whole file, each byte once ---------------------------------------------------------------------


def test_file_arrives_whole_and_progress_is_told(server, tmp_path):
    watch = Listening()
    assert fetched(server, tmp_path, watch=watch) == CONTENT
    assert watch.done[0] == (0, len(CONTENT)) and watch.done[-1] == (len(CONTENT), len(CONTENT))
    assert watch.said == []


def test_cut_connections_are_continued_and_no_byte_comes_twice(server, tmp_path):
    server.tricks = [Trick(cut=n) for n in (50_000, 0, 1, 99_999)]
    watch = Listening()
    assert fetched(server, tmp_path, watch=watch) == CONTENT
    assert [request.first for request in server.requests] == [None, 50_000, 50_000, 50_001, 150_000]
    assert server.sent == len(CONTENT)
    assert "ended at 50000 of 200000 bytes; trying again" in watch.said[0]


def test_a_server_that_gives_small_ranges_is_asked_again(server, tmp_path):
    server.tricks = [Trick(cut=50_000), *[Trick(limit=40_000)] * 3]
    assert fetched(server, tmp_path) == CONTENT
    assert server.sent == len(CONTENT)


def test_a_later_call_continues_where_an_earlier_one_stopped(server, tmp_path):
    server.always = Trick(pause=0.001)
    with pytest.raises(Stopped):
        fetched(server, tmp_path, watch=Listening(stop_at=60_000))
    assert not (tmp_path / "to" / "file").exists()
    have = (tmp_path / "to" / "file.partial").stat().st_size
    assert fetched(server, tmp_path, check=only(CONTENT)) == CONTENT
    assert server.requests[-1].first == have >= 60_000
    assert server.requests[-1].sent == len(CONTENT) - have


def test_bytes_of_another_address_are_not_continued(server, tmp_path):
    server.files["b.bin"] = OTHER
    server.tricks = [Trick(pause=0.001)]
    with pytest.raises(Stopped):
        fetched(server, tmp_path, watch=Listening(stop_at=60_000))
    assert fetched(server, tmp_path, name="b.bin") == OTHER
    assert server.requests[-1].first is None


@pytest.mark.parametrize("note", ["", "{", "[]", '{"address": 3}'])
def test_bytes_without_a_readable_note_are_not_continued(server, tmp_path, note):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "file.partial").write_bytes(OTHER[:1000])
    (tmp_path / "to" / "file.partial.json").write_text(note)
    assert fetched(server, tmp_path) == CONTENT


def test_a_file_that_was_complete_before_the_kill_is_not_fetched_again(server, tmp_path):
    def killed(path):
        raise Stopped

    with pytest.raises(Stopped):
        fetched(server, tmp_path, check=killed)
    assert fetched(server, tmp_path) == CONTENT
    assert len(server.requests) == 1


# Servers that do not know, or lie -----------------------------------------------------------------


def test_a_server_without_ranges_sends_everything_again(server, tmp_path):
    server.tricks = [Trick(cut=70_000, ranges=False), Trick(ranges=False)]
    assert fetched(server, tmp_path) == CONTENT
    assert server.sent == len(CONTENT) + 70_000


@pytest.mark.parametrize("second", [Trick(), Trick(keep_range=True)])
def test_pieces_of_a_changed_file_are_never_joined(server, tmp_path, second):
    server.tricks = [Trick(cut=70_000), second]
    watch = Listening()
    watch.say = lambda sentence: server.files.update({"a.bin": OTHER})
    assert fetched(server, tmp_path, watch=watch) == OTHER


def test_a_changed_length_gives_a_changed_file_away_without_etags(server, tmp_path):
    server.tricks = [Trick(cut=70_000, etag=False), Trick(etag=False), Trick(etag=False)]
    watch = Listening()
    watch.say = lambda sentence: server.files.update({"a.bin": OTHER + b"longer"})
    assert fetched(server, tmp_path, watch=watch) == OTHER + b"longer"


def test_joined_pieces_that_nothing_gave_away_are_found_by_the_check(server, tmp_path):
    server.tricks = [Trick(cut=70_000, etag=False), Trick(etag=False)]
    watch = Listening()
    watch.say = lambda sentence: server.files.update({"a.bin": OTHER})
    assert fetched(server, tmp_path, check=only(OTHER), watch=watch) == OTHER
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "trick", [Trick(length=False), Trick(chunked=True), Trick(length=False, etag=False)]
)
def test_a_file_of_unknown_length_arrives(server, tmp_path, trick):
    server.always = trick
    assert fetched(server, tmp_path) == CONTENT


def test_a_cut_in_chunks_is_noticed_and_continued(server, tmp_path):
    server.tricks = [Trick(chunked=True, cut=70_000)]
    assert fetched(server, tmp_path) == CONTENT
    assert server.requests[1].first == 70_000


def test_a_length_that_is_too_large_ends_in_a_sentence_with_both_numbers(server, tmp_path):
    server.always = Trick(ranges=False, lie=10)
    with pytest.raises(UserError, match=r"gave up .*a\.bin after 6 attempts .*200000 of 200010"):
        fetched(server, tmp_path)
    assert (tmp_path / "to" / "file.partial").stat().st_size == 200_000


def test_a_length_that_was_too_large_is_put_right_by_the_next_answer(server, tmp_path):
    server.tricks = [Trick(lie=10)]  # then it says 416, nothing lies beyond 200000
    assert fetched(server, tmp_path) == CONTENT


def test_a_length_that_is_too_small_is_found_by_the_check(server, tmp_path):
    server.tricks = [Trick(lie=-10)]
    watch = Listening()
    assert fetched(server, tmp_path, check=only(CONTENT), watch=watch) == CONTENT
    assert "arrived damaged (it is another file); fetching it once more" in watch.said[0]


def test_a_file_that_is_damaged_twice_is_given_up_and_not_kept(server, tmp_path):
    with pytest.raises(downloading.Damaged, match=r"arrived damaged twice .*another file"):
        fetched(server, tmp_path, check=only(OTHER))
    assert len(server.requests) == 2
    assert not list((tmp_path / "to").iterdir())


def test_a_file_that_must_not_be_used_is_fetched_once_and_not_kept(server, tmp_path):
    def refuse(path):
        raise downloading.Untrusted("it is dangerous")

    with pytest.raises(UserError, match="it is dangerous"):
        fetched(server, tmp_path, check=refuse)
    assert len(server.requests) == 1 and not list((tmp_path / "to").iterdir())


def test_a_long_wait_can_be_stopped(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 100.0)
    server.tricks = [Trick(cut=70_000)]
    watch = Listening()
    watch.say = lambda sentence: setattr(watch, "stop_at", 0)
    with pytest.raises(Stopped):
        fetched(server, tmp_path, watch=watch)


# Servers that are busy, moved, silent or not there ------------------------------------------------


def test_a_busy_server_is_asked_again_after_growing_waits(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(fetching, "_wait", lambda seconds, partial, watch: waits.append(seconds))
    server.tricks = [
        Trick(status=503),
        Trick(status=429, headers={"Retry-After": "17"}),
        Trick(status=500, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
        Trick(status=502, headers={"Retry-After": "999999"}),
        Trick(status=504, headers={"Retry-After": "soon"}),
    ]
    assert fetched(server, tmp_path) == CONTENT
    assert waits == [1, 17, 4, fetching.LONGEST_WAIT, 16]


def test_a_server_that_stays_busy_is_given_up(server, tmp_path):
    server.always = Trick(status=503)
    with pytest.raises(UserError, match=r"6 attempts .*answered 503 Service Unavailable.*network"):
        fetched(server, tmp_path)
    assert len(server.requests) == 6


def test_a_silent_server_is_left_after_a_while_and_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.1)
    server.tricks = [Trick(hang=0.3)]
    watch = Listening()
    assert fetched(server, tmp_path, watch=watch) == CONTENT
    assert "timed out" in watch.said[0]


def test_no_server_at_all_is_given_up_in_one_sentence(tmp_path):
    with Server({}) as gone:
        address = gone.address
    with pytest.raises(UserError, match=r"gave up .*refused.*check the network") as refused:
        downloading.fetch(f"{address}/a.bin", tmp_path / "file", accept)
    assert "\n" not in str(refused.value)
    assert downloading.size_of(f"{address}/a.bin") is None


def test_redirects_are_followed_also_when_continuing(server, tmp_path):
    moved = Trick(status=302, headers={"Location": "/files/a.bin"})
    server.tricks = [moved, Trick(cut=70_000), moved]
    assert fetched(server, tmp_path, name="elsewhere.bin") == CONTENT
    assert server.sent == len(CONTENT)


def test_a_circle_of_redirects_is_refused(server, tmp_path):
    server.always = Trick(status=302, headers={"Location": "/files/a.bin"})
    with pytest.raises(UserError, match="was refused") as refused:
        fetched(server, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named_with_what_is_near(server, tmp_path):
    with pytest.raises(UserError, match=r"found no b\.bin at .*404 Not Found.*mean 'a\.bin'"):
        fetched(server, tmp_path, name="b.bin")
    assert len(server.requests) == 1
    assert downloading.size_of(f"{server.address}/b.bin") is None


def test_a_forbidden_file_is_refused_at_once(server, tmp_path):
    server.always = Trick(status=403)
    with pytest.raises(UserError, match=r"refused .403 Forbidden"):
        fetched(server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://h/x", "a.bin", "http:///x", ""])
def test_only_addresses_of_the_web_are_fetched(tmp_path, address):
    with pytest.raises(UserError, match="expected one that begins with https://"):
        downloading.fetch(address, tmp_path / "file", accept)


def test_size_is_asked_without_fetching(server):
    assert downloading.size_of(f"{server.address}/a.bin") == len(CONTENT)
    assert (server.heads, server.sent) == (1, 0)


# This machine -------------------------------------------------------------------------------------


def test_a_full_disk_is_told_before_the_first_byte(server, tmp_path, monkeypatch):
    no_room(monkeypatch, 100_000_000)
    downloading.check_space(tmp_path / "not" / "yet", 100_000_000, "x")
    with pytest.raises(UserError, match=r"x needs 3\.50 GB in .* 0\.10 GB free; .*--out"):
        downloading.check_space(tmp_path / "not" / "yet", 3_500_000_000, "x")
    no_room(monkeypatch, 199_999)
    with pytest.raises(UserError, match=r"file needs 0\.00 GB"):
        fetched(server, tmp_path)
    assert not list((tmp_path / "to").iterdir())


def test_two_processes_do_not_fetch_the_same_file(server, tmp_path):
    sentence = "is being written by another process"
    with Partial(tmp_path / "to" / "file", "other"), pytest.raises(UserError, match=sentence):
        fetched(server, tmp_path)
    assert fetched(server, tmp_path) == CONTENT


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_digests_are_told_by_their_length(tmp_path, algorithm):
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    obtaining.check_digest(path, digest.upper())
    with pytest.raises(downloading.Damaged, match=f"a.bin has the {algorithm} {digest}"):
        obtaining.check_digest(path, digest[::-1])
    with pytest.raises(UserError, match="expected md5, sha1, sha256 or sha512"):
        obtaining.check_digest(path, digest[:-1])


def test_what_a_kill_at_the_very_end_left_is_tidied_away(server, tmp_path):
    server.files["a.zip"] = zipped(FILES)
    words = (f"{server.address}/a.zip", tmp_path, "a")
    assert downloading.obtain(*words) == (tmp_path / "a.zip", "fetched")
    (tmp_path / "a.zip.partial.json").write_text("{}")
    assert downloading.obtain(*words) == (tmp_path / "a.zip", "there")
    assert downloading.obtain(*words, unzip=True) == (tmp_path / "a", "unpacked")
    (tmp_path / "a.zip.partial").write_bytes(server.files["a.zip"])
    assert downloading.obtain(*words, unzip=True) == (tmp_path / "a", "there")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a.zip"}


# Shown --------------------------------------------------------------------------------------------


def test_lines_tell_what_is_done_how_fast_and_how_long_still(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 0.0, 5.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr(
        "sensojax.tools.downloading.display.time",
        types.SimpleNamespace(monotonic=lambda: next(clock)),
    )
    with Display() as display:
        watch = display.watch("mouse A")
        watch.begin("fetching")
        watch.at(10_000_000, 30_000_000)  # of an earlier run
        watch.at(14_000_000, 30_000_000)
        watch.at(20_000_000, 30_000_000)
        display.stop()
        with pytest.raises(Stopped):
            watch.at(21_000_000, 30_000_000)
    said = "mouse A fetching: 20.0 of 30.0 MB, 0.5 MB/s, 20 s left\n"
    assert capsys.readouterr().err == said


def test_bars_in_a_terminal_show_each_transfer(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Display() as display:
        for name in ("mouse A", "mouse F"):
            watch = display.watch(name)
            watch.begin("fetching")
            watch.at(0, 3_000_000)
            watch.at(1_500_000, 3_000_000)
            watch.begin("testing")
            watch.at(1_000_000, None)
        watch.say("a sentence")
        display.stop()
        with pytest.raises(Stopped):
            watch.at(3, 3)
    for part in ("mouse A testing", "mouse F testing", "1.0", "a sentence"):
        assert part in terminal.getvalue()
