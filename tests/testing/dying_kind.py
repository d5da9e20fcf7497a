"""A case kind whose run takes the process along, as a fault of the compiled core would."""

import os
from pathlib import Path
from typing import Any


def run(case: dict[str, Any], path: Path) -> list[str]:
    os._exit(1)
