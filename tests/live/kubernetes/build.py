"""Build Kubernetes once: `python tests/live/kubernetes/build.py`.

No package brings a server, but Debian's source package of kubectl holds all of Kubernetes with
the modules that it needs. The programs go into the user's cache directory; what they need
besides (etcd, containerd, runc) is unpacked there too, and nothing is installed.

Uses only the standard library, since it runs before there is a virtual environment.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VERSION = "1.20.2"
COMMIT = "faecb196815e248d3ecfb03c680a4507229c2a56"

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clustrix-prefect-tests"
DIRECTORY = CACHE / f"kubernetes-{VERSION}"
PROGRAMS = DIRECTORY / "bin"
CNI_PLUGINS = DIRECTORY / "cni"
LAYERS = DIRECTORY / "layers"

_COMPILED = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
_PACKAGED = {
    "etcd-server": ("etcd",),
    "containerd": ("containerd", "containerd-shim-runc-v2", "ctr"),
    "runc": ("runc",),
    "kubernetes-client": ("kubectl",),
    "containernetworking-plugins": (),
}
# The release whose source package it is, and whose compiler is old enough for it.
_RELEASE = "bookworm"
_COMPILER = ("golang-1.19-go", "golang-1.19-src")
# What the official slim images of Python have besides a minimal Debian.
_LIBRARIES = (
    "ca-certificates,netbase,tzdata,libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,"
    "libsqlite3-0,libuuid1,zlib1g"
)
# The process that holds a pod's namespaces, and those of the whole cluster: it reaps orphans.
_PAUSE = """package main

import ("os"; "os/signal"; "syscall")

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD { os.Exit(0) }
		for { if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 { break } }
	}
}
"""


def is_built() -> bool:
    """Whether everything is there; it appears at once or not at all."""
    return DIRECTORY.exists()


def build() -> None:
    """Build what is missing; two at a time wait for each other.

    Raises:
        subprocess.CalledProcessError: A command failed; its output went to standard error.
    """
    with _locked():
        if is_built():
            return
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as scratch:
            made = Path(scratch) / "made"
            for name in ("bin", "cni", "layers"):
                (made / name).mkdir(parents=True)
            _Apt(Path(scratch) / "apt").fetch_to(made)
            _compile(Path(scratch), made / "bin")
            _debian_layer(Path(scratch) / "debian", made / "layers" / "debian.tar")
            made.chmod(0o755)
            made.rename(DIRECTORY)


@contextmanager
def _locked() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "kubernetes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Apt:
    """apt with package lists of its own, which know sources too: the machine's stay as they are.

    Args:
        directory: For the lists, packages and sources.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "lists" / "partial").mkdir(parents=True)
        sources = directory / "debian.list"
        lines = [*self._repositories(), f"{mirror()} {_RELEASE} main\n"]
        sources.write_text("".join(f"deb {line}deb-src {line}" for line in dict.fromkeys(lines)))
        self._options = [
            *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"),
            *("-o", f"Dir::State::lists={directory / 'lists'}"),
            *("-o", "APT::Sandbox::User=root"),
        ]

    def fetch_to(self, made: Path) -> None:
        """Unpack packages, compiler and sources; copy the packages' programs."""
        run(["apt-get", *self._options, "-qq", "update"])
        packages = [f"{name}/{_RELEASE}" for name in (*_PACKAGED, *_COMPILER)]
        download = ["apt-get", *self._options, "-qq", "download", *packages]
        run(download, cwd=self._directory)
        root = self._directory.parent / "root"
        for package in self._directory.glob("*.deb"):
            run(["dpkg-deb", "--extract", str(package), str(root)])
        for program in (program for programs in _PACKAGED.values() for program in programs):
            shutil.copy(root / "usr" / "bin" / program, made / "bin" / program)
        shutil.copytree(root / "usr" / "lib" / "cni", made / "cni", dirs_exist_ok=True)
        source = ["apt-get", *self._options, "-qq", "source", "--download-only"]
        source.append(f"kubernetes/{_RELEASE}")
        run(source, cwd=self._directory)

    @staticmethod
    def _repositories() -> list[str]:
        """The Debian repositories that this machine uses, as lines of a list of sources."""
        wanted = "$(ORIGIN)|$(REPO_URI) $(RELEASE) $(COMPONENT)"
        command = ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]
        found = _output(command).splitlines()
        if not found:  # a machine whose lists were never fetched does not say who is Debian
            run(["apt-get", "-qq", "update"])
            found = _output(command).splitlines()
        lines = [line.partition("|")[2] + "\n" for line in found if line.startswith("Debian|")]
        return sorted(set(lines))


def _compile(scratch: Path, programs: Path) -> None:
    """Compile Kubernetes' servers, with the version that Debian gives them."""
    source = scratch / "go" / "src" / "k8s.io" / "kubernetes"
    source.mkdir(parents=True)
    (archive,) = (scratch / "apt").glob("kubernetes_*.orig.tar.gz")
    run(["tar", "-xzf", str(archive), "--strip-components=1", "-C", str(source)])
    go = scratch / "root" / "usr" / "lib" / "go-1.19"
    environment = {
        "PATH": f"{go}/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "GOROOT": str(go),
        "GOPATH": str(scratch / "go"),
        "GOCACHE": str(scratch / "go-cache"),
        "GOTMPDIR": str(scratch),
        "GO111MODULE": "off",  # the generators find packages by GOPATH only
        "CGO_ENABLED": "0",
    }
    vendor = "k8s.io/kubernetes/vendor/k8s.io"
    facts = {"gitVersion": f"v{VERSION}", "gitMajor": "1", "gitMinor": VERSION.split(".")[1]}
    facts |= {"gitCommit": COMMIT, "gitTreeState": "clean"}
    stamps = " ".join(
        f"-X {vendor}/{package}.{name}={value}"
        for package in ("component-base/version", "client-go/pkg/version")
        for name, value in facts.items()
    )
    go_build = ["go", "build", "-trimpath", "-ldflags", f"-s -w {stamps}", "-o"]

    generator = scratch / "openapi-gen"
    package = "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"
    run([*go_build, str(generator), package], cwd=source, environment=environment)
    described = ",".join(_described_packages(source))
    generated = "k8s.io/kubernetes/pkg/generated/openapi"
    header = "hack/boilerplate/boilerplate.generatego.txt"
    output = ["-p", generated, "-O", "zz_generated.openapi", "-h", header, "-r", os.devnull]
    run([str(generator), "-i", described, *output], cwd=source, environment=environment)

    commands = [f"./cmd/{name}" for name in _COMPILED]
    run([*go_build, f"{programs}/", *commands], cwd=source, environment=environment)
    (scratch / "pause.go").write_text(_PAUSE)
    pause = [*go_build, str(programs / "pause"), "pause.go"]
    run(pause, cwd=scratch, environment=environment)


def _described_packages(source: Path) -> list[str]:
    """The packages whose types the API server describes to its clients."""
    found = set()
    for top in ("pkg", "staging/src/k8s.io"):
        for path in (source / top).rglob("*.go"):
            text = path.read_bytes()
            if b"+k8s:openapi-gen=" in text and re.search(rb"^// *\+k8s:", text, re.MULTILINE):
                package = str(path.parent.relative_to(source)).replace("staging/src", "vendor")
                if "code-generator" not in package and "sample-apiserver" not in package:
                    found.add(f"k8s.io/kubernetes/{package}")
    return sorted(found)


def _codename() -> str:
    """Return the name of this machine's release of Debian."""
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    return release[1] if release else "stable"


def mirror() -> str:
    """Return the address of the Debian mirror that this machine uses."""
    wanted = ["--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    command = ["apt-get", "indextargets", *wanted, f"Release: {_codename()}"]
    if not _output(command):  # a machine whose lists were never fetched does not say who is Debian
        run(["apt-get", "-qq", "update"])
    return _output(command).split()[0]


def _debian_layer(root: Path, layer: Path) -> None:
    """Make the lowest layer of all images: a minimal Debian."""
    codename = _codename()
    # Since Debian 13 these have another name, for their 64 bits of time.
    renamed = "" if codename == _RELEASE else "t64"
    libraries = f"{_LIBRARIES},libreadline8{renamed},libssl3{renamed}"
    options = ["--variant=minbase", f"--include={libraries}"]
    run(["debootstrap", *options, codename, str(root), mirror()])
    left_out = ["dev/*", "proc/*", "sys/*", "var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*"]
    left_out += ["usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*"]
    excluded = [f"--exclude=./{pattern}" for pattern in left_out]
    run(["tar", "-cf", str(layer), *excluded, "-C", str(root), "."])


def run(
    command: list[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(f"{' '.join(command)[:200]}:\n{done.stdout[-3000:]}", file=sys.stderr)
        done.check_returncode()


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def why_not() -> str:
    """Why it cannot be built here, or nothing."""
    if os.geteuid() != 0:
        return "only root can run a node"
    needed = ("apt-get", "dpkg-deb", "debootstrap")
    missing = [name for name in needed if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""


def main() -> int:
    """Build it, or say why not."""
    if is_built() or os.environ.get("CLUSTRIX_TEST_KUBECONFIG"):
        return 0
    if reason := why_not():
        print(f"Kubernetes is not built: {reason}. The tests that need it will be skipped.")
        return 0
    print("Building Kubernetes, once for this machine: about 5 minutes", flush=True)
    started = time.monotonic()
    try:
        build()
    except subprocess.CalledProcessError as failure:
        print(f"Kubernetes could not be built: {failure.cmd[0]} failed", file=sys.stderr)
        return 1
    print(f"Built in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
