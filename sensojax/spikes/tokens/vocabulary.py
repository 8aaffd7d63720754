"""A vocabulary: the most frequent motifs of a table, numbered by frequency, and its file.

Token i is motif i of the table; one further number is left for what cannot be said in these motifs
(`escape`). The published vocabulary has 31,999 motifs, tokens 0 to 31,998, so that with the escape
there are 32,000.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensojax.errors import UserError
from sensojax.spikes.counts import dtype_of
from sensojax.spikes.motifs import table
from sensojax.spikes.motifs.patches import Patch
from sensojax.writing import write_bytes_atomically

LARGEST_TOKEN = 31_998  # as published


@dataclass(frozen=True)
class Vocabulary:
    """Motifs [token cell], and what was counted to choose them.

    patch: size of the motifs. bin_s: width of a bin in seconds. frequency: [token]. about: of the
    table (`patches` and `spikes`: how many it holds; `of`: digest of its sessions).
    """

    patch: Patch
    bin_s: float
    motifs: np.ndarray
    frequency: np.ndarray
    about: dict

    @property
    def escape(self) -> int:
        """The token of a patch that is written out beside the tokens."""
        return len(self.motifs)

    @property
    def dtype(self) -> np.dtype:
        """The narrowest whole number of at least 16 bits that holds every token."""
        return np.result_type(np.uint16, dtype_of(self.escape))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what tokens mean: the motifs, their size and the width of a bin."""
        said = f"{self.patch} {self.bin_s} {self.motifs.shape}".encode()
        return hashlib.sha256(said + self.motifs.astype(np.uint32).tobytes()).hexdigest()

    @property
    def lossless(self) -> float:
        """Share of the counted patches whose motif is in the vocabulary."""
        return float(self.frequency.sum() / self.about["patches"])

    @property
    def lossless_spikes(self) -> float:
        """Share of the counted spikes that lie in such patches; NaN when there were no spikes."""
        inside = (self.frequency * self.motifs.sum(axis=1, dtype=np.int64)).sum()
        return float(inside / self.about["spikes"]) if self.about["spikes"] else float("nan")


def of_table(path: Path, largest_token: int = LARGEST_TOKEN) -> Vocabulary:
    """The vocabulary of the first motifs of a table, at most `largest_token` + 1 of them."""
    if largest_token < 0:
        raise UserError(f"found a largest token of {largest_token}, expected 0 or more.")
    found = table.read(path, largest_token + 1)
    if not len(found.motifs):
        raise UserError(f"found no motif in {path}, expected at least one; count more sessions.")
    bin_s = found.about["bin_s"]
    return Vocabulary(found.patch, bin_s, found.motifs, found.frequency, found.about)


def save(path: Path, vocabulary: Vocabulary) -> None:
    """Writes a vocabulary as an .npz file, whole or not at all."""
    file = io.BytesIO()
    np.savez_compressed(
        file,
        motifs=vocabulary.motifs,
        frequency=vocabulary.frequency,
        about=np.array(json.dumps(vocabulary.about)),
    )
    write_bytes_atomically(path, file.getvalue())


def load(path: Path) -> Vocabulary:
    """Reads a vocabulary; UserError when the file is none."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            about = json.loads(str(arrays["about"]))
            motifs, frequency = arrays["motifs"], arrays["frequency"]
        return Vocabulary(Patch.parse(about["patch"]), about["bin_s"], motifs, frequency, about)
    except FileNotFoundError as error:
        raise UserError(
            f"found no file {path}, expected a vocabulary; make one with python "
            "scripts/pile_tokens.py fit."
        ) from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"found {path}, which is no vocabulary ({error}), expected a file of "
            "scripts/pile_tokens.py fit."
        ) from error
