"""Reading and writing the first sheet of an Office Open XML workbook (.xlsx, ECMA-376)."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from sleeptools import store
from sleeptools.errors import DataError

STARTS_XLSX: Final = b"PK\x03\x04"
MAIN: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
RELATION: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
MAX_BYTES: Final = 1 << 26  # of one unpacked member: far more than a data set's table has


def read_xlsx(path: Path, data: bytes) -> dict[tuple[int, int], str | float]:
    """Read the cells of the first sheet, by row and column from 0.

    Raises
    ------
    DataError
        If the workbook is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            texts = _shared(archive)
            sheet = _part(archive, _first_sheet(archive))
        return dict(_cells(sheet, texts))
    except (zipfile.BadZipFile, KeyError, ET.ParseError, ValueError, IndexError) as e:
        raise DataError(f"{path.name}: not a readable .xlsx workbook: {e}") from e


def _part(archive: zipfile.ZipFile, name: str) -> ET.Element:
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(f"{name} has {archive.getinfo(name).file_size} bytes")
    return ET.fromstring(archive.read(name))


def _first_sheet(archive: zipfile.ZipFile) -> str:
    sheets = _part(archive, "xl/workbook.xml").find(f"{MAIN}sheets")
    if sheets is None or not len(sheets):
        raise ValueError("no sheets")
    relation_id = sheets[0].get(RELATION)
    relations = _part(archive, "xl/_rels/workbook.xml.rels")
    target = next(r.get("Target", "") for r in relations if r.get("Id") == relation_id)
    return target.lstrip("/") if target.startswith("/") else f"xl/{target}"


def _shared(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(item) for item in _part(archive, "xl/sharedStrings.xml")]


def _text(item: ET.Element) -> str:
    """Join the runs of a text, without its phonetic guide."""
    runs = [*item.findall(f"{MAIN}t"), *item.findall(f"{MAIN}r/{MAIN}t")]
    return "".join(run.text or "" for run in runs)


def _cells(
    sheet: ET.Element, texts: Sequence[str]
) -> Iterable[tuple[tuple[int, int], str | float]]:
    for cell in sheet.iter(f"{MAIN}c"):
        kind, value = cell.get("t", "n"), cell.findtext(f"{MAIN}v")
        inline = cell.find(f"{MAIN}is")
        cell_index = _place(cell.get("r", ""))
        if inline is not None:
            yield cell_index, _text(inline)
        elif value is not None and kind == "s":
            yield cell_index, texts[int(value)]
        elif value is not None:
            yield cell_index, float(value) if kind == "n" else value


def _place(reference: str) -> tuple[int, int]:
    match = re.fullmatch(r"([A-Z]{1,3})(\d{1,7})", reference)
    if match is None:
        raise ValueError(f"cell reference {reference!r}")
    column = 0
    for letter in match[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    return int(match[2]) - 1, column - 1


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
