"""What a session's container reaches: it opens connections and says of each whether somebody answered."""

import json

from docker import names
from docker.service import ContainerInfo
from tests.contracts.runtimes import ProcessRuntime

# Postgres answers an SSLRequest with one letter, an HTTP server a request, a TLS server a hello; all after a connect.
_SCRIPT = """
import json, socket, sys, threading
POSTGRES = bytes.fromhex("0000000804d2162f")
def reach(name, host, port):
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(POSTGRES if name == "postgres" else b"GET /v1/models HTTP/1.0\\r\\n\\r\\n")
            found[name] = connection.recv(1).decode("latin-1") != ""
    except OSError:
        found[name] = False
def ask(name, host):
    try:
        found[name] = socket.gethostbyname(host)
    except OSError:
        found[name] = False
found = {}
targets, question = json.loads(sys.argv[1])
threads = [threading.Thread(target=reach, args=(name, *target)) for name, target in targets.items()]
threads += [threading.Thread(target=ask, args=("dns", question), daemon=True)]
for each in threads: each.start()
for each in threads: each.join(5)
print(json.dumps(found))
"""

Targets = dict[str, tuple[str, int]]


async def reached(runtime: ProcessRuntime, targets: Targets, question: str) -> dict[str, bool | str]:
    """By name: whether it answered. ``dns``: the address of ``question``."""
    (line,) = await runtime.said("python3", "-c", _SCRIPT, json.dumps([targets, question]))
    found: dict[str, bool | str] = json.loads(line)
    return found


async def serving(runtime: ProcessRuntime) -> ContainerInfo:
    """A session's container that serves."""
    made = await runtime.create(names.container_name())
    await runtime.service.start_container(made.id)
    info = await runtime.service.get_container_info(made.id)
    assert info is not None
    assert info.address is not None
    return info
