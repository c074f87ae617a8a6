"""Becomes the given command, as a child that cannot outlive the process that started it.

Run as a script (`python -I -S launch.py PARENT SIGNAL UID COMMAND…`), so it imports nothing of the package.
A parent-death signal must be asked for after the last change of user and survives `exec`; Python's own
`preexec_fn` would run between fork and exec of a process that has threads, which may deadlock.
On systems without `prctl` the next `assent up` ends what was left behind.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(parent: int, death_signal: int, uid: int, command: list[str]) -> None:
    """Drop to `uid` (negative: stay), tie this process to `parent`, then exec `command`."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(pwd.getpwuid(uid).pw_gid)
        os.setuid(uid)
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was armed
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
