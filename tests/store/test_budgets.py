"""Small files that ask for much: refused before anything is allocated, whatever the format."""

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from sleeptools import formats, store
from sleeptools.datasets import spreadsheets
from sleeptools.errors import DataError, OutOfMemoryError, StorageError
from sleeptools.store import causes

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def workbook(path: Path, sheet: str | bytes, shared: str = "") -> Path:
    members = {
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>'
        '<sheet name="S" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<R><Relationship Id="r1" Target="s.xml"/></R>',
        "xl/s.xml": sheet
        if isinstance(sheet, bytes)
        else f'<worksheet xmlns="{MAIN}"><sheetData>{sheet}</sheetData></worksheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{shared}</sst>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("cell", ["ZZZ9999999", "XFD1048576", "A1048577", "XFE1", "A0"])
def test_a_far_cell_is_refused(cell: str, tmp_path: Path) -> None:
    sheet = f'<row><c r="A1"><v>1</v></c><c r="{cell}"><v>1</v></c></row>'
    with pytest.raises(DataError) as caught:
        spreadsheets.read_table(workbook(tmp_path / "t.xlsx", sheet))
    assert caught.value.code in ("SHEET-READ", "SHEET-SIZE")


def test_bombs_in_a_workbook_are_refused(tmp_path: Path) -> None:
    many = '<c r="A1"><v>1</v></c>' * 10
    blank = b"<a>" + b" " * (20 << 20)
    document = b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    for content in (blank, document, f"<row>{many}</row>" * 30_000):
        with pytest.raises(DataError):
            spreadsheets.read_table(workbook(tmp_path / "t.xlsx", content))


def test_a_table_of_commas_and_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("," * 2000 + "\n" + "\n" * 2000 + "1\n")
    with pytest.raises(DataError, match="2002 rows of 2001 columns"):
        spreadsheets.read_table(path)
    path.write_text('a,"' + "b" * 200_000 + '"\n')
    with pytest.raises(DataError, match="field larger"):
        spreadsheets.read_table(path)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def variable(name: str, axes: tuple[int, ...], numbers: bytes) -> bytes:
    return b"".join(
        (
            element(6, struct.pack("<II", 6, 0)),
            element(5, struct.pack(f"<{len(axes)}i", *axes)),
            element(1, name.encode()),
            numbers,
        )
    )


def mat(path: Path, *variables: bytes, packed: bool) -> Path:
    content = b"MATLAB 5.0 MAT-file, test".ljust(124) + b"\0\1IM"
    for inside in variables:
        matrix = element(14, inside)
        packs = zlib.compress(matrix)
        content += struct.pack("<II", 15, len(packs)) + packs if packed else matrix
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [True, False])
def test_a_matlab_file_asks_for_no_more_than_it_holds(packed: bool, tmp_path: Path) -> None:
    rate = variable("eeg_frequency", (1, 1), element(9, struct.pack("<d", 512.0)))
    huge = struct.pack("<II", 9, 8 * 2**29 - 8) + b"\0" * 64
    names = ("eeg", "emg")
    claims = [variable(name, (1, 2**29 - 1), huge) for name in names]
    recording = formats.read(mat(tmp_path / "m.mat", rate, *claims, packed=packed))
    with pytest.raises(DataError) as caught:
        recording.signal("EEG").samples()
    assert caught.value.code == "FILE-BUDGET"
    short = [variable(name, (1, 8), struct.pack("<II", 9, 64) + b"\0" * 8) for name in names]
    recording = formats.read(mat(tmp_path / "n.mat", rate, *short, packed=packed))
    with pytest.raises(DataError) as caught:
        recording.signal("EEG").samples()
    assert caught.value.code == "MAT-READ"


@pytest.mark.parametrize("chunks", [(1, 1000), (1, 2**28), None])
def test_an_hdf5_file_asks_for_no_more_than_it_holds(
    chunks: tuple[int, int] | None, tmp_path: Path
) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.mat", "w") as file:
        for name in ("eeg", "emg"):
            file.create_dataset(name, (1, 2**30), "f8", chunks=chunks)
        file["eeg_frequency"] = np.array([[512.0]])
    recording = formats.read(tmp_path / "m.mat")
    with pytest.raises(DataError) as caught:
        recording.signal("EEG").samples()
    assert caught.value.code == "FILE-BUDGET"


ONE = {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": ONE | {"shape": [1 << 32, 1 << 32], "data_offsets": [0, 0]}},
        {"a": ONE | {"shape": [-2, -2]}},
        {"a": ONE | {"shape": [4.0]}},
        {"a": ONE | {"shape": [True, 4]}},
        {"a": ONE | {"shape": [1] * 40 + [4]}},
        {"a": ONE | {"data_offsets": [-4, 0]}},
        {"a": ONE, "b": ONE},
        {"a": ONE | {"data_offsets": [0, 3], "shape": [3]}},
        {"__metadata__": {"x": "[" * 200 + "]" * 200}, "a": ONE},
        b'{"a": %s, "a": %s}' % ((json.dumps(ONE).encode(),) * 2),
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"3",
        b"{}\0\0",
    ],
)
def test_absurd_headers_of_arrays_are_refused(header: object, tmp_path: Path) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"1234")
    with pytest.raises(DataError) as caught:
        store.read_tensors(path)
    assert caught.value.code in ("ARR-HEADER", "FACT-DEEP")


def test_a_panic_of_polars_is_an_error_of_two_lines(tmp_path: Path) -> None:
    import polars as pl

    store.write_table(tmp_path / "t.parquet", pl.DataFrame({"a": ["x"] * 9, "b": [1.5] * 9}))
    right = (tmp_path / "t.parquet").read_bytes()
    program = (
        "import sys\nfrom pathlib import Path\nfrom sleeptools import store\n"
        "from sleeptools.errors import DataError\np, n = Path(sys.argv[1]), 0\n"
        "right = p.read_bytes()\n"
        "for i in range(0, len(right), 9):\n"
        "    wrong = bytearray(right); wrong[i] ^= 0x80; p.write_bytes(wrong)\n"
        "    try: store.read_table(p)\n"
        "    except DataError as e: n += e.hint is not None\n"
        "print(n)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "t.parquet"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > len(right) // 90
    assert not done.stderr


@pytest.mark.parametrize("depth", [100, 50_000])
def test_deep_facts_are_refused(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("[" * depth + "]" * depth)
    with pytest.raises(DataError):
        store.read_json(path)
    path.write_text("a = " + "[" * depth + "]" * depth)
    with pytest.raises(DataError):
        store.read_toml(path)


def test_cells_begin_no_formula_and_numbers_stay() -> None:
    import polars as pl

    cells = ["=1+1", "+a", "-a", "@a", "\ta", "\rb", "\x1b[31m", "a=b", "-1.5", "+3", "-"]
    kept = ["'=1+1", "'+a", "'-a", "'@a", "'\\ta", "'\\rb", "\\x1b[31m", "a=b", "-1.5", "+3", "-"]
    assert store.csv_text([[c] for c in cells]).splitlines() == kept
    table = pl.DataFrame({"=x": cells, "n": [-1.0] * len(cells)})
    lines = store.table_csv(table).splitlines()
    assert lines == ["'=x,n", *(f"{c},-1.0" for c in kept)]


def test_one_table_from_cause_to_code() -> None:
    full = causes.from_exception(OSError(28, "No space", "x"))
    assert isinstance(full, StorageError)
    assert isinstance(causes.from_exception(MemoryError()), OutOfMemoryError)
    codes = {number: causes.from_exception(OSError(number, "t", "x")) for number in (5, 12, 13, 27)}
    assert {n: e.exit_code for n, e in codes.items() if e} == {5: 74, 12: 69, 13: 66, 27: 74}
    assert causes.from_exception(ZeroDivisionError()) is None
    assert causes.died(-9).exit_code == 69
    assert causes.died(-11).exit_code == 65
