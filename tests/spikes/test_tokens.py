"""Counts come back from tokens: all of them where the vocabulary reaches, as told elsewhere."""

import dataclasses

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs import counting, pieces, table
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.tokens import assigning, coding, files, vocabulary
from sensojax.spikes.tokens.coding import Encoder, decode
from sensojax.spikes.tokens.fidelity import Fidelity
from tests.spikes import bursts


def vocabulary_of(folder, rows, size: str, largest_token: int):
    sessions = [bursts.session(str(i), counts) for i, counts in enumerate(rows)]
    path = folder / f"motifs_{size}.parquet"
    counting.count(sessions, Patch.parse(size), path, workers=1)
    return vocabulary.of_table(path, largest_token), path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A vocabulary of 12 motifs of 2x5, of one row of counts."""
    folder = tmp_path_factory.mktemp("vocabulary")
    return vocabulary_of(folder, [bursts.matrix(0, 9, 403)], "2x5", 11)[0]


def encoded(counts: np.ndarray, known, rest: str):
    found, fidelity = Encoder(known, rest).encode(Counts.of_dense(counts, 0.02))
    return found, decode(found, known).dense(), fidelity


def test_the_vocabulary_is_the_head_of_the_table(fitted):
    expected = bursts.by_frequency([bursts.matrix(0, 9, 403)], 2, 5)[:12]
    assert [tuple(motif) for motif in fitted.motifs.tolist()] == [motif for motif, _ in expected]
    assert fitted.frequency.tolist() == [frequency for _, frequency in expected]
    every = bursts.by_frequency([bursts.matrix(0, 9, 403)], 2, 5)
    spikes = [sum(sum(motif) * n for motif, n in part) for part in (expected, every)]
    assert fitted.lossless == pytest.approx(sum(n for _, n in expected) / (5 * 81))
    assert fitted.lossless_spikes == pytest.approx(spikes[0] / spikes[1])


def test_the_default_is_the_published_size_and_leaves_one_number_free(tmp_path):
    values = np.indices((14,) * 4).reshape(4, -1).T  # 38,416 different motifs
    known, _ = vocabulary_of(tmp_path, [values.reshape(1, -1)], "1x4", vocabulary.LARGEST_TOKEN)
    assert len(known.motifs) == 31_999 and known.escape == 31_999
    assert known.dtype == np.uint16


@pytest.mark.parametrize("rest", coding.RESTS)
@pytest.mark.parametrize("largest", [0, 300, 70_000])
def test_every_patch_gets_its_token_and_listed_ones_come_back_as_they_were(fitted, rest, largest):
    counts = bursts.matrix(5, 8, 400, largest)  # whole patches; some motifs were never listed
    found, back, fidelity = encoded(counts, fitted, rest)
    patches = bursts.patches(counts, 2, 5)
    listed = {tuple(motif): number for number, motif in enumerate(fitted.motifs.tolist())}
    assert found.tokens.shape == (80, 4) and found.tokens.dtype == np.uint16
    kept = [patch in listed or rest == "escape" for patch in patches]
    assert 0.2 < np.mean([patch in listed for patch in patches]) < 0.98
    after = bursts.patches(back, 2, 5)
    for patch, token, read, same in zip(
        patches, found.tokens.ravel().tolist(), after, kept, strict=True
    ):
        assert token == listed.get(patch, token) and (read == patch) == same
        assert (token == fitted.escape) == (rest == "escape" and patch not in listed)
    change = back.astype(int) - counts
    spikes = [sum(patch) for patch in patches]
    assert fidelity == Fidelity(
        patches=len(patches),
        spikes=counts.sum(),
        lossless=sum(kept),
        lossless_spikes=int(np.dot(spikes, kept)),
        lost=-change[change < 0].sum(),
        added=change[change > 0].sum(),
        squared_error=(change**2).sum(),
        silenced=sum(sum(p) > 0 and sum(a) == 0 for p, a in zip(patches, after, strict=True)),
    )


def test_nothing_is_lost_with_an_escape_whatever_the_shape(fitted):
    for seed, shape in enumerate([(1, 1), (7, 13), (3, 0), (2, 5), (6, 101)]):
        counts = bursts.matrix(seed, *shape, 500)
        _, back, fidelity = encoded(counts, fitted, "escape")
        np.testing.assert_array_equal(back, counts)
        assert fidelity.lossless == fidelity.patches


def test_a_vocabulary_without_silence_writes_silence_out_too(fitted):
    known = dataclasses.replace(fitted, motifs=fitted.motifs[1:3], frequency=fitted.frequency[1:3])
    counts = bursts.matrix(2, 5, 44)
    found, back, _ = encoded(counts, known, "escape")
    np.testing.assert_array_equal(back, counts)
    silent = (~found.escaped.any(axis=1)).sum()
    assert silent == sum(not any(patch) for patch in bursts.patches(counts, 2, 5)) > 0
    _, back, _ = encoded(np.zeros((4, 10), int), known, "euclidean")
    assert back.any()  # the nearest motif is all there is


def test_the_lossless_share_is_that_of_theory(tmp_path):
    """Independent bins: a patch is as probable as the product of its counts' probabilities."""
    rng, chance = np.random.default_rng(0), np.array([0.7, 0.2, 0.08, 0.02])
    draw = rng.choice(4, (20, 30_000), p=chance)
    known, _ = vocabulary_of(tmp_path, [draw], "1x6", 59)
    expected = chance[known.motifs].prod(axis=1).sum()
    spikes = (chance[known.motifs].prod(axis=1) * known.motifs.sum(axis=1)).sum() / (6 * 0.42)
    fresh = rng.choice(4, (20, 30_000), p=chance)
    _, _, fidelity = encoded(fresh, known, "cosine")
    share = fidelity.lossless / fidelity.patches
    spike_share = fidelity.lossless_spikes / fidelity.spikes
    deviation = np.sqrt(expected * (1 - expected) / fidelity.patches)
    assert 0.5 < expected < 0.9 and abs(share - expected) < 4 * deviation
    assert abs(spike_share - spikes) < 8 * deviation
    assert known.lossless == pytest.approx(expected, abs=0.01)


def test_the_encoder_answers_the_same_however_much_it_remembers(fitted, monkeypatch):
    rows = [Counts.of_dense(bursts.matrix(seed, 8, 200, 40), 0.02) for seed in range(4)]
    remembering = Encoder(fitted, "cosine")
    monkeypatch.setattr(coding, "REMEMBERED", 5)
    forgetful = Encoder(fitted, "cosine")
    for row in [*rows, *rows]:
        found = [each.encode(row)[0].tokens for each in (remembering, forgetful)]
        np.testing.assert_array_equal(*found)
    assert sum(len(each.keys) for each in remembering._found) > 20


def test_what_does_not_fit_the_vocabulary_is_refused(fitted):
    counts = Counts.of_dense(np.ones((2, 10), int), 0.01)
    with pytest.raises(UserError, match=r"bins of 0\.01 s, expected 0\.02 s"):
        Encoder(fitted).encode(counts)
    with pytest.raises(UserError, match="rest 'nearest'"):
        Encoder(fitted, "nearest")
    good, _, _ = encoded(bursts.matrix(3, 4, 50), fitted, "escape")
    for change in (
        dict(tokens=good.tokens + np.uint16(13)),
        dict(tokens=good.tokens[:-1]),
        dict(escaped=good.escaped[1:]),
    ):
        with pytest.raises(UserError, match="with the vocabulary that they were written in"):
            decode(dataclasses.replace(good, **change), fitted)


def test_the_table_tells_beforehand_what_encoding_does(tmp_path):
    rows = [bursts.matrix(seed, 6, 500, 20) for seed in (7, 8)]
    known, path = vocabulary_of(tmp_path, rows, "2x5", 20)
    for rest in coding.RESTS:
        out = tmp_path / f"{rest}.parquet"
        told = assigning.assign(path, known, rest, out)
        encoder = Encoder(known, rest)
        found = [encoder.encode(Counts.of_dense(row, 0.02))[1] for row in rows]
        assert told == found[0] + found[1]
        listed = assigning.pq.read_table(out)
        motifs = table.read(path).motifs
        assert listed["token"].to_pylist() == encoder.tokens_of(motifs).tolist()
        assert listed["token"].to_pylist()[:21] == list(range(21))
        np.testing.assert_array_equal(listed["patch"].to_pylist(), motifs)
    _, other = vocabulary_of(tmp_path, rows, "1x4", 5)
    with pytest.raises(UserError, match="found motifs 1x4"):
        assigning.assign(other, known, "cosine", tmp_path / "x.parquet")


def test_a_vocabulary_is_read_as_it_was_written(tmp_path, fitted):
    path = tmp_path / "new" / "vocabulary.npz"
    vocabulary.save(path, fitted)
    read = vocabulary.load(path)
    assert read.fingerprint == fitted.fingerprint and read.patch == Patch(2, 5)
    np.testing.assert_array_equal(read.motifs, fitted.motifs)
    assert (read.lossless, read.bin_s) == (fitted.lossless, 0.02)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="is no vocabulary"):
        vocabulary.load(path)
    with pytest.raises(UserError, match="found no file"):
        vocabulary.load(tmp_path / "absent.npz")


class Chunked(bursts.CountsSession):
    """A session in three chunks."""

    chunks = ((0, 60), (60, 101), (101, 130))


def test_it_does_not_matter_how_a_row_is_cut(tmp_path, fitted, monkeypatch):
    counts = np.concatenate([made_matrix(seed) for seed in range(3)], axis=1)
    vocabulary.save(tmp_path / "v.npz", fitted)
    for name, shape in [("a", counts.shape), ("none", (4, 0)), ("no neurons", (0, 30))]:
        session = bursts.session(name, counts[: shape[0], : shape[1]])
        found = []
        for tokens, folder in [(16_000_000, "whole"), (150, "cut")]:
            monkeypatch.setattr(pieces.cut, "__defaults__", (tokens,))
            task = files.Task(session, tmp_path / "v.npz", "escape", "session", tmp_path / folder)
            fidelity = files.encode_session(task)
            read = {each.name: each for each in files.open_tokens(tmp_path / folder, fitted)}
            found.append(read[name])
            assert fidelity.lossless == fidelity.patches
            again = read[name].counts(0.02).dense()
            np.testing.assert_array_equal(again, counts[: shape[0], : shape[1]])
        if shape[1]:
            one, other = (each.encoded(0) for each in found)
            np.testing.assert_array_equal(one.tokens, other.tokens)
            np.testing.assert_array_equal(one.escaped, other.escaped)


def made_matrix(seed: int) -> np.ndarray:
    return bursts.matrix(seed, 7, 131, 40)


@pytest.mark.parametrize("rest", ["escape", "euclidean"])
def test_encoded_sessions_are_sessions_again(tmp_path, fitted, rest):
    counts = bursts.matrix(9, 7, 130, 30)
    session = Chunked("a/b", Counts.of_dense(counts, 0.02), "mouse", "day")
    vocabulary.save(tmp_path / "v.npz", fitted)
    task = files.Task(session, tmp_path / "v.npz", rest, "chunk", tmp_path / "tokens")
    fidelity = files.encode_session(task)
    assert files.encode_session(task) == fidelity  # from the file
    (read,) = files.open_tokens(tmp_path / "tokens", fitted)
    assert (read.name, read.subject, read.session) == ("a/b", "mouse", "day")
    assert read.chunks == list(session.chunks) and read.fidelity == fidelity
    assert (read.num_neurons, read.num_bins(0.02)) == counts.shape
    pieces = [encoded(counts[:, start:stop], fitted, rest)[1] for start, stop in session.chunks]
    expected = np.concatenate(pieces, axis=1)
    if rest == "escape":
        np.testing.assert_array_equal(expected, counts)
    for start, stop in [(0, 130), (0, 60), (59, 61), (20, 20), (70, 129), (60, None)]:
        np.testing.assert_array_equal(
            read.counts(0.02, start, stop).dense(), expected[:, start:stop]
        )
    with pytest.raises(UserError, match="another rest"):
        files.encode_session(dataclasses.replace(task, rest="cosine"))
    with pytest.raises(UserError, match="ask for the width they have"):
        read.counts(0.04)
    other = dataclasses.replace(fitted, motifs=fitted.motifs[::-1])
    with pytest.raises(UserError, match="another vocabulary"):
        files.open_tokens(tmp_path / "tokens", other)
    read.path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="no file of tokens"):
        files.open_tokens(tmp_path / "tokens", fitted)
    with pytest.raises(UserError, match="found no encoded session"):
        files.open_tokens(tmp_path, fitted)


def test_a_file_of_tokens_is_there_whole_or_not_at_all(tmp_path, fitted):
    class Damaged(Chunked):
        def counts(self, bin_s, start=0, stop=None):
            if start:
                raise UserError("its file is damaged.")
            return super().counts(bin_s, start, stop)

    session = Damaged("a", Counts.of_dense(bursts.matrix(1, 4, 130), 0.02))
    vocabulary.save(tmp_path / "v.npz", fitted)
    with pytest.raises(UserError, match="damaged"):
        files.encode_session(
            files.Task(session, tmp_path / "v.npz", "cosine", "chunk", tmp_path / "tokens")
        )
    assert list((tmp_path / "tokens").iterdir()) == []
