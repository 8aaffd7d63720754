"""The token of every motif of a table, and what a vocabulary does to everything that was counted.

In go a table of motifs and a vocabulary; out comes a Parquet file with the columns `patch`,
`frequency` and `token`, motif by motif as in the table, and the `Fidelity` of all counted patches.
A block of the table is in memory at a time.
"""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sensojax.errors import UserError
from sensojax.progress import track
from sensojax.spikes.motifs import table
from sensojax.spikes.tokens.coding import Encoder
from sensojax.spikes.tokens.fidelity import Fidelity
from sensojax.spikes.tokens.vocabulary import Vocabulary

ABOUT = b"sensojax.assigned"
AT_ONCE = 50_000  # motifs: a few seconds of looking for the nearest ones


def assign(path: Path, vocabulary: Vocabulary, rest: str, out: Path) -> Fidelity:
    """Writes the token of every motif of the table at `path` to `out`, whole or not at all.

    rest: what becomes of motifs that are not in the vocabulary, see `coding.RESTS`. Raises
    UserError when the table has motifs of another size.
    """
    about = table.about(path)
    found = (about["patch"], about["bin_s"])
    if found != (str(vocabulary.patch), vocabulary.bin_s):
        raise UserError(
            f"found motifs {found[0]} of {found[1]} s bins in {path}, expected {vocabulary.patch} "
            f"of {vocabulary.bin_s} s as in the vocabulary; give the table it was made from."
        )
    encoder = Encoder(vocabulary, rest)
    told = dict(rest=rest, vocabulary=vocabulary.fingerprint)
    column = pq.read_schema(path).field("patch")
    tokens = pa.field("token", pa.from_numpy_dtype(vocabulary.dtype))
    fields = [column, pa.field("frequency", pa.int64()), tokens]
    schema = pa.schema(fields, metadata={ABOUT: json.dumps(told)})
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.{os.getpid()}.partial")
    fidelity = Fidelity()
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            blocks = table.stream(path, at_once=AT_ONCE)
            total = -(-about["motifs"] // AT_ONCE)
            for motifs, frequency in track(blocks, "assigning tokens", total):
                token = encoder.tokens_of(motifs)
                fidelity += Fidelity.of(motifs, encoder.read_as(token, motifs), frequency)
                cells = pa.array(motifs.ravel(), column.type.value_type)
                arrays = [pa.FixedSizeListArray.from_arrays(cells, type=column.type)]
                arrays += [pa.array(frequency), pa.array(token.astype(vocabulary.dtype))]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return fidelity
