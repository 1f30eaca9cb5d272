"""YASA's stages of the nights that network_transfer.py has; runs where yasa is installed.

usage: network_transfer_yasa.py NIGHTS HOURS OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from instruments.other_constants import moved_night
from judge_yasa import yasa_stages


def main() -> None:
    nights, hours, out = sys.argv[1:]
    stages = [
        yasa_stages(moved_night(n, hours=float(hours)), "EEG C4-M1").tolist()
        for n in range(int(nights))
    ]
    Path(out).write_text(json.dumps(stages))


if __name__ == "__main__":
    main()
