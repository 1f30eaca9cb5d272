"""Files and folders that the commands read and write; no other room opens files for writing.

A file is written under a temporary name, flushed to the disk and renamed, so that a reader sees
the old file or the new one but never half of one. Arrays are safetensors (little endian,
memory-mapped on reading), tables parquet, settings TOML, facts JSON. docs/folders.md describes the
formats with their versions.
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
    read_text,
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
from sleeptools.store.folders import (
    Manifest,
    clear_stale_lock,
    environment,
    listed_hashes,
    lock,
    read_manifest,
    verify,
)
from sleeptools.store.partial_file import PartialFile
from sleeptools.store.tensors import Array, Tensors, read_tensors, write_arrays, write_tensors

__all__ = [
    "Array",
    "Manifest",
    "PartialFile",
    "Tensors",
    "atomic_path",
    "atomic_write",
    "check_format",
    "clear_stale_lock",
    "environment",
    "fingerprint",
    "listed_hashes",
    "lock",
    "need",
    "plain_values",
    "read_json",
    "read_manifest",
    "read_table",
    "read_tensors",
    "read_text",
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
