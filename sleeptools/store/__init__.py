"""Files between the commands: the one module that opens files for writing.

Everything is written beside its name, flushed to the disk and renamed into place, so that a
reader sees the old file or the new one and never half of one. Arrays are safetensors (little
endian, memory-mapped on reading), tables parquet, settings TOML, facts JSON. docs/formats.md has
the formats with their versions.
"""

from sleeptools.store.files import (
    atomic_path,
    atomic_write,
    check_format,
    fingerprint,
    need,
    plain_values,
    read_json,
    read_table,
    read_toml,
    scratch,
    sha256,
    sweep,
    unchanged,
    write_columns,
    write_json,
    write_table,
    write_text,
    write_toml,
)
from sleeptools.store.folders import Manifest, environment, intact, lock, read_manifest, verify
from sleeptools.store.parts import Part
from sleeptools.store.tensors import Array, Tensors, read_tensors, write_arrays, write_tensors

__all__ = [
    "Array",
    "Manifest",
    "Part",
    "Tensors",
    "atomic_path",
    "atomic_write",
    "check_format",
    "environment",
    "fingerprint",
    "intact",
    "lock",
    "need",
    "plain_values",
    "read_json",
    "read_manifest",
    "read_table",
    "read_tensors",
    "read_toml",
    "scratch",
    "sha256",
    "sweep",
    "unchanged",
    "verify",
    "write_arrays",
    "write_columns",
    "write_json",
    "write_table",
    "write_tensors",
    "write_text",
    "write_toml",
]
