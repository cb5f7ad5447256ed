"""Ask a process that is ready (`tests.ready`) for a command: ask_ready.py SOCKET WORDS... is ``pyramidai WORDS...``.

Loads next to nothing: it stands for the command in a shell.
"""

import json
import os
import socket
import sys


def ask(place: str, words: list[str], cwd: str, environment: dict[str, str], streams: list[int]) -> socket.socket:
    """Ask for a command with these stdin, stdout and stderr; its process number and its exit code come as two texts."""
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.connect(place)
    message = json.dumps({"words": words, "cwd": cwd, "environment": environment})
    socket.send_fds(asked, [message.encode()], streams)
    return asked


if __name__ == "__main__":
    with ask(sys.argv[1], sys.argv[2:], os.getcwd(), dict(os.environ), [0, 1, 2]) as answer:  # noqa: PTH109
        answer.recv(100)
        code = int(answer.recv(100))
    sys.exit(code if code >= 0 else 128 - code)  # as a shell does
