"""Starts commands one after another, and says what each has used.

A process's peak memory, as the system counts it, begins with what the process that started it had. A large parent would hide a small
child: so the commands are started from here, a process that imports next to nothing.

Reads a line of JSON for each command (`argv`, `env`, `errors`: where its stderr goes), and answers with one.
"""

import json
import os
import sys
import time


def run(order):
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    files = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    start = time.monotonic()
    pid = os.posix_spawn(order["argv"][0], order["argv"], order["env"], file_actions=files)
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - start
    os.close(null)
    os.close(errors)
    # Linux counts KiB, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "status": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "rss": used.ru_maxrss * unit,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
