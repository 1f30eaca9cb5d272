"""The texts of each page of a PDF that Chromium printed: what stands where on paper."""

from __future__ import annotations

import re
import zlib

Glyphs = dict[int, str]


def page_texts(pdf: bytes) -> list[str]:
    """Give the text of every page, its pieces in the order in which they are drawn."""
    objects = {
        int(number): body
        for number, body in re.findall(rb"(?<!\d)(\d+) 0 obj\b(.*?)\bendobj", pdf, re.S)
    }
    catalogue = next(body for body in objects.values() if b"/Type /Catalog" in body)
    root = objects[_reference(catalogue, b"Pages")]
    return [_text(objects, page) for page in _pages(objects, root)]


def _reference(body: bytes, key: bytes) -> int:
    match = re.search(rb"/" + key + rb" (\d+) 0 R", body)
    assert match, key
    return int(match[1])


def _pages(objects: dict[int, bytes], node: bytes) -> list[bytes]:
    kids = re.search(rb"/Kids \[(.*?)\]", node, re.S)
    if kids is None:
        return [node]
    numbers = re.findall(rb"(\d+) 0 R", kids[1])
    return [page for number in numbers for page in _pages(objects, objects[int(number)])]


def _stream(body: bytes) -> bytes:
    head, _, data = body.partition(b"stream\n")
    data = data.rpartition(b"endstream")[0]
    return zlib.decompressobj().decompress(data) if b"FlateDecode" in head else data


def _text(objects: dict[int, bytes], page: bytes) -> str:
    resources = page
    if match := re.search(rb"/Resources (\d+) 0 R", page):
        resources = objects[int(match[1])]
    fonts = re.search(rb"/Font <<(.*?)>>", resources, re.S)
    pairs = re.findall(rb"/(\w+) (\d+) 0 R", fonts[1]) if fonts else []
    glyphs = {name: _glyphs(objects, objects[int(number)]) for name, number in pairs}
    content = _stream(objects[_reference(page, b"Contents")])
    pieces, font = [], (4, Glyphs())
    for name, shown in re.findall(rb"/(\w+) [\d.]+ Tf|(\[[^\]]*\] TJ|<[0-9A-Fa-f]*> Tj)", content):
        if name:
            font = glyphs[name]
            continue
        codes = b"".join(re.findall(rb"<([0-9A-Fa-f]*)>", shown))
        digits, table = font
        numbers = (int(codes[i : i + digits], 16) for i in range(0, len(codes), digits))
        pieces += [table.get(number, "?") for number in numbers]
    return "".join(pieces)


def _glyphs(objects: dict[int, bytes], font: bytes) -> tuple[int, Glyphs]:
    """Hexadecimal digits of a glyph, and glyph to text, of a font's ToUnicode table."""
    digits = 4 if b"/Type0" in font else 2
    if b"/ToUnicode" not in font:
        return digits, {}
    table = _stream(objects[_reference(font, b"ToUnicode")])
    glyphs = Glyphs()
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", table, re.S):
        for code, text in re.findall(rb"<(\w+)> <(\w+)>", block):
            glyphs[int(code, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", table, re.S):
        for first, last, text in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
            for offset in range(int(last, 16) - int(first, 16) + 1):
                glyphs[int(first, 16) + offset] = chr(int(text, 16) + offset)
    return digits, glyphs
