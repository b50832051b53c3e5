"""`python -I -S client.py SOCKET ARGUMENTS` is `python ARGUMENTS`, by a fork of the server where it can be."""

import marshal
import os
import socket
import sys


def main(path: str, arguments: list[str]) -> None:
    arguments = arguments[arguments[:1] == ["-E"] :]  # tests reach into stages by PYTHONPATH
    if arguments[:1] in (["-c"], ["-m"]):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            request = marshal.dumps((arguments, os.getcwd(), dict(os.environ)))
            socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
            connection.sendall(request)
            answer = connection.recv(16)
        if not answer:
            sys.exit("the server of tests/fork has ended: its log lies beside its socket")
        if answer != b"no":
            code = int(answer)
            if code < 0:
                os.kill(os.getpid(), -code)
            sys.exit(code)
    os.execv(sys.executable, [sys.executable, *arguments])


main(sys.argv[1], sys.argv[2:])
