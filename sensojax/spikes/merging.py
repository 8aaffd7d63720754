"""Several data sets joined into one table, with a split, statistics and a page that describes it.

In go the tallies of what was written; out come `statistics.json` and `README.md`, which is a data
set card as the hub for data sets reads it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sensojax.errors import UserError
from sensojax.spikes import statistics
from sensojax.spikes.rows import Row, Settings
from sensojax.spikes.session import Session
from sensojax.spikes.shards import FILES
from sensojax.spikes.sources import components
from sensojax.spikes.statistics import Tally
from sensojax.writing import plain, write_atomically

STATISTICS, CARD = "statistics.json", "README.md"
LEAK = (
    "Rows are split one by one, as published: most test rows have the minutes before and after "
    "them in the training split, and scores on them say little about new recordings."
)
WHOLE = "Each {} is in one split as a whole."


def check_names(sessions: Sequence[Session]) -> None:
    """UserError when a session comes twice: once from its store and once from its table, say."""
    key, times = Counter((each.component, each.name) for each in sessions).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"found session {key[1]} of {key[0]} in {times} of the sources, expected it once; "
            "name one of them."
        )


def describe(
    folder: Path,
    sessions: Sequence[Session],
    splits: Mapping[str, Sequence[Row]],
    tallies: Mapping[str, Mapping[str, Tally]],
    settings: Settings,
    how: Mapping[str, object],
) -> dict:
    """Writes statistics and card of a table; returns the statistics.

    how: what the split was made by (`level`, `share`, `seed`).
    """
    numbers = {
        "bin_s": settings.bin_s,
        "split": dict(how),
        "splits": {
            name: _numbers(sum(tallies[name].values(), start=Tally())) | _who(sessions, rows)
            for name, rows in splits.items()
        },
        "components": {
            name: _of_component(name, sessions, splits, tallies)
            for name in sorted({session.component for session in sessions})
        },
    }
    every = sum((each for of in tallies.values() for each in of.values()), start=Tally())
    train = sum(tallies.get("train", {}).values(), start=Tally())
    numbers["all"] = _numbers(every) | {"times": every.plain()["times"]}
    if train.tokens:
        numbers["class_weights"] = statistics.class_weights(train.shares)
    numbers = plain(numbers)
    write_atomically(folder / STATISTICS, json.dumps(numbers, indent=1))
    write_atomically(folder / CARD, card(numbers, settings))
    return numbers


def _of_component(name: str, sessions, splits, tallies) -> dict:
    rows = [row for group in splits.values() for row in group]
    own = [row for row in rows if sessions[row.session].component == name]
    tally = sum((of.get(name, Tally()) for of in tallies.values()), start=Tally())
    test = tallies.get("test", {}).get(name, Tally()).tokens
    return _numbers(tally) | _who(sessions, own) | {"test_tokens": test}


def _numbers(tally: Tally) -> dict:
    return {
        "rows": tally.rows,
        "tokens": tally.tokens,
        "spikes": tally.spikes,
        "spikes_per_token": tally.spikes / max(tally.tokens, 1),
        "silent_share": tally.times.get(0, 0) / max(tally.tokens, 1),
        "largest_count": tally.largest,
        "entropy_bits": tally.entropy_bits,
    }


def _who(sessions: Sequence[Session], rows: Sequence[Row]) -> dict:
    found = [sessions[number] for number in sorted({row.session for row in rows})]
    return {
        "sessions": len(found),
        "subjects": len({(each.component, each.subject) for each in found}),
        "neurons": sum(each.num_neurons for each in found),
    }


def card(numbers: Mapping, settings: Settings) -> str:
    """The page: a header for machines, then what is in the table, for people."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for name in numbers["splits"]:
        lines += [f"  - split: {name}", f"    path: {FILES}/{name}-*"]
    licences = {_licence(name) for name in numbers["components"]}
    if len(licences) == 1 and "" not in licences:
        lines += [f"license: {licences.pop().lower()}"]
    every, how = numbers["all"], numbers["split"]
    width = f"{settings.bin_s * 1e3:g} ms"
    lines += [
        *("---", "", "# Spike counts", ""),
        f"{every['tokens']:,} counts of spikes of single neurons in bins of {width}: "
        f"{every['spikes']:,} spikes, {every['spikes_per_token'] / settings.bin_s:.2f} per neuron "
        f"and second; {every['silent_share']:.1%} of the bins are silent, the largest count is "
        f"{every['largest_count']}. Independent counts would take {every['entropy_bits']:.4f} bits "
        "each.",
        "",
        "A row is a stretch of one session: `spike_counts` (neurons, each a list of bins), "
        "`subject_id`, `session_id`, `segment_id` (its number in the session, from 0) and "
        "`source_dataset`. Made with sensojax from recordings that belong to their publishers.",
        *("", "## Splits", ""),
        _rule(how),
        "",
        *_table("split", numbers["splits"], ("rows", "tokens", "sessions", "subjects", "neurons")),
        *("", "## Data sets", ""),
        *_table(
            "data set",
            {_linked(name): each for name, each in numbers["components"].items()},
            ("tokens", "sessions", "subjects", "neurons", "spikes", "largest_count", "test_tokens"),
            {_linked(name): _licence(name) or "see its page" for name in numbers["components"]},
        ),
    ]
    return "\n".join(lines) + "\n"


def _rule(how: Mapping) -> str:
    if not how["share"]:
        return "There is one split; rows are in a random order (seed " + f"{how['seed']})."
    said = LEAK if how["level"] == "chunk_leaking" else WHOLE.format(how["level"])
    return f"{said} About {how['share']:.1%} is tested on, chosen by seed {how['seed']}."


def _table(what: str, rows: Mapping[str, Mapping], names, licences: Mapping | None = None) -> list:
    heads = [what, *(name.replace("_", " ") for name in names), *(["licence"] if licences else [])]
    lines = [f"| {' | '.join(heads)} |", "|" + " :-- |" + " --: |" * len(names)]
    lines[1] += " :-- |" if licences else ""
    for key, row in rows.items():
        cells = [key, *(f"{row[name]:,}" for name in names)]
        cells += [licences[key]] if licences else []
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _linked(name: str) -> str:
    known = components.BY_NAME.get(name)
    return f"[{known.title}]({known.page})" if known else name or "unnamed"


def _licence(name: str) -> str:
    known = components.BY_NAME.get(name)
    return known.licence if known else ""
