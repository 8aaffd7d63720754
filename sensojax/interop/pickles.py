"""Plain values out of a pickle, without the pickle machinery: nothing in it can run.

In: the bytes of a pickle and the few names it may mention; out: dicts, lists, tuples, numbers and
strings, and whatever our own functions make of the calls that these names allow.

Why not a `pickle.Unpickler` with a list of allowed names: it still sets attributes, calls whatever
lies on its stack, hashes tuples that nest deeper than the C stack (a crash), and makes a memo as
long as the largest index that a file mentions (32 GB for 5 bytes). Here `pickletools` only splits
the bytes into steps, and this module does the ones that state dicts are made of: a name becomes a
value from our table, never an import; a call is only ever one of our functions; attributes are only
told to objects of ours (`Attributed`), which take the list of modules of a state dict or the byte
order of a number. The number of steps is bounded, and with it time and memory.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LARGEST_PICKLE = 16 << 20  # bytes; ten thousand tensors take two million
MOST_STEPS = 500_000  # a tensor takes 36; the dearest step takes some 150 bytes of memory
MOST_WAITING = 100_000  # values and marks on the stack; real files have a few thousand
SCALARS = (str, int, float, bool, type(None))
METADATA = "_metadata"  # the attribute of state dicts that lists the modules
MARK = object()


class Refused(Exception):
    """Why a pickle is not read, as a part of a sentence: "its pickle ..."."""


@dataclass(frozen=True)
class Call:
    """A function of ours that stands for a name in a pickle. make: called with its arguments."""

    make: Callable[[Sequence[Any]], Any]


class Attributed:
    """What a pickle may tell attributes of after it was made; nothing is set, `told` decides."""

    def told(self, attributes: Any) -> None:
        raise Refused("its pickle sets attributes of something")


class StateDict(dict, Attributed):
    """An ordered dict of a pickle. modules: the names of the modules that it came from, if told."""

    modules: tuple[str, ...] | None = None

    def told(self, attributes: Any) -> None:
        """The list of modules is all that is known of state dicts."""
        alone = isinstance(attributes, dict) and len(attributes) == 1
        listed = attributes.get(METADATA) if alone else None
        if not isinstance(listed, dict):
            super().told(attributes)
        self.modules = tuple(name for name in listed if isinstance(name, str))


def load(content: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """The value that a pickle describes.

    names: what each dotted name stands for; a `Call` is what may be called. persistent: makes a
    value of what the pickle says lies outside it. Raises `Refused` for anything else.
    """
    if len(content) > LARGEST_PICKLE:
        raise Refused(f"its pickle has {len(content):,} bytes, expected {LARGEST_PICKLE:,} at most")
    machine = _Machine(names, persistent, len(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
                if number >= MOST_STEPS:
                    raise Refused(f"its pickle has more than {MOST_STEPS:,} steps")
                machine.step(opcode.name, argument)
        # How pickletools reports cut and wrong bytes, and backslashes in names.
        except (ValueError, OverflowError, DeprecationWarning) as error:
            said = " ".join(str(error).split())[:100]
            raise Refused(f"its pickle is cut or wrong ({said})") from error
    return machine.pop()


class _Machine:
    """A stack, a memo, and the steps that are allowed."""

    def __init__(self, names, persistent, length: int):
        self.names, self.persistent, self.length = names, persistent, length
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name not in STEPS:
            raise Refused(f"its pickle has the step {name}, which no state dict needs")
        STEPS[name](self, argument)

    def push(self, value: Any) -> None:
        if len(self.stack) >= MOST_WAITING:
            raise Refused(f"its pickle nests more than {MOST_WAITING:,} values")
        self.stack.append(value)

    def number(self, value: int) -> None:
        if value.bit_length() > 64:
            raise Refused("its pickle has a number of more than 64 bits")
        self.push(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise Refused("its pickle takes a value that is not there")
        return self.stack.pop()

    def pop_last(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not MARK:
            at -= 1
        if at < 0:
            raise Refused("its pickle takes values that are not there")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise Refused(f"its pickle fills a {kind.__name__} that is not there")
        return self.stack[-1]

    def put(self, index: int) -> None:
        if not 0 <= index <= self.length or not self.stack:  # an entry takes at least a byte
            raise Refused("its pickle remembers more values than it has bytes")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused("its pickle recalls a value that it never made")
        self.push(self.memo[index])

    def set_items(self, values: Sequence[Any]) -> None:
        keys = values[::2]
        if len(values) % 2 or not all(isinstance(key, SCALARS) for key in keys):
            raise Refused("its pickle has a key that is no number or string")
        self.top(dict).update(zip(keys, values[1::2], strict=True))

    def name(self, module: Any, name: Any) -> None:
        dotted = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?"
        if dotted not in self.names:
            raise Refused(f"its pickle mentions {dotted[:100]!r}, of which nothing is made here")
        self.push(self.names[dotted])

    def reduce(self) -> None:
        function, arguments = self.pop_last(2)
        if not isinstance(function, Call) or not isinstance(arguments, tuple):
            raise Refused("its pickle calls something that is none of our functions")
        self.push(function.make(arguments))

    def build(self) -> None:
        attributes, target = self.pop(), self.top(object)
        if not isinstance(target, Attributed):
            raise Refused("its pickle sets attributes of something")
        target.told(attributes)


def _push(value: Any) -> Callable:
    return lambda machine, _: machine.push(value)


def _nothing(machine: _Machine, _: Any) -> None:
    """For the frame around a pickle."""


STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _nothing,
    "FRAME": _nothing,
    "STOP": _nothing,
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "INT": _Machine.number,
    "BININT": _Machine.number,
    "BININT1": _Machine.number,
    "BININT2": _Machine.number,
    "LONG": _Machine.number,
    "LONG1": _Machine.number,
    "LONG4": _Machine.number,
    "FLOAT": _Machine.push,
    "BINFLOAT": _Machine.push,
    "UNICODE": _Machine.push,
    "BINUNICODE": _Machine.push,
    "BINUNICODE8": _Machine.push,
    "SHORT_BINUNICODE": _Machine.push,
    "BINBYTES": _Machine.push,
    "BINBYTES8": _Machine.push,
    "SHORT_BINBYTES": _Machine.push,
    "MARK": _push(MARK),
    "EMPTY_TUPLE": _push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_last(3))),
    "APPEND": lambda machine, _: _append(machine, machine.pop_last(1)),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.pop_last(2)),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
}


def _append(machine: _Machine, values: Sequence[Any]) -> None:
    machine.top(list).extend(values)
