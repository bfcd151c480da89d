"""What a compiled program does, read from its text: the kernels of its entry computation and the bytes that they move.

A kernel reads each operand once and writes its results, but of an operand that is only looked up no more than what is
looked up, and of one that is overwritten in place no more than what is written.
"""

import math
import re
from typing import NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
BYTES |= {"s64": 8, "u64": 8, "f64": 8}
SHAPE = re.compile(rf"\b({'|'.join(BYTES)})\[([\d,]*)\]")
INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(?:,|$)(.*)")
NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}
LOOPS = {"while", "conditional", "call"}
SAME = {"bitcast", "reshape", "convert", "copy", "transpose"}  # of one operand, which is then looked up all the same


class Instruction(NamedTuple):
    name: str
    size: int  # bytes of the result
    shape: str
    kind: str
    operands: tuple[str, ...]
    rest: str
    root: bool


class Kernel(NamedTuple):
    name: str
    kind: str
    read: int
    written: int


def size(shape):
    """Bytes of a shape, or of all in a tuple."""
    return sum(BYTES[kind] * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in SHAPE.findall(shape))


def computations(text):
    """Name → instructions, in order; that of the entry is "ENTRY"."""
    found, current = {}, None
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$", line)
        if head:
            current = found.setdefault("ENTRY" if head[1] else head[2], [])
        elif line.startswith("}"):
            current = None
        elif current is not None and " = " in line:
            match = INSTRUCTION.match(line)
            if not match:
                raise ValueError(f"No instruction: {line[:200]}")
            root, name, shape, kind, operands, rest = match.groups()
            names = tuple(operands.split(",")) if kind in ("parameter", "constant") else _names(operands)
            current.append(Instruction(name, size(shape), shape, kind, names, rest, bool(root)))
    return found


def _names(operands):
    return tuple(re.findall(r"%([\w.\-]+)", operands))


def kernels(text):
    """Those of the entry computation. ValueError where it has loops, whose kernels run an unknown number of times."""
    found = computations(text)
    sizes = {i.name: i.size for i in found["ENTRY"]}
    if loops := {i.kind for i in found["ENTRY"]} & LOOPS:
        raise ValueError(f"The entry computation has {sorted(loops)}.")
    return [_kernel(i, sizes, found) for i in found["ENTRY"] if i.kind not in NO_KERNEL]


def _kernel(instruction, sizes, found):
    read = {name: sizes[name] for name in instruction.operands}
    written = instruction.size
    called = re.search(r"calls=%?([\w.\-]+)", instruction.rest)
    if instruction.kind == "fusion" and called:
        body = found[called[1]]
        numbers = {i.name: int(i.operands[0]) for i in body if i.kind == "parameter"}
        for name, number in numbers.items():
            operand = instruction.operands[number]
            read[operand] = min(read[operand], _looked_up(name, body))
        written = min(written, _overwritten(body))
    return Kernel(instruction.name, instruction.kind, sum(read.values()), written)


def _looked_up(name, body):
    """The bytes of a parameter that its users look up or overwrite; infinite if one of them reads all of it."""
    total = 0
    for user in (i for i in body if name in i.operands):
        if user.kind in SAME:
            total += _looked_up(user.name, body)
        elif user.kind in ("gather", "dynamic-slice") and user.operands[0] == name:
            total += user.size
        elif user.kind in ("scatter", "dynamic-update-slice") and user.operands[0] == name:
            total += _update(user, body)
        else:
            return math.inf
    return total


def _overwritten(body):
    root = next(i for i in body if i.root)
    return _update(root, body) if root.kind in ("scatter", "dynamic-update-slice") else math.inf


def _update(instruction, body):
    return next(i.size for i in body if i.name == instruction.operands[-1 if instruction.kind == "scatter" else 1])


def moved(found):
    """Bytes read and written by all kernels."""
    return sum(kernel.read + kernel.written for kernel in found)
