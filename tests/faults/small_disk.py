"""Runs stages on a disk that fills up: `unshare -m python small_disk.py FOLDER COMMANDS`, as root.

FOLDER/template is copied to a small tmpfs over FOLDER/work.  Each command of COMMANDS (JSON, with its record, its other
outputs, and numbers of pages) runs with so many free pages, one after the other, until it succeeds, and what is seen is
printed as one JSON line a run: pages, exit code, output, message, and the checksum of every file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

PAGE = 4096


def main() -> None:
    from kind.__main__ import main as run

    folder, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
    work = folder / "work"
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(work)], check=True)
    subprocess.run(["cp", "-r", f"{folder}/template/.", str(work)], check=True)
    os.chdir(work)
    for command, record, outputs, free in commands:
        for number, pages in enumerate(free):
            Path(record).unlink(missing_ok=True)  # so that there is work
            if number % 2:  # with the outputs of an earlier run, and without them
                for name in outputs:
                    Path(name).unlink(missing_ok=True)
            fill(pages)
            errors, output = io.StringIO(), io.StringIO()
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
                code = run([command[0], "--experiment", "tiny.yaml", *command[1:]])
            seen = {"command": command, "pages": pages, "code": code, "output": output.getvalue()}
            print(json.dumps({**seen, "said": errors.getvalue(), "files": contents()}), flush=True)
            if code == 0:
                break
        Path("ballast").unlink()


def fill(pages: int) -> None:
    """Leave so many free pages."""
    with open("ballast", "ab") as handle:
        free = os.statvfs(".").f_bavail * PAGE + os.fstat(handle.fileno()).st_blocks * 512
        handle.truncate(0)
        if free > pages * PAGE:
            os.posix_fallocate(handle.fileno(), 0, free - pages * PAGE)


def contents() -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path().rglob("*"))
        if path.is_file() and path.name != "ballast"
    }


main()
