"""The download script brings sessions that can be converted, however often it is stopped."""

import hashlib
import io
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import pytest

from scripts import convert, download_sensorium
from sensojax.recordings import published, sensorium2023
from sensojax.store import stores_in
from sensojax.tools.downloading import fetching
from tests import runs
from tests.recordings import tiny, tiny_images
from tests.serving import Server, Trick

A, F, IMAGES = (published.choose([letter])[0] for letter in ("A", "F", "1"))


@pytest.fixture(scope="module")
def zips(tmp_path_factory) -> dict[str, bytes]:
    """Tiny sessions under the published names; as published, nothing is around data and meta."""
    made = tmp_path_factory.mktemp("session")
    of = {A: tiny.write(made), F: tiny.write(made), IMAGES: tiny_images.write(made)}
    return {f"{each.name}.zip": _packed(folder) for each, folder in of.items()}


def _packed(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*.npy")):
            archive.write(path, path.relative_to(folder))
        archive.writestr("data/noise.bin", random.Random(0).randbytes(400_000))
    return content.getvalue()


@pytest.fixture
def server(zips, monkeypatch):
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(zips) as server:
        yield server


def download(server, folder: Path, *words: str) -> None:
    download_sensorium.main(["--base-address", server.address, "--out", str(folder), *words])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sessions_arrive_and_the_printed_command_converts_them(server, tmp_path, capsys):
    download(server, tmp_path / "zips", "--mice", "A, f")
    assert names(tmp_path / "zips") == [f"{each.name}.zip" for each in (A, F)]
    assert sensorium2023.sessions(tmp_path / "zips") == [A.name, F.name]
    said = capsys.readouterr().out
    assert f"mouse A: fetched, {tmp_path / 'zips' / A.name}.zip (3 neurons, 4 trials)" in said
    assert "note: published with 7440 neurons and 740 trials" in said
    (command,) = re.findall("^next: (python scripts/convert.py .*)$", said, flags=re.MULTILINE)
    words = [word.replace("data/stores", str(tmp_path / "out")) for word in shlex.split(command)]
    convert.main(words[2:])
    assert stores_in(tmp_path / "out") == [A.name, F.name]


def test_what_is_there_is_not_fetched_again(server, tmp_path, capsys):
    download(server, tmp_path, "--mice", "A")
    fetched = server.sent
    download(server, tmp_path, "--mice", "A", "--verify")
    assert server.sent == fetched
    assert "mouse A: was there already" in capsys.readouterr().out


def test_images_of_2022_and_videos_arrive_and_are_converted_together(server, tmp_path, capsys):
    download(server, tmp_path / "zips", "--mice", f"A,{IMAGES.key}")
    assert names(tmp_path / "zips") == [f"{each.name}.zip" for each in (A, IMAGES)]
    said = capsys.readouterr().out
    assert f"{IMAGES.name}.zip (3 neurons, 5 trials); note: published with 7776 neurons" in said
    assert said.splitlines()[-1].startswith("next: python scripts/convert.py")
    convert.main([str(tmp_path / "zips"), "--out", str(tmp_path / "out")])
    assert stores_in(tmp_path / "out") == [A.name, IMAGES.name]


@pytest.mark.parametrize("keep", [True, False])
def test_unzip_leaves_the_session_and_keeps_the_zip_only_when_asked(server, tmp_path, keep):
    words = ["--mice", "A", "--unzip", *(["--keep-zip"] if keep else [])]
    download(server, tmp_path, *words)
    assert names(tmp_path) == [A.name, f"{A.name}.zip"][: 1 + keep]
    assert sensorium2023.read(tmp_path).neurons.ids.tolist() == [7, 9, 4]
    download(server, tmp_path, *words)
    assert len(server.requests) == 1


def test_a_zip_that_is_there_is_unpacked_without_fetching(server, tmp_path):
    download(server, tmp_path, "--mice", "A")
    download(server, tmp_path, "--mice", "A", "--unzip")
    assert names(tmp_path) == [A.name] and len(server.requests) == 1


def test_one_missing_session_does_not_keep_the_others(server, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1 of 3 sessions could not be had"):
        download(server, tmp_path, "--mice", "A,B,F")
    assert names(tmp_path) == [f"{each.name}.zip" for each in (A, F)]
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("error: mouse B: found no dyn")]) == 1


def test_a_damaged_zip_is_fetched_once_more(server, zips, tmp_path, capsys):
    content = zips[f"{A.name}.zip"]
    server.tricks = [Trick(body=content[:9000] + b"xxxx" + content[9004:])]
    download(server, tmp_path, "--mice", "A")
    assert (tmp_path / f"{A.name}.zip").read_bytes() == content
    assert "arrived damaged" in capsys.readouterr().err


def test_a_zip_that_stays_damaged_is_not_left_there(server, tmp_path, capsys):
    server.always = Trick(body=b"<html>please log in</html>")
    with pytest.raises(SystemExit, match="1 of 1 sessions"):
        download(server, tmp_path, "--mice", "A", "--unzip")
    assert "damaged twice" in capsys.readouterr().err
    assert not {A.name, f"{A.name}.zip"} & set(names(tmp_path))


def test_what_a_cut_download_of_another_program_left_is_replaced(server, zips, tmp_path, capsys):
    content = zips[f"{A.name}.zip"]
    (tmp_path / f"{A.name}.zip").write_bytes(content[:5000])
    download(server, tmp_path, "--mice", "A")
    assert (tmp_path / f"{A.name}.zip").read_bytes() == content
    assert "found a damaged zip" in capsys.readouterr().err


def test_known_checksums_are_compared(server, zips, tmp_path, capsys):
    digest = hashlib.sha256(zips[f"{A.name}.zip"]).hexdigest()
    sums = tmp_path / "SUMS"
    sums.write_text(f"{digest} *{A.name}.zip\n\n{digest[::-1]}  elsewhere/{F.name}.zip\n")
    with pytest.raises(SystemExit, match="1 of 2 sessions"):
        download(server, tmp_path / "zips", "--mice", "A,F", "--checksums", str(sums))
    assert f"has the sha256 {digest}, expected {digest[::-1]}" in capsys.readouterr().err
    assert f"{F.name}.zip" not in names(tmp_path / "zips")
    sums.write_text("a b c\n")
    with pytest.raises(SystemExit, match=r"found 'a b c' in .*expected a digest and a name"):
        download(server, tmp_path / "zips", "--mice", "A,F", "--checksums", str(sums))


def test_room_for_all_sessions_is_wanted_before_the_first_byte(server, zips, tmp_path, monkeypatch):
    free = 2 * len(zips[f"{A.name}.zip"]) - 1
    disk = types.SimpleNamespace(free=free)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: disk)
    with pytest.raises(SystemExit, match=r"fetching 2 sessions needs 0\.00 GB in"):
        download(server, tmp_path / "zips", "--mice", "A,F")
    assert server.sent == 0
    download(server, tmp_path / "zips", "--mice", "A")


def test_list_shows_the_sessions_and_fetches_nothing(server, tmp_path, capsys):
    (tmp_path / f"{F.name}.zip").touch()
    (tmp_path / A.name).mkdir()
    download(server, tmp_path, "--list", "--set", "2023")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and "CC BY-NC-ND 4.0" in lines[-1]
    assert lines[1].split()[:5] == ["A", "old", "7440", "740", "folder"]
    assert lines[6].split()[4] == "zip"
    assert server.heads + len(server.requests) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "found neither --mice nor --set"),
        (("--mice", "K"), "found mouse 'K', expected one of A"),
        (("--set", "203"), "set '203', .*did you mean '2023'"),
        (("--mice", "A", "--workers", "0"), "found --workers 0"),
        (("--mice", "A", "--checksums", "nowhere"), "nowhere cannot be used"),
        (("--mice", "A", "--base-address", "here/zips"), "found the address 'here/zips/dynamic"),
    ],
)
def test_wrong_arguments_get_one_sentence(tmp_path, words, said):
    with pytest.raises(SystemExit, match=said) as ended:
        download_sensorium.main(["--out", str(tmp_path), *words])
    assert "\n" not in str(ended.value.code)


def test_a_kill_and_an_interrupt_lose_nothing_that_had_arrived(server, zips, tmp_path):
    """kill -9 in the middle, Ctrl-C in the middle, then to the end: each byte is sent once."""
    content = zips[f"{A.name}.zip"]
    partial = tmp_path / f"{A.name}.zip.partial"
    server.always = Trick(pause=0.1)  # 4 kB at a time, so 10 s for all: it is never done before
    line = [sys.executable, download_sensorium.__file__, "--base-address", server.address]
    line += ["--out", str(tmp_path), "--mice", "A"]
    for how, until in ((signal.SIGKILL, 4_000), (signal.SIGINT, 40_000)):
        process = subprocess.Popen(
            line, env=runs.environment(None), stderr=subprocess.PIPE, text=True
        )
        end = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size > until):
            assert time.monotonic() < end and process.poll() is None, process.communicate()
            time.sleep(0.005)
        os.kill(process.pid, how)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1 and "interrupted: the same command again" in said
    assert "Traceback" not in said
    have = partial.stat().st_size
    server.always = Trick()
    download(server, tmp_path, "--mice", "A")
    assert (tmp_path / f"{A.name}.zip").read_bytes() == content
    assert names(tmp_path) == [f"{A.name}.zip"]
    first, second, third = server.requests
    assert first.first is None and 4_000 < second.first < third.first == have
    assert third.sent == len(content) - have
