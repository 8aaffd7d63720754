"""scripts/pile_build.py and its kin: from an archive or files to stores, tables and pictures."""

import hashlib
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from dask import distributed
from scipy.io import savemat

from scripts import pile_build as script
from scripts import pile_export, pile_merge, pile_show
from sensojax.errors import UserError
from sensojax.spikes.events import EventStore
from sensojax.spikes.sessions import open_sessions
from sensojax.spikes.sources import components
from sensojax.tools.downloading import fetching
from sensojax.tools.pile import archives, building, obtaining
from tests import disasters
from tests.serving import Server, Trick, zipped
from tests.spikes import recorded
from tests.spikes.recorded import write_nwb


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def nwb_files(folder: Path, number: int = 3) -> Path:
    """Sessions of two subjects, named as DANDI does."""
    for seed in range(number):
        subject = f"sub-{seed % 2}"
        table = {"quality": np.array(["good", "noise", "good", "good"])}
        units = recorded.units(seed, 4, 10.0)
        write_nwb(folder / subject / f"{subject}_ses-{seed}.nwb", units, **table)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# Files of this machine ----------------------------------------------------------------------------


def test_sessions_of_a_folder_are_built_verified_and_passed_over(tmp_path, capsys):
    folder = nwb_files(tmp_path / "raw")
    line = [str(folder), "--out", str(tmp_path / "out"), "--component", "mine", "--workers", "1"]
    script.main([*line, "--verify"])
    said = capsys.readouterr().out
    assert said.count("built, verified, 4 neurons") == 3 and "note: " in said
    assert "3 sessions, 12 neurons" in said
    found = open_sessions(tmp_path / "out")
    assert [session.name for session in found] == ["sub-0_ses-0", "sub-0_ses-2", "sub-1_ses-1"]
    assert {session.component for session in found} == {"mine"}
    for session in found:
        units = recorded.units(int(session.name[-1]), 4, 10.0)
        expected = recorded.dense(units, 0.02, session.num_bins(0.02))
        np.testing.assert_array_equal(session.counts(0.02).dense(), expected)
    before = contents(tmp_path / "out")
    script.main(line)
    assert capsys.readouterr().out.count("already built") == 3
    assert contents(tmp_path / "out") == before
    script.main([*line[:2], str(tmp_path / "some"), *line[3:], "--match", "ses-1"])
    assert len(open_sessions(tmp_path / "some")) == 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--component", "other"], "built as a part of mine"),
        (["--component", "mine", "--columns", "quality,snr"], "built without snr"),
        (["--component", "mine", "--resolution", "0.001"], "built with a resolution of 0.0 s"),
    ],
)
def test_stores_of_other_settings_are_not_taken_for_these(tmp_path, capsys, more, sentence):
    folder = nwb_files(tmp_path / "raw", 1)
    line = [str(folder), "--out", str(tmp_path / "out"), "--workers", "1"]
    script.main([*line, "--component", "mine"])
    with pytest.raises(SystemExit, match="1 of 1 sessions could not be built"):
        script.main([*line, *more])
    said = capsys.readouterr().err
    assert f"error: found {tmp_path}/out/sub-0_ses-0 {sentence}, expected" in said


def test_every_bad_file_is_one_sentence_and_the_others_are_built(tmp_path, capsys):
    folder = nwb_files(tmp_path / "raw", 2)
    write_nwb(folder / "sub-2" / "nan.nwb", [np.array([0.5, np.nan])])
    write_nwb(folder / "sub-2" / "unsorted.nwb", [np.array([2.5, 0.5]), np.zeros(0)])
    write_nwb(folder / "sub-2" / "silent.nwb", [np.zeros(0)])
    write_nwb(folder / "sub-2" / "early.nwb", [np.array([-3.0])])
    (folder / "sub-2" / "cut.nwb").write_bytes(b"\x89HDF\r\n\x1a\n cut")
    with h5py.File(folder / "sub-2" / "lfp.nwb", "w") as file:
        file["acquisition/lfp"] = np.zeros(3)
    with pytest.raises(SystemExit, match="2 of 8 sessions could not be built"):
        script.main([str(folder), "--out", str(tmp_path / "out"), "--workers", "1"])
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "Traceback" not in said.err
    assert any("cut.nwb cannot be read as NWB" in line for line in errors)
    assert any("times that are no numbers" in line and "unit 0" in line for line in errors)
    for sentence in (
        "silent.nwb has no spike in its 1 units; it is passed over.",
        "early.nwb has no spike after time zero; it is passed over.",
        "lfp.nwb has no sorted units; it is passed over.",
        "unsorted.nwb: the times of 1 units (0) are now sorted.",
        "unsorted.nwb: 1 of 2 units have no spike; they stay.",
    ):
        assert said.out.count(sentence) == 1
    assert len(open_sessions(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ([], "found neither recordings nor --component"),
        (["--component", "vnc"], "found component 'vnc'.*did you mean 'vcn'"),
        (["absent"], "found no absent"),
        ([".", "--format", "nbw"], "found format 'nbw', expected one of"),
        ([".", "--workers", "-1"], "found -1 workers"),
        (["raw", "--match", "x"], "found no session whose name has 'x'"),
        (["raw", "--resolution", "-1"], "1 of 1 sessions could not be built"),
        (["--component", "vcn", "--archive", "nowhere"], "expected one that begins with https"),
    ],
)
def test_a_mistaken_command_ends_in_one_sentence(tmp_path, monkeypatch, line, sentence):
    nwb_files(tmp_path / "raw", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=sentence) as ended:
        script.main([*line, *(["--workers", "1"] if "--workers" not in line else [])])
    assert "\n" not in str(ended.value.code)


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in "ab":
        write_nwb(tmp_path / folder / "sub-1" / "x.nwb", recorded.units(0, 2, 3.0))
    with pytest.raises(SystemExit, match="found 2 files that make a session sub-1_x"):
        script.main([str(tmp_path), "--out", str(tmp_path / "out")])


def test_a_damaged_store_is_told_once_and_the_others_are_summed(tmp_path, capsys):
    folder, out = nwb_files(tmp_path / "raw"), tmp_path / "out"
    line = [str(folder), "--out", str(out), "--workers", "1"]
    script.main(line)
    (out / "sub-1_ses-1" / "events.json").write_text("{")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1 of 3 sessions could not be built"):
        script.main(line)
    said = capsys.readouterr()
    assert said.err.count("error: the event store") == 1 and "out: 2 sessions" in said.out


def test_the_table_of_data_sets_is_shown(capsys):
    script.main(["--list"])
    said = capsys.readouterr().out
    assert said.count("dandi:") == 23 and "figshare:7739750" in said


# From an archive ----------------------------------------------------------------------------------


def dandi(server: Server, folder: Path, identifier: str, version: str = "draft") -> None:
    """Serves files as DANDI does: two pages of assets, each with its metadata and its content."""
    files = sorted(folder.rglob("*.nwb"))
    pages = [files[:1], files[1:]]
    for number, page in enumerate(pages):
        results = []
        for path in page:
            asset = hashlib.md5(path.name.encode()).hexdigest()
            content = path.read_bytes()
            own = f"assets/{asset}/"
            server.files[f"{own}download/"] = content
            digest = {"dandi:sha2-256": hashlib.sha256(content).hexdigest()}
            server.files[own] = json.dumps({"digest": digest}).encode()
            about = {"asset_id": asset, "path": str(path.relative_to(folder)), "size": len(content)}
            results.append(about)
        following = f"{server.address}/page2" if number == 0 else None
        name = (
            "page2"
            if number
            else f"dandisets/{identifier}/versions/{version}/assets/?page_size=1000&order=path"
        )
        server.files[name] = json.dumps({"results": results, "next": following}).encode()


@pytest.fixture
def server():
    with Server({}) as server:
        yield server


@pytest.mark.parametrize("how", ["parts", "whole"])
def test_a_component_is_built_from_its_archive(server, tmp_path, capsys, monkeypatch, how):
    """Of 5 MB of voltage next to the spikes nothing is fetched, unless whole files are wanted."""
    folder = nwb_files(tmp_path / "raw")
    with h5py.File(folder / "sub-0" / "sub-0_ses-0.nwb", "a") as file:
        file["acquisition/v"] = np.random.default_rng(0).integers(0, 999, 2_500_000, np.int16)
    dandi(server, folder, "000021")
    monkeypatch.chdir(tmp_path)
    line = ["--component", "vcn", "--archive", server.address, "--workers", "1"]
    script.main([*line, *(["--download"] if how == "whole" else [])])
    found = open_sessions(tmp_path / "data" / "pile" / "vcn")
    assert [session.name for session in found] == ["sub-0_ses-0", "sub-0_ses-2", "sub-1_ses-1"]
    script.main([str(folder), "--out", "local", "--component", "vcn", "--workers", "1"])
    for session, other in zip(found, open_sessions("local"), strict=True):
        np.testing.assert_array_equal(session.trains().times, other.trains().times)
        assert (session.subject, session.session) == (other.subject, other.session)
    if how == "parts":
        assert server.sent < 2_000_000
        assert not (tmp_path / "data" / "pile_sources").exists()
    else:
        kept = tmp_path / "data" / "pile_sources" / "vcn"
        assert contents(kept) == contents(folder)
        before = len(server.requests)
        script.main([*line, "--download"])
        assert len(server.requests) == before + 2  # the list alone


def test_a_file_is_read_from_its_address(server, tmp_path, capsys):
    (path,) = nwb_files(tmp_path / "raw", 1).rglob("*.nwb")
    server.files["pile/sub-0/sub-0_ses-0.nwb"] = path.read_bytes()
    line = ["--out", str(tmp_path / "far"), "--verify", "--workers", "1"]
    script.main([f"{server.address}/pile/sub-0/sub-0_ses-0.nwb", *line])
    script.main([str(path.parent), "--out", str(tmp_path / "here"), "--workers", "1"])
    assert capsys.readouterr().out.count("sub-0_ses-0: built") == 2
    assert contents(tmp_path / "far") == contents(tmp_path / "here")
    with pytest.raises(SystemExit, match="1 of 1 sessions could not be built"):
        script.main([f"{server.address}/nowhere.nwb", *line])
    assert "nowhere.nwb" in capsys.readouterr().err


def test_downloads_go_on_and_are_checked(server, tmp_path, monkeypatch, capsys):
    folder = nwb_files(tmp_path / "raw", 1)
    dandi(server, folder, "000021")
    (content,) = contents(folder).values()
    files = archives.files(components.named("vcn"), server.address)
    before = len(server.requests)
    half = len(content) // 2
    server.tricks = [Trick(), Trick(cut=half), Trick(status=404)]
    with pytest.raises(UserError, match="found no "):
        obtaining.obtain(files, tmp_path / "kept")
    obtaining.obtain(files, tmp_path / "kept")
    firsts = [each.first for each in server.requests[before:]]
    assert firsts == [None, None, half, None, None, half]  # the fourth looks for a like name
    assert list(contents(tmp_path / "kept").values()) == [content]
    other = bytes(len(content))
    server.tricks = [Trick(), Trick(body=other), Trick(body=other)]
    with pytest.raises(UserError, match=r"arrived damaged twice \(.*has the sha256"):
        obtaining.obtain(files, tmp_path / "again")
    assert not contents(tmp_path / "again")
    server.tricks = [Trick(), Trick(body=content[:-9]), Trick(body=content[:-9])]
    with pytest.raises(UserError, match=r"arrived damaged twice \(.*bytes, expected"):
        obtaining.obtain(files, tmp_path / "short")
    wrong = archives.RemoteFile("../x.nwb", files[0].where)
    with pytest.raises(UserError, match="expected one inside the data set"):
        obtaining.obtain([wrong], tmp_path / "out")


def test_the_bucket_of_the_allen_institute_is_read_by_its_table(server, tmp_path, monkeypatch):
    path = write_nwb(tmp_path / "a.nwb", recorded.units(0, 3, 5.0))
    table = "ecephys_session_id,mouse_id,unit_count\n1043752325,506940,3\n"
    server.files["project_metadata/ecephys_sessions.csv"] = table.encode()
    name = "behavior_ecephys_sessions/1043752325/ecephys_session_1043752325.nwb"
    server.files[name] = path.read_bytes()
    out = str(tmp_path / "out")
    line = ["--component", "vbn", "--archive", server.address, "--out", out, "--workers", "1"]
    script.main(line)
    (session,) = open_sessions(out)
    assert (session.subject, session.session) == ("sub-506940", "ecephys_session_1043752325")
    assert session.name == "sub-506940_ecephys_session_1043752325"


def test_figshare_gives_whole_files_that_are_unpacked(server, tmp_path, capsys):
    spks = np.empty((1, 1), [("st", object), ("clu", object)])
    spks[0, 0] = (np.array([[1.0], [3.0]]), np.array([[1], [2]]))
    savemat(tmp_path / "spksKrebs_Feb18.mat", {"spks": spks})
    packed = zipped({"spks/spksKrebs_Feb18.mat": (tmp_path / "spksKrebs_Feb18.mat").read_bytes()})
    about = {"name": "spks.zip", "download_url": f"{server.address}/7", "size": len(packed)}
    about["computed_md5"] = hashlib.md5(packed).hexdigest()
    other = {"name": "faces.zip", "download_url": f"{server.address}/8", "size": 10**9}
    server.files["articles/7739750"] = json.dumps({"files": [other, about]}).encode()
    server.files["7"] = packed
    line = ["--component", "steinmetz-2", "--archive", server.address, "--workers", "1"]
    line += ["--out", str(tmp_path / "out"), "--keep", str(tmp_path / "kept")]
    for _ in range(2):
        script.main(line)
    (session,) = open_sessions(tmp_path / "out")
    assert (session.subject, session.session) == ("Krebs", "spksKrebs_Feb18")
    assert session.trains().times.tolist() == [0.0, 2.0]
    paths = [request.path.removeprefix("/files/") for request in server.requests]
    assert paths.count("7") == 1 and "8" not in paths


def test_only_files_of_the_rule_are_taken_and_an_odd_answer_is_one_sentence(server, tmp_path):
    folder = tmp_path / "raw"
    write_nwb(folder / "sub-1" / "sub-1_ses-a-processed-only_b.nwb", recorded.units(0, 2, 3.0))
    write_nwb(folder / "sub-1" / "sub-1_ses-a-raw_b.nwb", recorded.units(0, 2, 3.0))
    dandi(server, folder, "000409")
    (file,) = archives.files(components.named("ibl"), server.address)
    assert "processed-only" in file.path and file.size > 0
    with pytest.raises(UserError, match="found no "):
        archives.files(components.named("li"), server.address)
    server.files["articles/7739750"] = b'{"message": "gone"}'
    with pytest.raises(UserError, match=r"found an answer of .* without 'files'"):
        archives.files(components.named("steinmetz-2"), server.address)
    server.files["articles/7739750"] = b'{"files": []}'
    with pytest.raises(UserError, match=r"found 0 files of steinmetz-2 .* and none whose path has"):
        archives.files(components.named("steinmetz-2"), server.address)


def test_a_lost_connection_is_told_and_the_others_are_built(server, tmp_path, monkeypatch, capsys):
    folder = nwb_files(tmp_path / "raw", 3)
    dandi(server, folder, "000021")
    gone = next(name for name in server.files if name.endswith("download/"))
    del server.files[gone]
    out = str(tmp_path / "out")
    line = ["--component", "vcn", "--archive", server.address, "--out", out, "--workers", "1"]
    with pytest.raises(SystemExit, match="1 of 3 sessions could not be built"):
        script.main(line)
    assert "error: found no " in capsys.readouterr().err
    assert len(open_sessions(out)) == 2


# The other commands on what was built -------------------------------------------------------------


def test_the_commands_lead_from_recordings_to_a_described_table_and_pictures(tmp_path, capsys):
    for name in ("one", "two"):
        folder = nwb_files(tmp_path / "raw" / name, 3)
        out = str(tmp_path / "pile" / name)
        script.main([str(folder), "--out", out, "--component", name, "--workers", "1"])
    pile = [str(tmp_path / "pile" / name) for name in ("one", "two")]
    small = ["--tokens", "1000", "--workers", "1"]
    table = str(tmp_path / "table")
    pile_export.main([pile[0], "--out", table, "--where", "quality=good", *small])
    assert "3 sessions, 6 rows" in capsys.readouterr().out
    exported = open_sessions(table)
    assert {session.num_neurons for session in exported} == {3}
    merged = str(tmp_path / "merged")
    line = [*pile, "--out", merged, "--test-share", "0.4", "--seed", "2", *small]
    pile_merge.main(line)
    assert "described in" in capsys.readouterr().out
    splits = {
        name: {
            row for path in (tmp_path / "merged" / "data").glob(f"{name}-*") for row in rows(path)
        }
        for name in ("train", "test")
    }
    assert splits["train"] and splits["test"] and not splits["train"] & splits["test"]
    assert {row[0] for row in splits["train"] | splits["test"]} == {"one", "two"}
    numbers = json.loads((tmp_path / "merged" / "statistics.json").read_text())
    stores = [session for folder in pile for session in open_sessions(folder)]
    assert numbers["all"]["spikes"] == sum(s.counts(0.02).count.sum() for s in stores)
    before = contents(tmp_path / "merged")
    pile_merge.main(line)
    assert contents(tmp_path / "merged") == before
    pictures = str(tmp_path / "pictures")
    pile_show.main([*pile, "--out", pictures, "--examples", "2", "--seconds", "5"])
    assert sorted(contents(tmp_path / "pictures")) == ["one.png", "two.png"]
    with pytest.raises(SystemExit, match="found no session 'nobody'"):
        pile_show.main([pile[0], "--out", pictures, "--rows", "nobody:0"])
    with pytest.raises(SystemExit, match=r"found --group qualty.*did you mean 'quality'"):
        pile_show.main([pile[0], "--out", pictures, "--group", "qualty"])
    with pytest.raises(SystemExit, match="expected at least 1 example"):
        pile_show.main([pile[0], "--examples", "0"])
    with pytest.raises(SystemExit, match="found --tokens 0, expected at least 1"):
        pile_export.main([pile[0], "--out", table, "--tokens", "0"])
    with pytest.raises(SystemExit, match="found --bin-size"):
        pile_export.main([pile[0], "--out", table, "--bin-size", "0"])


def test_a_cluster_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nwb_files(tmp_path / "raw", 2)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        for place, how in (("here", ["--workers", "1"]), ("there", ["--scheduler"])):
            how = [*how, cluster.scheduler_address] if place == "there" else how
            script.main(["raw", "--out", f"{place}/pile", *how])
            pile_export.main([f"{place}/pile", "--out", f"{place}/table", *how])
            pile_merge.main([f"{place}/pile", "--out", f"{place}/merged", *how])
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def rows(path: Path) -> set[tuple[str, str]]:
    """Data set and session of every row of a shard."""
    return {(session.component, session.session) for session in open_sessions(path)}


# Disasters ----------------------------------------------------------------------------------------


def commands(raw: Path, pile: Path, out: Path) -> dict[str, list[str]]:
    scripts = Path(script.__file__).parent
    small = ["--tokens", "20000", "--shard-tokens", "60000", "--workers", "1"]
    lines = {
        "build": [str(scripts / "pile_build.py"), str(raw), "--workers", "1"],
        "export": [str(scripts / "pile_export.py"), str(pile), *small],
        "merge": [str(scripts / "pile_merge.py"), str(pile), "--test-share", "0.3", *small],
    }
    return {name: [sys.executable, *line, "--out", str(out)] for name, line in lines.items()}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Recordings of twelve sessions, and the pile that is built from them."""
    folder = tmp_path_factory.mktemp("places")
    for seed in range(12):
        units = recorded.units(seed, 30, 60.0, rate_hz=10)
        write_nwb(folder / "raw" / f"sub-{seed}" / "a.nwb", units)
    script.main([str(folder / "raw"), "--out", str(folder / "pile"), "--workers", "1"])
    return folder / "raw", folder / "pile"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["build", "export", "merge"])
def test_kill_9_at_any_moment_and_the_same_line_give_the_same_bytes(places, tmp_path, name):
    main = {"build": script.main, "export": pile_export.main, "merge": pile_merge.main}[name]
    main(commands(*places, tmp_path / "whole")[name][2:])
    whole = contents(tmp_path / "whole")
    out = tmp_path / "killed"
    line = commands(*places, out)[name]
    done = "events.json" if name == "build" else "*-of-*.parquet"
    kills = 0
    for wanted in (0, 2, 5):

        def ready(wanted=wanted) -> bool:
            try:
                finished = [p for p in out.rglob(done) if ".partial" not in str(p)]
                begun = [*out.glob("*.partial/*"), *out.glob("data/.*.partial")]
            except FileNotFoundError:  # it was renamed while we looked
                return False
            return len(finished) >= wanted and bool(begun)

        kills += disasters.killed_when(line, ready)
        assert contents(out) != whole
    assert kills >= 2
    main(line[2:])
    assert contents(out) == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["build", "export", "merge"])
def test_a_full_disk_is_one_sentence_and_the_same_line_completes(places, tmp_path, name):
    main = {"build": script.main, "export": pile_export.main, "merge": pile_merge.main}[name]
    main(commands(*places, tmp_path / "whole")[name][2:])
    line = commands(*places, tmp_path / "full")[name]
    for kib in (0, 8):
        disasters.on_a_full_disk(line, kib)
    main(line[2:])
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_several_processes_give_the_same_bytes_as_one(places, tmp_path):
    for name, main in (("build", script.main), ("export", pile_export.main)):
        for workers in ("1", "2"):
            line = commands(*places, tmp_path / name / workers)[name][2:]
            main(
                [
                    workers if before == "--workers" else word
                    for before, word in zip(["", *line], line, strict=False)
                ]
            )
        assert contents(tmp_path / name / "1") == contents(tmp_path / name / "2")


def test_verifying_finds_a_store_that_is_not_its_source(tmp_path, capsys):
    folder = nwb_files(tmp_path / "raw", 1)
    line = [str(folder), "--out", str(tmp_path / "out"), "--workers", "1"]
    script.main(line)
    units = recorded.units(0, 4, 10.0)
    units[3] = units[3][:-1]
    table = {"quality": np.array(["good", "noise", "good", "good"])}
    write_nwb(folder / "sub-0" / "sub-0_ses-0.nwb", units, **table)
    with pytest.raises(SystemExit, match="1 of 1 sessions could not be built"):
        script.main([*line, "--verify"])
    assert "its times differ from" in capsys.readouterr().err
    store = EventStore.open(tmp_path / "out" / "sub-0_ses-0")
    assert store.num_spikes == sum(map(len, recorded.units(0, 4, 10.0)))
    assert building.reader("nwb").SUFFIX == ".nwb"
