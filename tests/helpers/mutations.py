"""Wrong versions of a small right file: bytes, numbers in texts, values of facts, members of a zip.

What a mutation does depends on its random numbers only, so that a case can be made again.
"""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from typing import Any

ODD_NUMBERS = (
    b"-1 0 99999999 2147483648 18446744073709551616 1e999 1e-300 nan inf -0 1,5 1_0 0x10 +".split()
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e308, 10**30, float("nan"), "", "x", "../evil", "\x1b[31m", "=1+1"),
    *([], {}, [None], [[]], {"a": {}}, "a" * 3000, [1] * 50, -0.5, "W", 10**9),
)
INTEGERS = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x10000)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change a file's content once or a few times."""
    kinds = [_bytes] * 3 + [_numbers] * 2
    if content[:1] in b"{[" and content[-2:].strip()[-1:] in (b"}", b"]"):
        kinds += [_json] * 6
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content):
        kinds += [_tensors] * 8
    if content[:4] == b"PK\3\4":
        kinds += [_zip] * 8
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(kinds)(content, rng)
    return content


def _bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
    at = rng.randrange(min(len(data), rng.choice((64, 1024, len(data)))))
    length = rng.choice((1, 1, 4, 16, 200))
    match rng.randrange(7):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.randrange(256)
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        case 4:
            del data[at:]
        case 5:
            data[at : at + 4] = rng.choice(INTEGERS).to_bytes(4, rng.choice(("little", "big")))
        case _:
            other = rng.randrange(len(data))
            data[at : at + length] = data[other : other + length]
    return bytes(data)


def _numbers(content: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"[0-9.]+", content[:100_000]))
    if not found:
        return _bytes(content, rng)
    at = rng.choice(found)
    new = rng.choice(ODD_NUMBERS)
    if rng.random() < 0.5:  # of the same length, as in a header of fixed fields
        new = new[: len(at[0])].ljust(len(at[0]))
    return content[: at.start()] + new + content[at.end() :]


def _json(content: bytes, rng: random.Random) -> bytes:
    try:
        return json.dumps(change(json.loads(content), rng)).encode()
    except (ValueError, RecursionError):
        return _bytes(content, rng)


def change(value: Any, rng: random.Random) -> Any:
    """Replace, remove or repeat one value in a tree of facts."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: change(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:at] + value[at + 1 :] * rng.choice((1, 2))
        return [*value[:at], change(value[at], rng), *value[at + 1 :]]
    return rng.choice(ODD_VALUES)


def _tensors(content: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        if "__metadata__" in header and rng.random() < 0.7:
            facts = {k: json.loads(v) for k, v in header["__metadata__"].items()}
            header["__metadata__"] = {k: json.dumps(v) for k, v in change(facts, rng).items()}
        else:
            header = change(header, rng)
        text = json.dumps(header).encode()
    except (ValueError, AttributeError, TypeError):
        return _bytes(content, rng)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _zip(content: bytes, rng: random.Random) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(members))
        members[name] = rng.choice((_bytes, _numbers))(members[name], rng)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        return buffer.getvalue()
    except Exception:  # an earlier mutation broke it
        return _bytes(content, rng)
