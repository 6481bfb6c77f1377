"""Plays systemd for one service: keeps the descriptors it is given, and starts the service again when it has failed.

    systemd.py SOCKET program [argument...]

SOCKET is where notifications are taken (sd_notify(3)). What is kept is passed on as sd_listen_fds(3) says, in any order, as
systemd does; of one name there may be several, but no file twice. A descriptor whose other end has gone, or that looks so, is
dropped unless it came with FDPOLL=0. Prints a line of JSON
for each start: {"started": PID}. A service that ends with 0, or after SIGTERM, is not started again. What it has left behind is not killed
(KillMode=process).
"""

import array
import ctypes
import json
import os
import select
import signal
import socket
import sys

FIRST = 3
MOST = 8192

path, command = sys.argv[1], sys.argv[2:]
notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notices.bind(path)
notices.setblocking(False)
stored = []  # (name, descriptor)
polled = set()  # descriptors
told_to_end = False
service = 0


def start():
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": path,
        "FDSTORE": str(MOST),
        "LISTEN_FDS": str(len(stored)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in stored),
    }
    pid = os.fork()
    if pid == 0:
        # Out of the way first: one of them may have the number of another's place.
        aside = [os.dup(fd) for _, fd in stored]
        high = [fd for fd in aside]
        for index, fd in enumerate(aside):
            while high[index] < FIRST + len(stored):
                high[index] = os.dup(high[index])
        for index, fd in enumerate(high):
            os.dup2(fd, FIRST + index, inheritable=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        environment["LISTEN_PID"] = str(os.getpid())
        os.execve(command[0], command, environment)
    print(json.dumps({"started": pid}), flush=True)
    return pid


def drop(name):
    for entry in [each for each in stored if each[0] == name]:
        forget(entry)


def forget(entry):
    stored.remove(entry)
    polled.discard(entry[1])
    os.close(entry[1])


def is_same_file(one, other):
    """kcmp(2) with KCMP_FILE."""
    number = {"x86_64": 312, "aarch64": 272}[os.uname().machine]
    return ctypes.CDLL(None).syscall(number, os.getpid(), os.getpid(), 0, one, other) == 0


def hear():
    while True:
        try:
            text, control, _, _ = notices.recvmsg(65536, socket.CMSG_SPACE(256 * 4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        fds = array.array("i")
        for _, kind, data in control:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        lines = text.decode().split("\n")
        name = next((line[7:] for line in lines if line.startswith("FDNAME=")), "stored")
        if "FDSTOREREMOVE=1" in lines:
            drop(name)
        for fd in fds:
            known = any(is_same_file(fd, other) for _, other in stored)
            if "FDSTORE=1" not in lines or len(stored) == MOST or known:
                os.close(fd)
                continue
            stored.append((name, fd))
            if "FDPOLL=0" not in lines:
                polled.add(fd)


def drop_those_without_another_end():
    poll = select.poll()
    for fd in polled:
        poll.register(fd, 0)
    for fd, events in poll.poll(0):
        if events & (select.POLLHUP | select.POLLERR):
            for entry in [each for each in stored if each[1] == fd]:
                forget(entry)


def on_term(*_):
    global told_to_end
    told_to_end = True
    os.kill(service, signal.SIGTERM)


signal.signal(signal.SIGTERM, on_term)
wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
signal.set_wakeup_fd(waker)
signal.signal(signal.SIGCHLD, lambda *_: None)
service = start()
while True:
    select.select([notices, wake], [], [])
    try:
        os.read(wake, 4096)
    except BlockingIOError:
        pass
    hear()
    pid, status = os.waitpid(service, os.WNOHANG)
    if pid == 0:
        continue
    hear()
    code = os.waitstatus_to_exitcode(status)
    if told_to_end or code == 0:
        sys.exit(code if code >= 0 else 128 - code)
    drop_those_without_another_end()
    service = start()
