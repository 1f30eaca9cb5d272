"""Files and folders that the commands read and write; no other room opens files for writing.

A file is written under a temporary name, flushed to the disk and renamed, so that a reader sees
the old file or the new one but never half of one. Arrays are safetensors (little endian,
memory-mapped on reading), tables parquet, settings TOML, facts JSON. docs/folders.md describes the
formats with their versions.
"""

from sleeptools.store.checks import building, check_budget, check_facts
from sleeptools.store.csv_text import csv_text, safe_cell, table_csv, visible
from sleeptools.store.files import (
    atomic_path,
    atomic_write,
    check_format,
    csv_bytes,
    fingerprint,
    need,
    parquet_bytes,
    plain_values,
    read_json,
    read_table,
    read_text,
    read_toml,
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
    MANIFEST,
    Manifest,
    check_hash,
    check_id,
    check_listed,
    environment,
    listed_hashes,
    read_manifest,
    refuse_foreign,
    unlisted,
    verify,
    write_folder,
)
from sleeptools.store.listing import listing, short_names
from sleeptools.store.locks import clear_stale_lock, is_locked, lock, lock_file
from sleeptools.store.own_folders import refuse_own
from sleeptools.store.partial_file import PartialFile
from sleeptools.store.scratch import Scratch
from sleeptools.store.tensors import (
    Array,
    Tensors,
    digest,
    digest_text,
    read_tensors,
    write_arrays,
    write_tensors,
)

__all__ = [
    "MANIFEST",
    "Array",
    "Manifest",
    "PartialFile",
    "Scratch",
    "Tensors",
    "atomic_path",
    "atomic_write",
    "building",
    "check_budget",
    "check_facts",
    "check_format",
    "check_hash",
    "check_id",
    "check_listed",
    "clear_stale_lock",
    "csv_bytes",
    "csv_text",
    "digest",
    "digest_text",
    "environment",
    "fingerprint",
    "is_locked",
    "listed_hashes",
    "listing",
    "lock",
    "lock_file",
    "need",
    "parquet_bytes",
    "plain_values",
    "read_json",
    "read_manifest",
    "read_table",
    "read_tensors",
    "read_text",
    "read_toml",
    "refuse_foreign",
    "refuse_own",
    "safe_cell",
    "sha256",
    "short_names",
    "sweep",
    "table_csv",
    "unchanged",
    "unlisted",
    "verify",
    "visible",
    "write_arrays",
    "write_columns",
    "write_folder",
    "write_json",
    "write_table",
    "write_tensors",
    "write_text",
    "write_toml",
]
