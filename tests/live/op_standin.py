"""A stand-in for `op`, 1Password's command line, which cannot be had for tests.

It does what the documentation of op 2 says about `op item get` and `op vault list` with a service
account, says what op says when something is wrong, and asks at the terminal where op would.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python} -SE
import json, os, sys, time

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "world.json")) as file:
    world = json.load(file)
behaviour = world["behaviour"]
try:
    terminal = os.open("/dev/tty", os.O_RDWR)
except OSError:
    terminal = None
call = {{
    "arguments": sys.argv[1:],
    "variables": {{k: v for k, v in os.environ.items() if k.startswith("OP_")}},
    "has_terminal": terminal is not None,
    "stdin_is_empty": os.read(0, 1) == b"",
}}
with open(os.path.join(here, "calls.jsonl"), "a") as file:
    file.write(json.dumps(call) + "\\n")


def fail(message, status=1):
    sys.stderr.write("[ERROR] 2026/11/01 10:00:00 " + message + "\\n")
    sys.exit(status)


if behaviour == "asks":
    # op asks at the terminal, whatever its standard input is; here there is none, so it waits.
    sys.stderr.write("Enter the password for ana@example.org at my.1password.com: ")
    sys.stderr.flush()
    time.sleep(3600)
if behaviour == "asks and ignores SIGTERM":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        time.sleep(3600)
    time.sleep(3600)
if behaviour == "floods":
    while True:
        os.write(1, b"x" * 65536)
if behaviour == "html":
    print("<html>502 Bad Gateway</html>")
    sys.exit(0)
if behaviour == "half an item":
    print('{{"id": "x", "fields": [{{"id": "password", "value": "' + world["half"])
    sys.exit(0)
if behaviour == "repeats the token":
    fail("cannot use " + os.environ["OP_SERVICE_ACCOUNT_TOKEN"] + " now")
if behaviour.startswith("says "):
    fail(behaviour[5:])
if behaviour == "leaves a daemon" and os.fork() == 0:
    os.setsid()
    time.sleep(120)
    os._exit(0)

token = os.environ.get("OP_SERVICE_ACCOUNT_TOKEN")
if token not in world["tokens"]:
    fail("error initializing client: (401) (Unauthorized), "
         "You aren't authorized to perform this action.")
readable = [v for v in world["vaults"] if v["name"] in world["tokens"][token]]
arguments = sys.argv[1:]
if arguments == ["vault", "list", "--format=json"]:
    print(json.dumps([{{"id": v["id"], "name": v["name"]}} for v in readable]))
    sys.exit(0)
if arguments[:2] != ["item", "get"]:
    fail("unknown command")
flags = [a for a in arguments[2:arguments.index("--")] if a.startswith("--")]
names = arguments[arguments.index("--") + 1:]
wanted = [f.split("=", 1)[1] for f in flags if f.startswith("--vault=")]
if not wanted:
    fail("a vault query must be provided when this command is called by a service account. "
         "Please specify one either through the --vault flag or through piped input")
if "--format=json" not in flags or len(names) != 1:
    fail("accepts 1 arg(s), received %d" % len(names))
vaults = [v for v in readable if wanted[0] in (v["id"], v["name"])]
if not vaults:
    fail('"%s" isn\\'t a vault in this account. Specify the vault with its ID or name.' % wanted[0])
items = [i for i in vaults[0]["items"] if names[0] in (i["id"], i["title"])]
if not items:
    fail('"%s" isn\\'t an item in the "%s" vault. Specify the item with its UUID, name, or domain.'
         % (names[0], vaults[0]["name"]))
if len(items) > 1:
    fail('More than one item matches "%s". Try again and specify the item by its ID:\\n'
         % names[0] + "\\n".join("\\t* for the item in vault: " + i["id"] for i in items))
print(json.dumps(items[0], indent=2))
sys.stdout.flush()
"""


class StandInOp:
    """The program, with what it holds beside it.

    Args:
        directory: Where it is put.

    Attributes:
        executable: Its path.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._world: dict[str, Any] = {"behaviour": "", "tokens": {}, "vaults": [], "half": ""}
        path = directory / "op"
        path.write_text(_PROGRAM.format(python=sys.executable))
        path.chmod(0o755)
        self.executable = str(path)
        self._save()

    def allow(self, token: str, *vaults: str) -> None:
        """Let a service account read vaults."""
        self._world["tokens"][token] = list(vaults)
        self._save()

    def add(self, vault: str, title: str, fields: dict[str, str], *, id: str = "") -> None:
        """Add an item; a field's name may be "section/label", one of "otp" is of that type."""
        found = next((v for v in self._world["vaults"] if v["name"] == vault), None)
        if found is None:
            found = {"id": f"vault{len(self._world['vaults'])}", "name": vault, "items": []}
            self._world["vaults"].append(found)
        written = []
        for name, value in fields.items():
            section, _, label = name.rpartition("/")
            one: dict[str, Any] = {"id": label, "type": "CONCEALED", "label": label, "value": value}
            if label == "otp":  # the value is the seed; op works the code out
                one.update(type="OTP", value=f"otpauth://totp/x?secret={value}", totp="134253")
            if section:
                one["section"] = {"id": f"add {section}", "label": section}
            written.append(one)
        found["items"].append(
            {
                "id": id or f"item{len(found['items'])}",
                "title": title,
                "version": 1,
                "vault": {"id": found["id"], "name": vault},
                "category": "LOGIN",
                "created_at": "2025-01-01T00:00:00Z",
                "updated_at": "2026-05-04T03:02:01Z",
                "fields": written,
            }
        )
        self._save()

    def behave(self, how: str, half: str = "") -> None:
        """From now on do this, whatever is asked."""
        self._world.update(behaviour=how, half=half)
        self._save()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What each run of it was given."""
        path = self._directory / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _save(self) -> None:
        (self._directory / "world.json").write_text(json.dumps(self._world))
