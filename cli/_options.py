"""Write the settings that a message of the library names as options of the command line.

Messages name settings as a Python caller writes them, in backticks: `device=cpu`,
`recipe.batch=64`, `final`. Here they become `--device cpu`, `--set recipe.batch=64`, `--final`.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

SETTING: Final = re.compile(r"`([a-z_]\w*(?:\.\w+)*)(?:=([^`]*))?`")
SPELLED: Final = {
    "protocols": "protocol",
    "seeds": "seed",
    "settings": "set",
    "kind": "format",
    "start": "at",
    "ignore_channels": "ignore-channel",
    "channels": "channel",
    "gains": "gain",
    "names": "name",
    "parent": "from",
    "continued": "continue",
}
"""Option by setting, where their names differ."""
EARLIER_SPELLINGS: Final = {
    "--stand-in": "--match-channels-by-order",
    "--namesakes": "--allow-shared-subject-ids",
}
"""Present spelling by earlier spelling of an option; the earlier ones keep working."""


def as_options(text: str) -> str:
    """Replace the settings in a message by options."""
    return SETTING.sub(_option, text)


def _option(match: re.Match[str]) -> str:
    name, value = match.groups()
    if "." in name:
        return f"--set {name}" + (f"={value}" if value else "")
    option = f"--{SPELLED.get(name, name).replace('_', '-')}"
    if value and " " in value:
        value = shlex.quote(value)
    return f"{option} {value}" if value else option
