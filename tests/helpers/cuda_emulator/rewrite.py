"""CUDA's extensions of C++'s grammar, written as plain C++; what is no such extension stays.

- `kernel<<<grid, block, ...>>>(arguments)` becomes an object that is called;
- `__shared__` arrays, and `extern __shared__` ones, become references to memory of the emulator;
- a kernel with `__launch_bounds__` first compares its block with them.

Lines keep their numbers.
"""

from __future__ import annotations

import re

DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w:]+)\s+(\w+)\[\];")
STATIC = re.compile(r"__shared__\s+([\w:]+(?:<[^;{}]*?>)?)\s+([^;]+);")
BOUNDS = re.compile(r"__launch_bounds__\(([^()]*)\)")
OPENING = {")": "(", "]": "[", ">": "<"}


def rewrite(text: str, path: str) -> str:
    """Rewrite a source file; `path` is what error messages call it."""
    text = DYNAMIC.sub(
        r"\1* const \2 = static_cast<\1*>(::emulator::dynamic_shared());", _bounds(text)
    )
    return f'#line 1 "{path}"\n' + _launches(STATIC.sub(_static, text))


def _static(match: re.Match[str]) -> str:
    kind, declarators = match[1], match[2]
    lines = "\n" * match[0].count("\n")
    return lines + " ".join(_array(kind, d.strip()) for d in _split(declarators))


def _array(kind: str, declarator: str) -> str:
    name = re.match(r"\w+", declarator)
    assert name, declarator
    struct = f"Shared_{name[0]}"
    return (
        f"struct {struct} {{ {kind} {declarator}; }}; "
        f'auto& {name[0]} = ::emulator::shared<{struct}>("{name[0]}").{name[0]};'
    )


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    pieces, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            pieces.append(text[start:i])
            start = i + 1
    return [*pieces, text[start:]]


def _bounds(text: str) -> str:
    for match in reversed(list(BOUNDS.finditer(text))):
        body = text.index("{", _after_brackets(text, text.index("(", match.end())))
        check = f" ::emulator::check_bounds({match[1]});"
        text = text[: body + 1] + check + text[body + 1 :]
    return text


def _after_brackets(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    raise ValueError("brackets without an end")


def _launches(text: str) -> str:
    while (at := text.find("<<<")) >= 0:
        end = text.index(">>>", at)
        start = _kernel_start(text, at)
        kernel, settings = text[start:at].rstrip(), text[at + 3 : end]
        name = " ".join(kernel.split())
        started = f'::emulator::Start("{name}", {kernel}, {settings})'
        text = text[:start] + started + text[end + 3 :]
    return text


def _kernel_start(text: str, end: int) -> int:
    """Where the expression before `<<<` begins: names, with template arguments or indices."""
    i = end
    while i > 0:
        character = text[i - 1]
        if character in OPENING:
            depth = 0
            while True:
                i -= 1
                depth += (text[i] == character) - (text[i] == OPENING[character])
                if depth == 0:
                    break
        elif re.match(r"[\w:]", character):
            i -= 1
        else:
            break
    return i
