"""Motifs, tokens and orders of neurons, beside those of the published pile's scripts."""

import itertools
import re

import numpy as np
import pytest
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from sensojax.spikes.binning import BIN_S
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs import counting, table
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.order import leaves, ordering, similarity
from sensojax.spikes.session import CountsSession
from sensojax.spikes.tokens import vocabulary
from sensojax.spikes.tokens.coding import Encoder
from tests.goldens import Golden, assert_close, golden_files


@pytest.fixture(params=golden_files("spikes_motifs"))
def motifs(request):
    return Golden(request.param)


@pytest.fixture(params=golden_files("spikes_reorder"))
def reorder(request):
    return Golden(request.param)


def rows_of(golden: Golden) -> dict[str, np.ndarray]:
    """The rows in the order in which they were counted: train before test."""
    rows = {k: v for k, v in golden.part("input").items() if re.fullmatch(r"\w+_row\d+", k)}
    return dict(
        sorted(
            rows.items(), key=lambda row: (row[0].startswith("test"), int(row[0].split("row")[1]))
        )
    )


def sizes_of(golden: Golden) -> list[str]:
    return [k[len("motifs_") :] for k in golden.part("output") if k.startswith("motifs_")]


def test_motif_tables_are_equal(motifs, tmp_path):
    rows = rows_of(motifs)
    sessions = [CountsSession(name, Counts.of_dense(row, BIN_S)) for name, row in rows.items()]
    for size in sizes_of(motifs):
        path = tmp_path / f"{size}.parquet"
        counting.count(sessions, Patch.parse(size), path, workers=1)
        found, expected = table.read(path), motifs.part("output")
        np.testing.assert_array_equal(found.motifs, expected[f"motifs_{size}"])
        np.testing.assert_array_equal(found.frequency, expected[f"frequency_{size}"])
        share = table.pq.read_table(path)["probability"].to_numpy()
        np.testing.assert_array_equal(share, expected[f"probability_{size}"])


def test_patches_are_equal_and_in_the_same_order(motifs):
    found = {k: v for k, v in motifs.part("output").items() if k.startswith("patches_")}
    assert found
    for name, expected in found.items():
        _, row, size = re.fullmatch(r"(patches)_(\w+)_(\d+x\d+)", name).groups()
        patch = Patch.parse(size)
        cells = np.zeros((len(expected), patch.cells), int)
        for layout, each in zip(
            patch.layouts, patch.find(Counts.of_dense(motifs[f"input/{row}"], BIN_S)), strict=True
        ):
            cells[each.place] = layout.unpack(each.keys)
        np.testing.assert_array_equal(cells.reshape(expected.shape), expected)


def test_tokens_are_those_of_exact_arithmetic(motifs):
    names = [name for name in motifs.config if name.startswith("tokens_")]
    named = [name[len("tokens_") :] for name in names if isinstance(motifs.config[name], dict)]
    assert named
    for name in named:
        given = f"output/motifs_{name}"
        listed = motifs[given if given in motifs else f"input/motifs_{name}"]
        last = motifs.config[f"tokens_{name}"]["largest_token"]
        size = re.match(r"\d+x\d+", name)[0]
        head, times = listed[: last + 1], np.ones(len(listed[: last + 1]), int)
        known = vocabulary.Vocabulary(Patch.parse(size), BIN_S, head, times, {})
        found = Encoder(known).tokens_of(listed)
        np.testing.assert_array_equal(found, motifs[f"output/tokens_exact_{name}"])
        # Single precision may fall on another one of references that are equally near.
        rounded = motifs[f"output/tokens_published_{name}"]
        ours, theirs = (projection(listed, head[tokens]) for tokens in (found, rounded))
        assert_close(theirs, ours, 1e-6, name)


class Rows(CountsSession):
    """A session of one file's counts in the file's own chunks."""

    def __init__(self, golden: Golden):
        columns = (golden[f"output/nonzero_{name}"] for name in ("neuron", "bin", "count"))
        neuron, bins, count = (column.astype(np.int64) for column in columns)
        shape = golden["output/shape"].tolist()
        super().__init__("real", Counts(neuron.astype(np.int32), bins, count, *shape, BIN_S))
        self.ends = np.cumsum([0, *golden["output/chunk_lengths"]]).tolist()

    @property
    def chunks(self):
        return list(itertools.pairwise(self.ends))


@pytest.mark.parametrize("path", golden_files("spikes_nwb"))
def test_motifs_and_order_of_a_real_session_are_equal(path, tmp_path):
    golden = Golden(path)
    session = Rows(golden)
    sizes = [k[len("top_motifs_") :] for k in golden.part("output") if k.startswith("top_motifs_")]
    for size in sizes:
        table_path = tmp_path / f"{size}.parquet"
        about = counting.count([session], Patch.parse(size), table_path, workers=1)
        found = (about["motifs"], about["patches"])
        assert found == tuple(golden.config[f"{name}_{size}"] for name in ("unique", "total"))
        expected = golden[f"output/top_motifs_{size}"]
        head = table.read(table_path, len(expected))
        np.testing.assert_array_equal(head.motifs, expected)
        np.testing.assert_array_equal(head.frequency, golden[f"output/top_frequencies_{size}"])
    first = session.counts(BIN_S, *session.chunks[0])
    sums = first.dense().sum(axis=1)
    np.testing.assert_array_equal(sums, golden["output/first_chunk_row_sums"])
    order, _, _ = ordering.published(first)
    np.testing.assert_array_equal(sums[order], golden["output/first_chunk_reordered_row_sums"])


def projection(motifs, references) -> np.ndarray:
    """<motif, reference> / |reference|; 0 for a silent reference."""
    motifs, references = motifs.astype(float), references.astype(float)
    norms = np.sqrt((references**2).sum(axis=1))
    return (motifs * references).sum(axis=1) / np.where(norms == 0, 1, norms)


def cases_of(golden: Golden) -> dict[str, np.ndarray]:
    return {
        k[len("counts_") :]: v for k, v in golden.part("input").items() if k.startswith("counts_")
    }


def test_distances_and_trees_are_equal(reorder):
    for name, counts in cases_of(reorder).items():
        sparse = Counts.of_dense(counts, BIN_S)
        distances = similarity.cosine_distances(similarity.products([sparse], len(counts)))
        condensed = squareform(distances, checks=False)
        assert_close(condensed, reorder[f"output64/distances_{name}"], 1e-12, name)
        tree = hierarchy.linkage(condensed, "ward")
        assert_close(tree, reorder[f"output64/linkage_unordered_{name}"], 1e-9, name)


def test_our_order_costs_as_little_as_can_be(reorder):
    for name in cases_of(reorder):
        distances = squareform(reorder[f"output64/distances_{name}"])
        tree = reorder[f"output64/linkage_unordered_{name}"]
        order = leaves.best_order(tree, distances)
        found = [leaves.cost(each, distances) for each in (leaves.tree_order(tree), order)]
        plain, _, optimum = reorder[f"output64/cost_plain_library_optimum_{name}"]
        np.testing.assert_allclose(found, [plain, optimum], rtol=1e-9)


def test_the_published_order_is_that_of_its_library(reorder):
    for name, counts in cases_of(reorder).items():
        order, silent, costs = ordering.published(Counts.of_dense(counts, BIN_S))
        assert sorted(order) == list(range(len(counts))) and silent == (counts.sum(1) == 0).sum()
        plain, library, _ = reorder[f"output64/cost_plain_library_optimum_{name}"]
        # Costs, since of orders that are equally good any may be found.
        np.testing.assert_allclose(costs[1:], [plain, library], rtol=1e-5)
    single = reorder["output/reordered_single_neuron"]
    order, _, _ = ordering.published(Counts.of_dense(single, BIN_S))
    np.testing.assert_array_equal(single[order], single)
