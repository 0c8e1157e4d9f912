"""Installs the peers, and builds those that come from the Rust registry. Nothing of this is measured."""
import os
import shutil
import subprocess
from pathlib import Path

from .command import Failed

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
install_peers = True


def found(command):
    return bool(shutil.which(str(command)) or Path(command).exists())


def install_debian(packages):
    """Installs packages; what cannot be installed is printed as missing later, by the tool that needs it."""
    if not packages or not install_peers:
        return
    print(f"Installing from Debian: {' '.join(packages)}", flush=True)
    before = [] if os.geteuid() == 0 else ["sudo"]
    # RUNLEVEL: a package that brings a server must not start it.
    command = [*before, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*before, "apt-get", "update", "-qq"], check=False)
    subprocess.run([*command, "install", "-y", "-qq", "--no-install-recommends", *packages], check=False, stdout=subprocess.DEVNULL)


def install_crate(name, version, *options):
    """Builds a program of the registry once for each version; returns its path, or None when it cannot be built."""
    folder = TARGET / "peers" / f"{name}-{version}"
    program = folder / "bin" / name
    if program.exists() or not install_peers:
        return program if program.exists() else None
    print(f"Building {name} {version} into {folder}", flush=True)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / "build")}
    command = ["cargo", "install", name, "--version", version, "--locked", "--root", str(folder), *options]
    # Outside the tree: its Cargo settings are not those of the peer.
    subprocess.run(command, env=environment, check=False, cwd="/")
    shutil.rmtree(folder / "build", ignore_errors=True)
    return program if program.exists() else None


def build_ddm():
    """Builds the programs as they are released."""
    subprocess.run(["cargo", "build", "--release", "--workspace", "--bins"], cwd=ROOT, check=True)
    return TARGET / "release"


def example(programs, name):
    """Returns the path of a measuring program of the test kit that stands beside DDM's programs; builds it if need be."""
    path = Path(programs) / "examples" / name
    if not path.exists() and Path(programs) == TARGET / "release":
        subprocess.run(["cargo", "build", "--release", "--workspace", "--example", name], cwd=ROOT, check=True)
    if not path.exists():
        raise Failed(f"{path} is not built: cargo build --release --workspace --example {name}")
    return path
