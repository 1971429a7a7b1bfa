"""Runs a program and tells its seconds, peak memory (KiB) and exit status, from a small process.

Linux counts the memory of the process that forks to the peak of the one that it becomes. So this
one, started with ``python -I -S``, imports next to nothing.
"""

import os
import sys
import time


def main() -> None:
    """Arguments: a file descriptor for the answer, and the words of the program."""
    answer, words = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(answer, False)
    start = time.perf_counter()
    pid = os.posix_spawnp(words[0], words, os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    said = f"{seconds} {usage.ru_maxrss} {os.waitstatus_to_exitcode(status)}"
    os.write(answer, said.encode())


main()
