"""From a recording to a store: `write` converts one mouse, `verify` compares it with its source.

In goes a `types.Recording`; out comes the folder that `store.TrialStore` opens. `trials` reads,
checks and hashes the source in several threads, every file once; `writing` takes the trials in file
order, gives each distinct clip its row and stores them; `journal` remembers what is safely stored.
A conversion that is killed leaves `<mouse>.partial/` with the first trials; the same call continues
after them. Fingerprint and arrays depend neither on kills nor on the number of threads.
"""

from sensojax.conversion.verifying import verify
from sensojax.conversion.writing import RESPONSE_DTYPES, write

__all__ = ["RESPONSE_DTYPES", "verify", "write"]
