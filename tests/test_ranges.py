"""A file behind an address reads like one that is here, and only what is asked for is fetched."""

import io
import random

import h5py
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.tools.downloading import fetching, ranges
from sensojax.tools.downloading.ranges import RemoteStream, read_json, read_text
from tests.serving import Server, Trick

CONTENT = random.Random(0).randbytes(40_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(ranges, "BLOCK", 1000)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    with Server({"a.bin": CONTENT}) as server:
        yield server


def opened(server) -> RemoteStream:
    return RemoteStream(f"{server.address}/a.bin")


def test_any_part_reads_as_it_would_from_a_file(server):
    stream, rng = opened(server), random.Random(1)
    assert stream.size == len(CONTENT) and stream.seekable() and stream.readable()
    for _ in range(200):
        start, length = rng.randrange(41_000), rng.choice([1, 10, 999, 1000, 1001, 5500, 50_000])
        assert stream.seek(start) == start == stream.tell()
        assert stream.read(length) == CONTENT[start : start + length]
    assert stream.seek(-7, io.SEEK_END) == 39_993 and stream.read() == CONTENT[-7:]
    stream.seek(100)
    assert stream.seek(5, io.SEEK_CUR) == 105 and stream.read(3) == CONTENT[105:108]
    assert stream.seek(-5, io.SEEK_SET) == 0


def test_only_blocks_that_are_asked_for_are_fetched_and_once(server):
    stream = opened(server)
    for start in (20_100, 20_500, 100, 20_000):
        stream.seek(start)
        stream.read(300)
    assert [request.first for request in server.requests] == [0, 20_000]
    assert stream.fetched == 2000


def test_reading_on_takes_ever_more_blocks_at_a_time(server):
    stream = opened(server)
    for _ in range(40):
        stream.read(1000)
    lengths = [request.last - request.first + 1 for request in server.requests]
    assert lengths == [1000, 2000, 4000, 8000, 16_000, 9000]
    assert stream.fetched == len(CONTENT)


def test_memory_is_bounded(server, monkeypatch):
    monkeypatch.setattr(ranges, "KEPT", 5)
    monkeypatch.setattr(ranges, "AHEAD", 3)
    stream = opened(server)
    assert stream.read(len(CONTENT)) == CONTENT
    assert len(stream._blocks) <= 5


def test_cut_connections_and_busy_servers_are_asked_again(server):
    stream = opened(server)
    server.tricks = [Trick(cut=300), Trick(status=503), Trick(cut=0), Trick(limit=400)]
    stream.seek(7000)
    assert stream.read(2000) == CONTENT[7000:9000]
    assert [request.first for request in server.requests[1:]] == [7000, 7300, 7300, 7300, 7700]


def test_a_server_that_never_answers_is_given_up(server):
    stream = opened(server)
    server.always = Trick(status=503)
    stream.seek(7000)
    with pytest.raises(UserError, match=r"gave up .*a\.bin after 6 attempts.*give the same"):
        stream.read(10)
    assert isinstance(stream.failure, UserError)


def test_a_file_that_changes_is_an_error_and_never_a_mixture(server):
    stream = opened(server)
    server.files["a.bin"] = CONTENT[::-1]
    stream.seek(7000)
    with pytest.raises(UserError, match="was changed while it was read"):
        stream.read(10)


def test_a_server_without_ranges_and_a_missing_file_are_one_sentence(server):
    server.tricks = [Trick(ranges=False)]
    with pytest.raises(UserError, match=r"found no way to read parts of .*--download"):
        opened(server)
    with pytest.raises(UserError, match=r"found no b\.bin at .*a\.bin"):
        RemoteStream(f"{server.address}/b.bin")
    with pytest.raises(UserError, match="expected one that begins with https"):
        RemoteStream("ftp://somewhere/a")


def test_redirects_are_followed_once_and_again_when_they_expire(server):
    address = f"{server.address}/a.bin"
    server.files["there.bin"] = CONTENT
    there = {"Location": f"{server.address}/there.bin"}
    server.tricks = [Trick(status=302, headers=there)]
    stream = RemoteStream(address)
    stream.seek(5000)
    stream.read(10)
    server.tricks = [Trick(status=403), Trick(status=302, headers=there)]
    stream.seek(9000)
    assert stream.read(10) == CONTENT[9000:9010]
    names = [request.path.rsplit("/", 1)[1] for request in server.requests]
    assert names == ["a.bin", "there.bin", "there.bin", "there.bin", "a.bin", "there.bin"]


def test_h5py_reads_through_it_and_fetches_only_the_data_set(server, tmp_path):
    values = np.random.default_rng(0).random(3000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["voltage"] = np.random.default_rng(1).random(200_000)
        file["times"] = values
    server.files["a.h5"] = (tmp_path / "a.h5").read_bytes()
    stream = RemoteStream(f"{server.address}/a.h5")
    with h5py.File(stream, "r") as file:
        np.testing.assert_array_equal(file["times"][:], values)
    assert stream.fetched < values.nbytes + 20_000 < 0.05 * len(server.files["a.h5"])


def test_texts_and_json_are_read_whole(server):
    server.files["a.json"] = b'{"results": [1, 2]}'
    server.tricks = [Trick(cut=5), Trick(status=500)]
    assert read_json(f"{server.address}/a.json") == {"results": [1, 2]}
    assert read_text(f"{server.address}/a.json") == '{"results": [1, 2]}'
    server.files["a.json"] = b"<html>"
    with pytest.raises(UserError, match="found no JSON at"):
        read_json(f"{server.address}/a.json")
    with pytest.raises(UserError, match=r"found no b\.json"):
        read_json(f"{server.address}/b.json")
