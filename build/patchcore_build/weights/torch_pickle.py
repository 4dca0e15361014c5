"""Interpret the subset of pickle that torch.save uses for tensors; reject everything else.

pickle bytes -> plain dicts, lists, names, numbers and `TensorView`s, and the storages they name.
Whole modules may be described, too, if the caller names their packages: an object becomes a
`Record` of its class's name and its state.

Unpickling runs whatever a file asks for, so nothing is unpickled. `pickletools` splits the pickle
into opcodes, and a small stack machine interprets the few that torch.save needs. It reaches no
import, no call and no attribute of a real object. Source: CPython's pickletools; torch/_utils.py.

A `pickle.Unpickler` with an allow-list in `find_class` would be shorter and less strict: the list
filters names, but every opcode still runs. With CPython 3.11, ten bytes (LONG_BINPUT with a large
index) allocate gigabytes, and a set of a tuple nested 200,000 deep crashes the interpreter.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

# NumPy dtype of each storage type, without byte order; NumPy has no bfloat16, so its bits are u2.
STORAGE_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
}
_STORAGE_NAMES = {f"torch.{kind}": kind for kind in STORAGE_DTYPES}
_ALLOWED_NAMES = {
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    *_STORAGE_NAMES,
}
# Names outside of any package that whole modules need; they become records, too, and never run.
_MODULE_NAMES = {
    "__builtin__.set",
    "__builtin__.getattr",
    "builtins.set",
    "builtins.getattr",
    "torch.device",
    "torch.float16",
    "torch.float32",
    "torch.float64",
}
_PICKLE_BYTES_MAX = 4 << 20  # a state dict of ten thousand tensors takes about 1.5 MB

_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME", "STOP"}


class ByteStream(Protocol):
    """The stream that pickletools reads: an open file, io.BytesIO or mmap."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes."""

    def readline(self) -> bytes:
        """Read up to and including the next line feed."""

    def tell(self) -> int:
        """Return the position in bytes."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat run of `count` elements, stored elsewhere in the file."""

    key: str
    kind: str  # a key of STORAGE_DTYPES
    count: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A strided view of a storage; offset and strides count elements and are not validated."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """An object of a class that is never imported, or the result of a call that is never made."""

    name: str  # of the class or function, dotted
    arguments: tuple[object, ...] = ()
    state: dict[str, object] = field(default_factory=dict)  # its attributes
    items: dict[str | int, object] = field(default_factory=dict)  # of a subclass of dict


@dataclass(frozen=True, slots=True)
class _Name:
    """A global that the pickle refers to; only its dotted name is known."""

    dotted: str


def run_pickle(
    stream: ByteStream, packages: tuple[str, ...] = ()
) -> tuple[object, dict[str, Storage]]:
    """Interpret one pickle from the stream's position on, and leave the stream right behind it.

    Args:
        stream: The file.
        packages: Packages whose objects become records, such as "anomalib"; by default none, and
            the pickle may hold nothing but tensors.

    Returns:
        The value that the pickle describes, and by key every storage it refers to.

    Raises:
        ValueError: The pickle is corrupt, or asks for something that is no tensor.
    """
    machine = _Machine(packages)
    start = stream.tell()
    try:
        for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
            if stream.tell() - start > _PICKLE_BYTES_MAX:
                raise ValueError(f"its pickle is longer than {_PICKLE_BYTES_MAX} bytes")
            machine.step(opcode.name, argument)
        return machine.pop(), machine.storages
    except (IndexError, KeyError) as error:
        raise ValueError(f"its pickle is damaged before byte {stream.tell()}") from error


class _Machine:
    """The stack machine of pickle; its only values are plain data, names, records and tensors."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        """Interpret one opcode, named as in pickletools."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name not in _IGNORED:
            self._build(name, argument)

    def pop(self) -> Any:
        """Pop the value on top of the stack; values below the last mark are out of reach."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError
        return self.stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def _build(self, name: str, argument: Any) -> None:
        """Interpret an opcode that combines values."""
        if name == "TUPLE":
            self.stack.append(tuple(self._pop_to_mark()))
        elif name in _TUPLES:
            self.stack.append(tuple([self.pop() for _ in range(_TUPLES[name])][::-1]))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop_to_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
            _set_items(self.stack[-1], items)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop_to_mark() if name == "APPENDS" else [self.pop()]
            _extend(self.stack[-1], items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            names = argument.split(" ") if name == "GLOBAL" else [self.pop(), self.pop()][::-1]
            self.stack.append(self._name(names))
        elif name == "BINPERSID":
            self.stack.append(self._storage(self.pop()))
        elif name == "REDUCE":
            arguments = self.pop()
            self.stack.append(_call(self.pop(), arguments))
        elif name == "NEWOBJ" and self.packages:
            arguments = self.pop()
            self.stack.append(_record(self.pop(), arguments))
        elif name == "BUILD" and isinstance(self.stack[-2], dict | Record):
            _set_state(self.stack[-2], self.pop())
        else:
            raise ValueError(f"its pickle uses {name}, which no state dict needs")

    def _name(self, parts: list[Any]) -> _Name:
        """Accept the name of a global that tensors or the named packages need; import nothing."""
        dotted = ".".join(part for part in parts if type(part) is str)
        if dotted in _ALLOWED_NAMES:
            return _Name(dotted)
        if not self.packages:
            raise ValueError(f"its pickle asks for {quote(dotted)}, which is no tensor")
        known = dotted in _MODULE_NAMES or dotted.partition(".")[0] in self.packages
        if not known and not dotted.startswith("torch.nn."):
            raise ValueError(f"its pickle wants to run {quote(dotted)}, which no model needs")
        return _Name(dotted)

    def _storage(self, reference: object) -> Storage:
        """Validate a persistent id: ("storage", type, key, device, count[, None])."""
        match reference:
            case ("storage", _Name(dotted), str(key), str(), int(count), *view) if (
                dotted in _STORAGE_NAMES and count >= 0 and view in ([], [None])
            ):
                storage = Storage(key, _STORAGE_NAMES[dotted], count)
            case _:
                raise ValueError(f"{quote(reference)} does not refer to a storage")
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {quote(key)} is described in two ways")
        return storage


def _set_items(target: object, items: list[Any]) -> None:
    # Keys are names and numbers only: hashing a deeply nested tuple would overflow the C stack.
    if isinstance(target, Record):
        target = target.items
    if type(target) is not dict or len(items) % 2:
        raise IndexError
    if any(type(key) not in (str, int) for key in items[::2]):
        raise ValueError("it holds a dict whose keys are neither names nor numbers")
    target.update(zip(items[::2], items[1::2], strict=True))


def _extend(target: object, items: list[Any]) -> None:
    if type(target) is not list:
        raise IndexError
    target.extend(items)


def _set_state(target: dict[Any, Any] | Record, state: object) -> None:
    """Set the attributes of a record; those of a state dict (`_metadata`) are dropped."""
    if isinstance(target, Record):
        target.state.update(state if type(state) is dict else {"state": state})


def _record(name: object, arguments: object) -> Record:
    if type(name) is not _Name or name.dotted in _ALLOWED_NAMES or type(arguments) is not tuple:
        raise ValueError(f"its pickle makes an object of {quote(name)}")
    return Record(name.dotted, arguments)


def _call(function: object, arguments: Any) -> object:
    """Describe the result of a call instead of making the call."""
    match function, arguments:
        case _Name("collections.OrderedDict"), ():
            return {}
        case _Name("torch.Size"), (tuple(sides),):
            return sides
        case _Name("torch._utils._rebuild_parameter"), (TensorView() as tensor, *_):
            return tensor
        case (
            _Name("torch._utils._rebuild_tensor_v2"),
            (Storage() as storage, offset, tuple(shape), tuple(strides), *_),
        ) if all(type(number) is int for number in (offset, *shape, *strides)):
            return TensorView(storage, offset, shape, strides)
        case _Name(dotted), tuple() if dotted not in _ALLOWED_NAMES:
            return Record(dotted, arguments)
    raise ValueError(f"its pickle calls {quote(function)} on {quote(arguments)}")


def quote(value: object) -> str:
    """Show any value from the file on one line of bounded length."""
    if isinstance(value, tuple | list | dict):  # repr of a hostile nest would recurse
        flat = all(type(item) in (int, str) for item in value)
        text = ascii(value) if flat and len(value) <= 8 else f"a {type(value).__name__}"
    elif isinstance(value, Record):
        text = f"an object of {value.name!a}"
    else:
        text = ascii(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
