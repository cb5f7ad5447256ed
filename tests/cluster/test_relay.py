"""The network of `bench.peers.scheduling.relay`: between hosts, every frame comes late, and whole."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.peers.scheduling.over_hosts import hosts_apart, on
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.cluster.conftest import skip_without

ANSWER = """
import socket
server = socket.create_server(("0.0.0.0", 4711))
print("ready", flush=True)
with server.accept()[0] as line:
    while data := line.recv(65536):
        line.sendall(data)
"""
ASK = """
import json, os, socket, time
with socket.create_connection(("n2", 4711)) as line:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    def there_and_back(data):
        started = time.perf_counter()
        line.sendall(data)
        back = b""
        while len(back) < len(data):
            back += line.recv(65536)
        return time.perf_counter() - started, back == data
    times = [there_and_back(b"x")[0] for _ in range(5)]
    print(json.dumps([min(times), there_and_back(os.urandom(200_000))[1]]))
"""


def test_a_message_takes_the_delay_there_and_back(tmp_path):
    skip_without("ip", "unshare", "nsenter")
    with hosts_apart(tmp_path / "hosts", 30):
        words = on(tmp_path / "hosts", "n2", sys.executable, "-c", ANSWER)
        with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout.readline() == "ready\n"
            words = on(tmp_path / "hosts", "n1", sys.executable, "-c", ASK)
            done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
            fastest, is_whole = json.loads(done.stdout)
    assert fastest >= 0.06
    assert is_whole
