"""Workbooks and text tables: the real ones of Sleep-EDF, and files as other programs write them."""

import csv
import zipfile
from pathlib import Path

import pytest

from sleeptools.datasets import spreadsheets
from sleeptools.errors import DataError

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'


def workbook(path: Path, sheet: str, shared: str = "") -> Path:
    """A workbook whose second sheet comes first in the archive, with an absolute target."""
    parts = {
        "xl/worksheets/a.xml": f"<worksheet {MAIN}><sheetData/></worksheet>",
        "xl/worksheets/b.xml": f"<worksheet {MAIN}><sheetData>{sheet}</sheetData></worksheet>",
        "xl/workbook.xml": f'<workbook {MAIN} {OFFICE}><sheets><sheet name="x" r:id="r7"/>'
        '<sheet name="y" r:id="r8"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="r8" '
        'Target="worksheets/a.xml"/><Relationship Id="r7" Target="/xl/worksheets/b.xml"/>'
        "</Relationships>",
    }
    if shared:
        parts["xl/sharedStrings.xml"] = f"<sst {MAIN}>{shared}</sst>"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def test_cells_of_every_kind(tmp_path: Path) -> None:
    shared = "<si><t> one </t></si><si><r><t>t</t></r><r><t>wo</t></r><rPh><t>no</t></rPh></si>"
    sheet = (
        '<row r="1"><c r="A1" t="s"><v>1</v></c><c r="C1" t="s"><v>0</v></c></row>'
        '<row r="3"><c r="B3"><v>2.5</v></c><c r="C3" t="str"><f>A1</f><v>made</v></c>'
        '<c r="D3" t="inlineStr"><is><t>here</t></is></c><c r="E3"/></row>'
    )
    assert spreadsheets.read_table(workbook(tmp_path / "x.xlsx", sheet, shared)) == [
        ["two", None, "one", None],
        [None] * 4,
        [None, 2.5, "made", "here"],
    ]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [["Epoch", "Stage", None], [1.0, "W", "<&>"], [2.0, None, "W"]]
    path = tmp_path / "x.xlsx"
    spreadsheets.write_xlsx(path, rows)
    assert spreadsheets.read_table(path) == rows


def test_other_readers_know_what_is_written(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "x.xlsx"
    spreadsheets.write_xlsx(path, [["Epoch", "Stage"], [1.0, "W"]])
    sheet = openpyxl.load_workbook(path).worksheets[0]
    assert [[c.value for c in row] for row in sheet.rows] == [["Epoch", "Stage"], [1, "W"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "x.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["Nr", "clock"], [1, "23:05"], [2]])
    assert spreadsheets.read_table(path) == [["Nr", "clock"], [1.0, "23:05"], [2.0, None]]


def test_headings(tmp_path: Path) -> None:
    rows = [["Title", None], ["age", "SUBJECT"], [3.0, "a"]]
    assert spreadsheets.find_columns(rows, "Subject", "Age", source=tmp_path) == (1, [1, 0])
    with pytest.raises(DataError, match="no row of headings with Subject, Sex"):
        spreadsheets.find_columns(rows, "Subject", "Sex", source=tmp_path)


def test_the_real_tables_of_subjects(real_data: Path) -> None:
    """The numbers were read with xlrd 2.0.2 from the same files."""
    folder = real_data / "sleep-edf/manifest"
    cassette = spreadsheets.read_table(folder / "SC-subjects.xls")
    assert cassette[0] == ["subject", "night", "age", "sex (F=1)", "LightsOff"]
    assert len(cassette) == 154
    assert cassette[1][:4] == [0.0, 1.0, 33.0, 1.0]
    assert cassette[1][4] == pytest.approx(38 / 1440)
    assert cassette[-1][:4] == [82.0, 2.0, 56.0, 1.0]
    assert sum(row[2] for row in cassette[1:]) == 9025
    telemetry = spreadsheets.read_table(folder / "ST-subjects.xls")
    assert telemetry[1][:5] == ["Nr", "Age", "M1/F2", "night nr", "lights off"]
    assert [row[0] for row in telemetry[2:]] == [1, 2, *range(4, 23), 24]
    assert telemetry[3][3:] == [2.0, pytest.approx(23.45 / 24), 1.0, 0.0]


@pytest.mark.parametrize("cut", [600, 5000, 20000])
def test_damaged_xls_is_refused(real_data: Path, tmp_path: Path, cut: int) -> None:
    data = (real_data / "sleep-edf/manifest/SC-subjects.xls").read_bytes()
    path = tmp_path / "SC-subjects.xls"
    path.write_bytes(data[:cut])
    with pytest.raises(DataError, match=r"SC-subjects\.xls: not a readable \.xls") as caught:
        spreadsheets.read_table(path)
    assert ".csv" in str(caught.value.hint)


def test_damaged_xlsx_is_refused(tmp_path: Path) -> None:
    spreadsheets.write_xlsx(tmp_path / "x.xlsx", [["a"] * 20] * 50)
    data = (tmp_path / "x.xlsx").read_bytes()
    (tmp_path / "x.xlsx").write_bytes(data[:-30])
    with pytest.raises(DataError, match=r"x\.xlsx: not a readable \.xlsx"):
        spreadsheets.read_table(tmp_path / "x.xlsx")
    workbook(tmp_path / "y.xlsx", '<row r="1"><c r="A1" t="s"><v>5</v></c></row>')
    with pytest.raises(DataError, match=r"y\.xlsx"):
        spreadsheets.read_table(tmp_path / "y.xlsx")
