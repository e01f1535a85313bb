"""A Python that lacks what Windows lacks; each child of a process that has this folder on PYTHONPATH begins with it.

The standard library is imported first, for it chooses by sys.platform. In place of what is missing stands what
edge_runtime/systems uses on Windows, with the same manners, over the POSIX calls that were put aside.
"""

import asyncio
import fcntl
import multiprocessing.connection  # noqa: F401  imports _winapi if there is one
import os
import select
import selectors  # noqa: F401  looks for poll
import shutil  # noqa: F401
import signal
import stat
import struct
import subprocess
import sys
import tempfile  # noqa: F401
import termios
import types

_ioctl, _flock, _select, _bytes_there = fcntl.ioctl, fcntl.flock, select.select, termios.FIONREAD
_popen = subprocess.Popen.__init__
asyncio.events  # noqa: B018  whole, with its own fcntl


def _locking(descriptor: int, mode: int, n_bytes: int) -> None:
    try:
        _flock(descriptor, 2 if mode == 1 else 2 | 4)  # LOCK_EX, LOCK_NB
    except BlockingIOError as error:
        raise PermissionError(13, "Permission denied") from error


def _peek(handle: int, size: int) -> tuple[int, int]:
    if not stat.S_ISFIFO(os.fstat(handle).st_mode):
        raise OSError(1, "Incorrect function")
    there = struct.unpack("i", _ioctl(handle, _bytes_there, b"\0" * 4))[0]
    if not there and _select([handle], [], [], 0)[0]:
        raise BrokenPipeError(109, "The pipe has been ended")
    return there, 0


def _select_sockets(readers, writers, others, timeout=None):  # type: ignore[no-untyped-def]
    for one in [*readers, *writers, *others]:
        number = one if isinstance(one, int) else one.fileno()
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
    return _select(readers, writers, others, timeout)


def _begin(self, *arguments, creationflags=0, **more):  # type: ignore[no-untyped-def]
    """Without what POSIX refuses."""
    _popen(self, *arguments, **more)


subprocess.Popen.__init__ = _begin  # type: ignore[method-assign]
subprocess.CREATE_NEW_PROCESS_GROUP, subprocess.BELOW_NORMAL_PRIORITY_CLASS = 0x200, 0x4000  # type: ignore[attr-defined]
select.select = _select_sockets
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
vars(sys.modules["msvcrt"]).update(LK_LOCK=1, LK_NBLCK=2, locking=_locking, get_osfhandle=lambda descriptor: descriptor)
sys.modules["_winapi"] = types.ModuleType("_winapi")
vars(sys.modules["_winapi"]).update(PeekNamedPipe=_peek)

# Not termios, tty, AF_UNIX: click and asyncio go by sys.platform.
for _name in ("fcntl", "resource", "pwd", "grp", "syslog"):
    sys.modules[_name] = None  # type: ignore[assignment]
for _owner, _names in {
    os: "geteuid getuid getegid getgid setsid getpgid killpg fork nice set_blocking O_NONBLOCK O_CLOEXEC "
    "O_DIRECTORY O_NOFOLLOW getloadavg sysconf statvfs mkfifo chown sched_getaffinity",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGKILL SIGALRM SIGPIPE setitimer alarm pthread_sigmask",
    select: "poll epoll",
}.items():
    for _name in _names.split():
        if hasattr(_owner, _name):
            delattr(_owner, _name)
