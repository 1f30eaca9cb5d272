"""Reading and writing the first sheet of an Office Open XML workbook (.xlsx, ECMA-376)."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Never
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from sleeptools import store
from sleeptools.errors import DataError

STARTS_XLSX: Final = b"PK\x03\x04"
MAIN: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
RELATION: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
TEXT, VALUE, PHONETIC = f"{MAIN}t", f"{MAIN}v", f"{MAIN}rPh"
BLOCK: Final = 1 << 16  # bytes unpacked at a time
LARGEST: Final = 1 << 24  # bytes of one unpacked member
PACKED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what spreadsheet programs write
LAST_ROW, LAST_COLUMN = 1 << 20, 1 << 14  # of a sheet, in any program
MOST_CELLS: Final = 1 << 18  # that hold something: ten times what a data set's table has
MOST_LETTERS: Final = 1 << 24  # of all texts
Cells = dict[tuple[int, int], str | float]


def read_xlsx(path: Path, data: bytes) -> Cells:
    """Read the cells of the first sheet, by row and column from 0.

    The members are read as a stream of elements, without a tree of them, because a small workbook
    can unpack to a thousand times its size.

    Raises
    ------
    DataError
        If the workbook is damaged, or holds more than a data set's table.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            texts = _shared(archive)
            sheet = _Sheet(texts)
            _parse(archive, _first_sheet(archive), sheet)
        return sheet.cells
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ET.ParseError,
        ValueError,
        IndexError,
        LookupError,
        EOFError,
        NotImplementedError,
        RuntimeError,  # an encrypted member
        OSError,  # a member that begins outside the file
    ) as e:
        raise DataError(
            f"{path.name}: not a readable .xlsx workbook: {e}", code="SHEET-READ"
        ) from e


def _parse(archive: zipfile.ZipFile, name: str, target: _Elements) -> None:
    """Send the elements of a member to `target`, in blocks, up to `LARGEST` bytes."""
    info = archive.getinfo(name)
    if info.compress_type not in PACKED:
        raise ValueError(f"{name} is packed by method {info.compress_type}")
    parser = ET.XMLParser(target=target)
    done = 0
    with archive.open(info) as member:
        while block := member.read(BLOCK):
            done += len(block)
            if done > LARGEST:
                raise ValueError(f"{name} has more than {LARGEST >> 20} MiB")
            parser.feed(block)
    parser.close()


class _Elements:
    """Elements of a member as they come; document types, and so entities, are refused."""

    def doctype(self, name: str, public: str | None, system: str | None) -> Never:
        raise ValueError("it declares a document type")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""

    def end(self, tag: str) -> None:
        """Take the end of an element."""

    def data(self, text: str) -> None:
        """Take a piece of text."""

    def close(self) -> None:
        """Take the end of the member."""


class _Tags(_Elements):
    """The attributes of every element of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[dict[str, str]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag.rpartition("}")[2] == self.name and len(self.found) < LAST_COLUMN:
            self.found.append(attributes)


class _Texts(_Elements):
    """Texts: the runs of each `item`, joined, without its phonetic guide."""

    def __init__(self, item: str) -> None:
        self.item = item
        self.texts: list[str] = []
        self._pieces: list[str] = []
        self._listening = self._phonetic = False
        self._letters = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == self.item:
            self._pieces = []
        self._phonetic |= tag == PHONETIC
        self._listening = tag == TEXT and not self._phonetic

    def data(self, text: str) -> None:
        if self._listening:
            self._letters += len(text)
            if self._letters > MOST_LETTERS:
                raise ValueError("its texts are too long")
            self._pieces.append(text)

    def end(self, tag: str) -> None:
        self._listening = False
        self._phonetic &= tag != PHONETIC
        if tag == self.item:
            if len(self.texts) >= MOST_CELLS:
                raise ValueError("it holds too many texts")
            self.texts.append("".join(self._pieces))


class _Sheet(_Texts):
    """Cells of a sheet."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(f"{MAIN}is")
        self.cells: Cells = {}
        self._shared = texts
        self._cell: dict[str, str] = {}
        self._count = 0
        self._number: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        super().start(tag, attributes)
        if tag == f"{MAIN}c":
            self._cell, self._number = attributes, None
            self.texts = []
        if tag == VALUE:
            self._number, self._pieces, self._listening = [], [], True

    def end(self, tag: str) -> None:
        super().end(tag)
        if tag == VALUE:
            self._number = self._pieces
        if tag == f"{MAIN}c":
            self._add()

    def _add(self) -> None:
        self._count += 1  # of one cell written many times, too
        if self._count > MOST_CELLS:
            raise ValueError(f"it has more than {MOST_CELLS} cells")
        kind = self._cell.get("t", "n")
        cell_index = _place(self._cell.get("r", ""))
        if self.texts:
            self.cells[cell_index] = self.texts[0]
        elif self._number is not None:
            value = "".join(self._number)
            number = _text_number(value, len(self._shared)) if kind == "s" else 0
            self.cells[cell_index] = (
                self._shared[number] if kind == "s" else float(value) if kind == "n" else value
            )


def _text_number(value: str, count: int) -> int:
    number = int(value)
    if not 0 <= number < count:
        raise ValueError(f"text {number} of {count}")
    return number


def _first_sheet(archive: zipfile.ZipFile) -> str:
    sheets, relations = _Tags("sheet"), _Tags("Relationship")
    _parse(archive, "xl/workbook.xml", sheets)
    if not sheets.found:
        raise ValueError("no sheets")
    relation_id = sheets.found[0].get(RELATION)
    _parse(archive, "xl/_rels/workbook.xml.rels", relations)
    targets = [r.get("Target", "") for r in relations.found if r.get("Id") == relation_id]
    if not targets:
        raise ValueError("its first sheet has no file")
    return targets[0].lstrip("/") if targets[0].startswith("/") else f"xl/{targets[0]}"


def _shared(archive: zipfile.ZipFile) -> list[str]:
    texts = _Texts(f"{MAIN}si")
    if "xl/sharedStrings.xml" in archive.namelist():
        _parse(archive, "xl/sharedStrings.xml", texts)
    return texts.texts


def _place(reference: str) -> tuple[int, int]:
    match = re.fullmatch(r"([A-Z]{1,3})(\d{1,7})", reference)
    if match is None:
        raise ValueError(f"cell reference {reference!r}")
    column = 0
    for letter in match[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    row = int(match[2])
    if not (0 < row <= LAST_ROW and column <= LAST_COLUMN):
        raise ValueError(f"cell {reference}, which no sheet has")
    return row - 1, column - 1


# --- writing, for simulated data sets -------------------------------------------------------------

TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.spreadsheetml.sheet.main+xml"/>'
    '<Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.spreadsheetml.worksheet+xml"/>'
    '<Override PartName="/xl/sharedStrings.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.spreadsheetml.sharedStrings+xml"/></Types>'
)
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def write_xlsx(path: Path, rows: Iterable[Sequence[str | float | None]]) -> None:
    """Write a workbook of one sheet, with shared texts as spreadsheet programs write them."""
    shared: dict[str, int] = {}
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = (_cell(f"{_letter(k)}{number}", v, shared) for k, v in enumerate(row))
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    items = "".join(f"<si><t>{escape(text)}</t></si>" for text in shared)
    space = f'xmlns="{MAIN[1:-1]}"'
    members = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": _relations({"rId1": ("officeDocument", "xl/workbook.xml")}),
        "xl/workbook.xml": f'<workbook {space} xmlns:r="{OFFICE}"><sheets>'
        '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(
            {
                "rId1": ("worksheet", "worksheets/sheet1.xml"),
                "rId2": ("sharedStrings", "sharedStrings.xml"),
            }
        ),
        "xl/worksheets/sheet1.xml": (
            f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        ),
        "xl/sharedStrings.xml": f"<sst {space}>{items}</sst>",
    }
    with store.atomic_write(path) as file, zipfile.ZipFile(file, "w") as z:
        for name, text in members.items():
            z.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)


def _cell(reference: str, value: str | float | None, shared: dict[str, int]) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        number = shared.setdefault(value, len(shared))
        return f'<c r="{reference}" t="s"><v>{number}</v></c>'
    return f'<c r="{reference}"><v>{value!r}</v></c>'


def _letter(column: int) -> str:
    assert column < 26  # noqa: PLR2004 - letters; no table of ours is wider
    return chr(ord("A") + column)


def _relations(entries: dict[str, tuple[str, str]]) -> str:
    inside = "".join(
        f'<Relationship Id="{key}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for key, (kind, target) in entries.items()
    )
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'<Relationships xmlns="{space}">{inside}</Relationships>'
