"""What the container test takes from the machine it runs on: tools, a base image, packages, podman's service."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images.mlflow_on_postgresql import postgresql_programs

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "containers"
BASE = "localhost/base"
TOOLS = ["buildah", "mmdebstrap", "podman", "runc"]
PACKAGES = Path(__file__).with_name("debian-packages.txt")


def missing() -> str:
    """Say in one sentence what this machine lacks; empty if nothing."""
    if os.geteuid() != 0:
        return "Images are built from nothing by root alone: expected to be run as root."
    tools = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not postgresql_programs():
        tools.append("postgresql")
    packages = " ".join(PACKAGES.read_text().split())
    expected = f"`apt-get install --no-install-recommends {packages}`"
    return f"{', '.join(tools)} not found: expected what {expected} gives." if tools else ""


@dataclass(frozen=True)
class Engine:
    """Podman and buildah with a storage of their own; `environment` makes a command use it."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Run a command to its end and return what it printed.

        Raises:
            RuntimeError: it failed; the message holds all that it printed.
        """
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextmanager
    def service(self) -> Iterator[str]:
        """Serve Docker's API, and return the address that a client's DOCKER_HOST is to name."""
        socket = self.folder / "podman.sock"
        address = f"unix://{socket}"
        command = ["podman", "system", "service", "--time=0", address]
        with subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL) as process:
            try:
                while not socket.exists():
                    if process.poll() is not None:
                        raise RuntimeError("Podman's service did not start.")
                    time.sleep(0.1)
                yield address
            finally:
                process.terminate()


@contextmanager
def container_engine(secrets: dict[str, str]) -> Iterator[Engine]:
    """Make an engine whose storage is gone afterwards, with every image and container.

    Args:
        secrets: variables that commands see in their environment, and that must not reach an image.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=CACHE))
    storage = folder / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n'
    )
    environment = {
        **os.environ,
        **secrets,
        "CONTAINERS_CONF": str(ROOT / "tests" / "images" / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(storage),
    }
    engine = Engine(folder, environment)
    try:
        yield engine
    finally:
        engine.run("buildah", "rm", "--all")
        engine.run("podman", "rm", "--all", "--force")
        subprocess.run(["umount", f"{folder}/images/overlay"], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


def import_base(engine: Engine) -> None:
    """Make a base image of this machine's Debian release: no registry is needed, only a package mirror."""
    archive = CACHE / "base.tar"
    if not archive.exists():
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines())
        partial = archive.with_suffix(".partial.tar")
        engine.run(
            "mmdebstrap",
            "--variant=apt",
            "--include=ca-certificates",
            release["VERSION_CODENAME"],
            str(partial),
        )
        partial.rename(archive)
    engine.run("podman", "import", "--quiet", str(archive), BASE)


def collect_packages(engine: Engine, torch: str) -> Path:
    """Make a folder of every package that the images need, by this machine's pip and however it is set up."""
    packages = CACHE / "packages"
    index = os.environ.get("TORCH_INDEX")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(packages)]
    engine.run(*pip, *(["--index-url", index] if index else []), torch)
    engine.run(*pip, "setuptools", "wheel")
    for image in ("cpu", "train"):
        engine.run(*pip, "--no-deps", "--requirement", str(ROOT / "images" / image / "requirements.lock"))
    return packages


def build(engine: Engine, image: str, packages: Path, torch: str) -> None:
    """Build one image as a user would, on that base and from those packages."""
    pip_settings = engine.folder / "pip.conf"
    pip_settings.write_text("[global]\nno-index = true\nfind-links = /mnt\n")
    engine.run(
        *["images/build", image, "--isolation", "chroot", "--network", "host"],
        *["--build-arg", f"BASE={BASE}", "--build-arg", f"TORCH={torch}"],
        *["--secret", f"id=pip,src={pip_settings}", "--volume", f"{packages}:/mnt:ro"],
    )
