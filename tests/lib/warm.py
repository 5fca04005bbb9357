#!/usr/bin/env python3
"""The server behind warm.c: warm.py SOCKET. Loads what the tests' Python programs import, then forks
a child for each request, which is as a new python3 would be: own folder, environment, files 0 to 2,
arguments, __main__. Ends when its standard input does."""
import ctypes, fcntl, glob, gzip, hashlib, json, os, select, signal, socket, struct, subprocess, sys, traceback, zlib

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not survive a fork
import numpy, numpy.random

HERE = os.path.dirname(os.path.abspath(__file__))
CODE = {f: compile(open(f).read(), f, "exec") for f in glob.glob(HERE + "/*.py")}


def receive(s):
    head, fds, _, _ = socket.recv_fds(s, 4, 3)
    left, text = struct.unpack("=I", head)[0], b""
    while len(text) < left:
        text += s.recv(left - len(text)) or sys.exit("warm.py: a request was cut")
    count, folder, *rest = text[:-1].split(b"\0")
    return fds, folder, rest[:int(count)], rest[int(count):]


def program(argv):
    """Code, the name of its file or None, its arguments."""
    if argv[:1] == ["-c"]:
        return compile(argv[1], "<string>", "exec"), None, ["-c"] + argv[2:]
    if argv[:1] in ([], ["-"]):
        return compile(sys.stdin.read(), "<stdin>", "exec"), None, argv or [""]
    f = os.path.abspath(argv[0])
    return CODE.get(f) or compile(open(f).read(), f, "exec"), f, argv


def run(fds, folder, argv, environ):
    """In the child: the program's exit status."""
    for i, f in enumerate(fds):
        os.dup2(f, i)
        os.close(f)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environb.update(e.split(b"=", 1) for e in environ)
        code, name, sys.argv = program([os.fsdecode(a) for a in argv])
        sys.path[:1] = [os.path.dirname(name) if name else "", *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
        main = type(sys)("__main__")
        main.__file__ = name
        sys.modules["__main__"] = main
        exec(code, main.__dict__)
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        if not isinstance(e.code, (int, type(None))):
            print(e.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 120
    return status & 255


def main():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while listener in select.select([listener, 0], [], [])[0]:
        s, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            request = receive(s)
            # SIGIO, which ends the child, when the client is killed.
            fcntl.fcntl(s, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(s, fcntl.F_SETFL, os.O_ASYNC)
            status = run(*request)
            # Files are closed first: who waits for the status finds them whole.
            sys.stdout = sys.stderr = None
            os.closerange(0, 3)
            s.send(bytes([status]))
            os._exit(0)
        s.close()


main()
