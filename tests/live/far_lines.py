"""Which lines of the far side ran on this machine: a part of `make coverage`.

The far side's modules come over a connection, or from a work directory, into processes that end at
once: coverage.py sees none of them. Each such process of the virtual environment's Python starts
`far_lines_tracer.py` instead, and what that wrote is added to what coverage.py found.
"""

from __future__ import annotations

import json
import re
import sys
import sysconfig
from collections import defaultdict
from pathlib import Path

from coverage import CoverageData

_ROOT = Path(__file__).parents[2]
_FAR_SIDE = _ROOT / "clustrix_prefect" / "far_side"
_TRACER = Path(__file__).with_name("far_lines_tracer.py")
_STARTS_IT = Path(sysconfig.get_path("purelib")) / "far_lines.pth"
# Python takes lines that begin with `import` as code. Agents come as a text, workers from a file.
_LINE = (
    "import os, sys; 'FAR_LINES' in os.environ "
    "and any('fromhex' in word or '/far_side/' in word for word in sys.orig_argv) "
    f"and exec(open({str(_TRACER)!r}).read(), {{}})\n"
)
# "<clustrix_far_side.worker.call>", or a file of a directory with that name.
_MODULE = re.compile(r"clustrix_far_side[./](.+?)(?:\.py)?>?$")


def add(directory: Path, data_file: Path) -> int:
    """Add the lines that processes left in a directory to a file of coverage.py.

    Returns:
        How many lines of the far side ran that coverage.py had not seen.
    """
    lines: dict[str, set[int]] = defaultdict(set)
    for left in directory.glob("*.json"):
        for filename, numbers in json.loads(left.read_text()).items():
            module = _MODULE.search(filename)
            if module:
                path = _FAR_SIDE / f"{module[1].replace('.', '/')}.py"
                if not path.exists():
                    path = _FAR_SIDE / module[1].replace(".", "/") / "__init__.py"
                lines[str(path)].update(numbers)
    data = CoverageData(str(data_file))
    data.read()
    found = {path: numbers - set(data.lines(path) or ()) for path, numbers in lines.items()}
    data.add_lines(found)
    data.write()
    return sum(map(len, found.values()))


if __name__ == "__main__":
    if sys.argv[1] == "start":
        _STARTS_IT.write_text(_LINE)
    else:
        _STARTS_IT.unlink()
        print(f"{add(Path(sys.argv[2]), _ROOT / '.coverage')} more lines of the far side")
