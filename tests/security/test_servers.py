"""Tests that a Ray started on one machine can't be reached from another, because whoever reaches it can run code."""

import subprocess
import sys
import tempfile

import pytest

from tests.waiting import PATIENCE
from tests.whole_studies import ONE_CPU

pytestmark = pytest.mark.slow
LISTENERS = """
import psutil, ray
from krona_tune.search.startup.cluster import connect
cluster = connect(None)
ray.get(ray.remote(lambda: 1).remote())
me = psutil.Process()
for process in (me, *me.children(recursive=True)):
    for socket in process.net_connections("tcp"):
        if socket.status == "LISTEN":
            print("listens", socket.laddr.ip)
print("dashboard", cluster.dashboard)
"""


def test_every_server_of_a_local_ray_listens_on_the_loopback_alone() -> None:
    pytest.importorskip("psutil")
    with tempfile.TemporaryDirectory(prefix="krona-", ignore_cleanup_errors=True) as room:
        places = {"PATH": "/usr/bin:/bin", "HOME": room, "RAY_TMPDIR": room}
        done = subprocess.run(
            [sys.executable, "-c", LISTENERS],
            env={**places, **ONE_CPU, "RAY_preload_python_modules": "json"},  # in place of torch and others
            capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
    said = [line.split() for line in done.stdout.splitlines() if line.startswith(("listens", "dashboard"))]
    heard = {address.removeprefix("::ffff:") for kind, address in said if kind == "listens"}
    assert heard == {"127.0.0.1"}
    assert said[-1][1].startswith("http://127.0.0.1:")
