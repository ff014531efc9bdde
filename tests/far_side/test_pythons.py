"""The interpreter for the calls is found, or what there is instead is named."""

from __future__ import annotations

import os
import stat

from clustrix_prefect.far_side.wire import protocol
from tests.far_side.far import Far


def test_the_same_minor_version_is_preferred(old_far, pythons):
    for version in ("3.8", "3.11", "3.13"):
        if version not in pythons:
            continue
        prefer = [int(part) for part in version.split(".")]
        path = os.path.dirname(pythons[version])
        prologue = [f"export PATH={path}:$PATH"]
        chosen = old_far.client.request(
            protocol.find_python(python=None, prefer=prefer, prologue=prologue)
        )
        assert chosen["chosen"]["version"][:2] == prefer
        assert chosen["chosen"] in chosen["found"]


def test_the_one_asked_for_is_the_only_one(old_far, pythons):
    answer = old_far.client.request(
        protocol.find_python(python=old_far.python, prefer=[3, 13], prologue=[])
    )
    assert answer["chosen"]["path"] == old_far.hello["executable"]
    answer = old_far.client.request(
        protocol.find_python(python="no-such-python", prefer=[3, 11], prologue=[])
    )
    assert answer == {"found": [], "chosen": None}


def test_another_version_is_offered_when_the_wanted_is_not_there(old_far):
    answer = old_far.client.request(protocol.find_python(python=None, prefer=[3, 99], prologue=[]))
    assert answer["chosen"] == answer["found"][0]
    assert old_far.hello["executable"] in [python["path"] for python in answer["found"]]


def test_what_is_no_python_is_passed_over(oldest, tmp_path):
    fake = tmp_path / "bin" / "python3.11"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho not a Python\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    far = Far(oldest, tmp_path / "work")
    prologue = [f"export PATH={fake.parent}:/usr/bin:/bin"]
    answer = far.client.request(
        protocol.find_python(python=None, prefer=[3, 11], prologue=prologue)
    )
    assert str(fake) not in [python["path"] for python in answer["found"]]
    far.close()


def test_a_command_that_only_a_login_knows_is_found(oldest, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch-of-this-site").write_text("#!/bin/sh\necho 7\n")
    (tools / "sbatch-of-this-site").chmod(0o755)
    # What `module load slurm` does.
    far = Far(oldest, tmp_path / "work", prologue=["echo loading", f"PATH={tools}:$PATH"])
    answer = far.client.request(protocol.command(argv=["sbatch-of-this-site"]))
    assert answer == {"returncode": 0, "stdout": "7\n", "stderr": ""}
    far.close()
