"""The numbers of tasks as texts, and damaged tables."""

from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.errors import DataError, UsageError
from sleeptools.runs.task_table import parse_ranges, ranges, read_tasks


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([7], "7"), ([3, 0, 1, 2, 7, 3, 8], "0-3,7-8")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
    if text:
        assert parse_ranges(text, 9) == sorted(set(numbers))


@pytest.mark.parametrize("text", ["", ",", "1,,2", "1-", "-2", "1-2-3", "²", "0x1"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ranges(text, 9)


@pytest.mark.parametrize(
    "table", ["", "task\n0\n", "task,run,model,protocol,seed,fold\n1,.,m,p,0,0\n"]
)
def test_a_damaged_table_is_told(tmp_path: Path, table: str) -> None:
    (tmp_path / "plan").mkdir()
    store.write_text(tmp_path / "plan/tasks.csv", table)
    with pytest.raises(DataError) as caught:
        read_tasks(tmp_path)
    assert caught.value.code == "PLAN-TABLE"
