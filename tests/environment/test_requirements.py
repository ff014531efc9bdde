"""Requirements: what a list, a file, or the code's own imports come to."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clustrix_prefect import LocalCluster, ManagedEnvironment, SlurmCluster
from clustrix_prefect.clusters.requirements import Requirements
from clustrix_prefect.environments.distributions import Distribution, constraints, pinned, providers
from clustrix_prefect.environments.wheels import Target
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.packaging.function_bundles import FunctionBundles
from clustrix_prefect.packaging.imports import Imports, of_tree
from tests.environment.conftest import forget_installed
from tests.environment.wheels import unpacked


class TestFiles:
    def test_files_that_name_files(self, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "base.txt").write_text("six\n-c ../pins.txt\n-r base.txt\n")
        (tmp_path / "pins.txt").write_text("six==1.17.0  # the last\n")
        (tmp_path / "all.txt").write_text(
            "# what we need\n-r more/base.txt\nnumpy \\\n  >=1.26\n\n--prefer-binary\n"
        )
        found = Requirements.of_file(str(tmp_path / "all.txt"))
        assert found.lines == ("six", "numpy    >=1.26", "--prefer-binary")
        assert found.constraints == ("six==1.17.0",)

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'/nowhere/r\.txt' cannot be read"):
            Requirements.of_file("/nowhere/r.txt")

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("-e .", "directory of this machine"),
            ("./mine", "directory of this machine"),
            ("mine @ file:///home/me/mine", "directory of this machine"),
            ("numpy=>1", "is no requirement"),
            ("--index-url https://me:secret@index.example.org/simple", "holds a password"),
        ],
    )
    def test_lines_that_mean_nothing_there(self, line: str, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why) as caught:
            Requirements.of_lines([line])
        assert "secret@" not in str(caught.value)
        with pytest.raises(ValidationError, match=why):
            ManagedEnvironment(requirements=[line])


class TestBlocks:
    def test_versions_of_python(self) -> None:
        assert ManagedEnvironment(python="3.11").accepts([3, 11, 4])
        assert not ManagedEnvironment(python="3.11").accepts([3, 12, 0])
        assert ManagedEnvironment().accepts([3, 13, 0])
        with pytest.raises(ValidationError, match="is no version of Python"):
            ManagedEnvironment(python="three")

    def test_one_environment_at_a_time(self) -> None:
        with pytest.raises(ValidationError, match="python and conda_environment each name"):
            LocalCluster(python="python3", conda_environment="torch")
        with pytest.raises(ValidationError, match="virtual_environment and managed_environment"):
            LocalCluster(virtual_environment="~/v", managed_environment=ManagedEnvironment())
        LocalCluster(python="python3", managed_environment=ManagedEnvironment())

    def test_jobs_need_a_scheduler(self) -> None:
        in_job = ManagedEnvironment(build_in_job=True)
        SlurmCluster(managed_environment=in_job)
        with pytest.raises(ValidationError, match="needs a cluster with a scheduler"):
            LocalCluster(managed_environment=in_job)

    def test_it_can_be_saved_and_loaded(self) -> None:
        cluster = LocalCluster(managed_environment=ManagedEnvironment(requirements=["numpy"]))
        again = LocalCluster.model_validate(cluster.model_dump())
        assert again.managed_environment == cluster.managed_environment
        assert again.identity == cluster.identity != LocalCluster().identity


class TestDistributions:
    def test_who_provides_a_module(self) -> None:
        assert [one.name for one in providers("yaml.safe_load")] == ["PyYAML"]
        assert providers("json") == providers("nowhere_to_be_found") == []

    def test_pins_are_what_is_here_if_there_is_one_for_that_python(self) -> None:
        assert pinned(["yaml", "json"], [3, 11, 0]) == [f"PyYAML=={version('PyYAML')}"]
        there = Distribution("some", "2.3.0+cu121", ">=3.10")
        assert there.requirement([3, 11, 2]) == "some==2.3.0"
        assert there.requirement([3, 8, 1]) == "some"

    def test_what_packages_need_in_turn_is_kept_at_the_versions_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        needs = {
            "tinytop": ["Tiny_Middle[more]>=1", 'tinyold; python_version < "3.4"', "tinygone"],
            "tiny-middle": ["tinyleaf", 'tinyextra; extra == "more"', 'tinynot; extra == "other"'],
            "tinyleaf": ["tinytop"],
            **dict.fromkeys(("tinyold", "tinyextra", "tinynot"), ()),
        }
        for name, requires in needs.items():
            unpacked(tmp_path, "1.2", name=name.replace("-", "_"), requires=requires)
        monkeypatch.syspath_prepend(str(tmp_path))
        forget_installed()
        there = Target((3, 11, 2), "linux-x86_64", ("glibc", "2.31")).markers
        try:
            found = constraints(["tinytop"], there)
        finally:
            forget_installed()
        assert found == ["tiny_middle==1.2", "tinyextra==1.2", "tinyleaf==1.2"]

    def test_the_same_major_version_agrees(self) -> None:
        here = Distribution("some", "2.3.0")
        assert here.agrees_with("2.0.1")
        assert not here.agrees_with("1.26.4")


def imports_of(function: Callable[..., Any]) -> Imports:
    here = (sys.version_info.major, sys.version_info.minor)
    return FunctionBundles(function, here, "function").for_arguments(frozenset()).imports


class TestImports:
    def test_what_is_needed_and_what_is_not(self) -> None:
        source = (
            "from __future__ import annotations\n"
            "import sys, numpy.linalg as la\n"
            "from google.cloud import storage\n"
            "from . import near\n"
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n"
            "    import pandas\n"
            "else:\n"
            "    import scipy\n"
            "try:\n"
            "    import orjson\n"
            "except ImportError:\n"
            "    import simplejson\n"
            "try:\n"
            "    import attr\n"
            "finally:\n"
            "    pass\n"
            "if sys.version_info >= (3, 11):\n"
            "    import tomllib\n"
            "else:\n"
            "    import tomli\n"
            "def f():\n"
            "    import prefect, torch\n"
        )
        found = of_tree(ast.parse(source))
        assert found.required == {
            *("sys", "numpy.linalg", "google.cloud.storage", "typing.TYPE_CHECKING"),
            *("scipy", "attr", "torch"),
        }
        assert found.optional == {"orjson", "simplejson", "tomllib", "tomli"}

    def test_what_a_function_names(self) -> None:
        import numpy as np
        import yaml

        def helper() -> object:
            import decimal

            return decimal.Decimal(np.pi)

        def function() -> object:
            return helper(), yaml.safe_load("1"), lambda: yaml

        assert imports_of(function).required == {"numpy", "decimal", "yaml"}

    def test_what_a_function_only_seems_to_name(self) -> None:
        made = type("Made", (), {"__module__": "no_longer_there", "yaml": 1})

        def function() -> object:
            return made().yaml

        assert imports_of(function).required == set()
