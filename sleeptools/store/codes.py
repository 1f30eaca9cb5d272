"""The stable codes of errors: what each means, and what to do about it.

A code names a fault for programs and for `sleeptools inspect --explain CODE`; it stays the same
when the words of a message change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sleeptools.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class CodeMeaning:
    """What a code means.

    Parameters
    ----------
    title
        The fault in a few words.
    explanation
        What was found, and why it is refused.
    cure
        What a person can do.
    """

    title: str
    explanation: str
    cure: str


AGAIN: Final = "Make the folder again with the command that wrote it; it skips what is intact."
EXPORT: Final = "Fetch or export the file again, and compare its size with the source's."

CODES: Final[Mapping[str, CodeMeaning]] = {
    code: CodeMeaning(*meaning)
    for code, meaning in {
        "ARR-CUT": ("a file of arrays is cut short", "It is shorter than its header.", AGAIN),
        "ARR-HEADER": (
            "a damaged header of arrays",
            "Shapes, offsets or names in the header of a safetensors file contradict each other "
            "or the length of the file.",
            AGAIN,
        ),
        "ARR-MISSING": ("an array is missing", "The file lacks an array that it must have.", AGAIN),
        "ARR-SHAPE": (
            "an array of another shape or type",
            "The arrays of a file of epochs do not fit each other.",
            AGAIN,
        ),
        "COL-EMPTY": ("a text recording without samples", "The file has no lines.", EXPORT),
        "COL-NUMBERS": (
            "a line that is not two numbers",
            "A text recording has EEG and EMG on each line; one line has something else.",
            "Look at that line, and export the recording again.",
        ),
        "COL-RATE": (
            "a sample rate that is not in the file's name",
            "Text recordings carry no sample rate, so that their name must say it.",
            "Rename the file to NAME-256Hz.txt, with its own rate.",
        ),
        "DISK-ERROR": (
            "the disk failed",
            "The system reported an input or output error of the device.",
            "Check the disk, and run the command again; what is finished is kept.",
        ),
        "DISK-FULL": (
            "the disk is full",
            "The disk, a quota or a limit on the size of files leaves no room.",
            "Free some space, or raise the limit, and run the command again.",
        ),
        "FACT-DEEP": (
            "facts too deep in each other",
            "Lists and tables lie in each other over more levels than any file of ours has.",
            AGAIN,
        ),
        "FACT-FORMAT": (
            "a folder or file of another kind",
            "Its format name is not the one that the command reads.",
            "Give the folder that the hint names.",
        ),
        "FACT-KIND": (
            "a fact of the wrong kind",
            "A value is not of the kind that its key has, for example a text for a number.",
            AGAIN,
        ),
        "FACT-MISSING": ("a fact is missing", "The file lacks a key that it must have.", AGAIN),
        "FACT-NEWER": (
            "a newer version",
            "The file was written by a newer sleeptools.",
            "Install that version.",
        ),
        "FILE-BUDGET": (
            "more than a file can hold",
            "The file is larger than one of its kind can be, or a few of its bytes ask for far "
            "more memory than they can fill.",
            EXPORT,
        ),
        "FILE-CHANGED": (
            "a file changed while it was read",
            "Its length is not what it was a moment ago.",
            "Wait until it is complete, and run the command again.",
        ),
        "FILE-READ": (
            "a file that cannot be read",
            "The system refused to open or read it.",
            "Check its permissions, with 'ls -l'.",
        ),
        "JSON-SYNTAX": ("not valid JSON", "The file of facts is damaged.", AGAIN),
        "MAT-HDF5": (
            "a MATLAB 7.3 file",
            "Such files are HDF5, for which the library h5py is needed.",
            "pip install h5py, or save it in MATLAB with '-v7'.",
        ),
        "MAT-RATE": (
            "no usable sample rate in a MATLAB file",
            "The variable eeg_frequency must be one number, in Hz.",
            "Save it as one number.",
        ),
        "MAT-READ": ("a damaged MATLAB file", "Its parts contradict each other.", EXPORT),
        "MAT-VARIABLE": (
            "a variable is missing in a MATLAB file",
            "The layout has eeg, emg, eeg_frequency and sleep_scores.",
            "Save the file with these names.",
        ),
        "MAT-VECTOR": (
            "a variable that is no vector of numbers",
            "Signals and scores are vectors of plain, real numbers.",
            "Save the variable as a vector.",
        ),
        "MEM-FULL": (
            "out of memory",
            "The machine, or the limit of the job, has too little memory.",
            "Work on fewer recordings at a time, or ask for more memory.",
        ),
        "OUT-WRITE": (
            "output that cannot be written",
            "The folder cannot be created, or the system refused to write into it.",
            "Check its permissions, or give another folder.",
        ),
        "SHEET-HEADS": (
            "no row of headings",
            "The table has no row with the headings that the data set's own has.",
            "Fetch the data set's table again.",
        ),
        "SHEET-READ": ("a damaged workbook or table", "Its parts contradict each other.", EXPORT),
        "SHEET-SIZE": (
            "a table of too many cells",
            "One cell far off the others makes a table of millions of empty ones.",
            "Save the table without it.",
        ),
        "SYS-HANDLES": (
            "too many open files",
            "The system's limit of open files is reached.",
            "Raise it, with 'ulimit -n 4096'.",
        ),
        "TAB-READ": ("a damaged parquet table", "It is damaged or cut short.", AGAIN),
        "TEXT-CELLS": (
            "a row of other cells than its header",
            "A row has more or fewer cells than there are columns, or a cell without an end.",
            "Look at that line; a quote that is not closed swallows what follows.",
        ),
        "TEXT-CODE": (
            "a text of another encoding",
            "Text files are read as UTF-8, or UTF-16 with a byte order mark.",
            "Save it as UTF-8.",
        ),
        "TEXT-DATE": (
            "no dates with times",
            "A column of moments fits none of the known forms.",
            "Write them as 2020-01-31 23:59:30.",
        ),
        "TEXT-EMPTY": ("an empty text file", "It holds no lines.", EXPORT),
        "TEXT-NUMBER": (
            "a text where a number is expected",
            "Numbers have a decimal point and no separators of thousands.",
            "Write the number so.",
        ),
        "TEXT-ZERO": ("zero bytes in a text file", "It is damaged, or no text file.", EXPORT),
        "TOML-SYNTAX": (
            "not valid TOML",
            "The file of settings cannot be parsed.",
            "Mend the line that the message names.",
        ),
        "WORKER-ENDED": (
            "a process that ended by itself",
            "The process that worked on the recording crashed.",
            "Work on the recording alone, and report the crash if it comes again.",
        ),
        "XML-ENTITY": (
            "XML entities",
            "A few lines of entities can expand to a terabyte, and no scoring needs them.",
            "Export the file without them.",
        ),
        "XML-SYNTAX": ("not well-formed XML", "The file is damaged or cut short.", EXPORT),
    }.items()
}
"""What each code means; every code in the source is here, which a test checks."""


def explain_code(code: str) -> str:
    """Explain a code in a few lines.

    Raises
    ------
    UsageError
        If there is no such code.
    """
    name = code.strip().strip("[]").upper()
    if name not in CODES:
        raise UsageError(
            f"no error code {code!r}",
            hint=did_you_mean(name, [*CODES]) or f"there are: {', '.join(CODES)}",
        )
    meaning = CODES[name]
    return f"{name}: {meaning.title}\n{meaning.explanation}\nWhat to do: {meaning.cure}"
