"""The client against a server that misbehaves: retries, limits, credentials, and messages without answers in them."""

import gzip
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from glint.archive.address import Address, parse_address
from glint.archive.client import Archive, Instance
from glint.errors import ArchiveError, DataError, GlintError, UsageError

ROWS = json.dumps(
    [{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00201208": {"vr": "IS", "Value": [4]}}]
).encode()
JSON = {"Content-Type": "application/dicom+json"}


@dataclass
class Server:
    """Answers with what `reply` gives: (status, headers, body)."""

    url: str
    reply: Callable[[int], tuple[int, dict[str, str], bytes]] = lambda number: (200, JSON, ROWS)
    seen: list[dict[str, str]] = field(default_factory=list)

    @property
    def archive(self) -> Archive:
        return Archive(parse_address(self.url))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Generator[Server]:
    monkeypatch.setattr("glint.archive.client.FIRST_WAIT_S", 0.001)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.seen.append(dict(self.headers) | {"path": self.path})
            status, headers, body = served.reply(len(served.seen))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, daemon=True).start()
    served = Server(f"dicomweb://127.0.0.1:{http.server_port}/web")
    yield served
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_failure__is_tried_again(server: Server, status: int) -> None:
    server.reply = lambda number: (status, {}, b"") if number < 4 else (200, JSON, ROWS)
    (study,) = server.archive.studies(modality="CR")
    assert (study.uid, study.instances, len(server.seen)) == ("1.2.3", 4, 4)
    server.seen.clear()
    server.reply = lambda number: (status, {}, b"")
    with pytest.raises(ArchiveError, match=str(status)) as caught:
        server.archive.studies(modality="CR")
    assert caught.value.transient
    assert len(server.seen) == 5


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_lasting_failure__is_told_at_once(server: Server, status: int) -> None:
    server.reply = lambda number: (status, {}, b"ZZPATIENTZZ")
    with pytest.raises(ArchiveError, match=str(status)) as caught:
        server.archive.studies(modality="CR")
    assert not caught.value.transient
    assert len(server.seen) == 1
    assert "ZZPATIENTZZ" not in str(caught.value)


def test_nobody__listens(server: Server) -> None:
    with pytest.raises(ArchiveError, match="cannot be reached") as caught:
        Archive(Address("http://127.0.0.1:9")).studies(modality="CR")
    assert caught.value.transient


@pytest.mark.parametrize("body", [b"[{", b"\xff\xfe", b'"ZZPATIENTZZ"', b"[1]", b'[{"0020000D": 5}]'])
def test_answer__that_is_no_dicomweb(server: Server, body: bytes) -> None:
    server.reply = lambda number: (200, JSON, body)
    with pytest.raises(GlintError) as caught:
        server.archive.studies(modality="CR")
    assert isinstance(caught.value, DataError | ArchiveError)
    assert "ZZPATIENTZZ" not in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_large_answer__is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """A gzip bomb, too: bytes count after unpacking."""
    monkeypatch.setattr("glint.archive.client.MAX_FILE_BYTES", 1_000_000)
    body = b"[" + b" " * 30_000_000 + b"]"
    headers = JSON | ({"Content-Encoding": "gzip"} if packed else {})
    server.reply = lambda number: (200, headers, gzip.compress(body) if packed else body)
    with pytest.raises(ArchiveError, match="too large"):
        server.archive.studies(modality="CR")
    assert len(server.seen) == 1


def test_slow_answer__ends_after_its_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glint.archive.session.ANSWER_S", -1.0)
    with pytest.raises(ArchiveError, match="too long"):
        server.archive.studies(modality="CR")


def test_redirection__is_not_followed(server: Server) -> None:
    server.reply = lambda number: (302, {"Location": "http://127.0.0.1:9/elsewhere"}, b"")
    with pytest.raises(ArchiveError, match="TooManyRedirects"):
        server.archive.studies(modality="CR")


def test_deflated_object__is_refused_unread(server: Server, tmp_path: Path) -> None:
    part = bytes(128) + b"DICM" + b"1.2.840.10008.1.2.1.99" + bytes(1000)
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n--b--"
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    server.reply = lambda number: (200, kind, body)
    with pytest.raises(DataError, match="deflated"):
        server.archive.fetch(Instance("1.2", "1.3", "1.4", "CR"), tmp_path / "image.dcm")
    assert not list(tmp_path.iterdir())


def test_credentials__come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.archive.studies(modality="CR")
    monkeypatch.setenv("GLINT_DICOMWEB_USER", "me")
    monkeypatch.setenv("GLINT_DICOMWEB_PASSWORD", "secret")
    server.archive.studies(modality="CR")
    monkeypatch.setenv("GLINT_DICOMWEB_TOKEN", "abc")
    server.archive.studies(modality="CR")
    assert [seen.get("Authorization") for seen in server.seen] == [None, "Basic bWU6c2VjcmV0", "Bearer abc"]
    with pytest.raises(UsageError, match="readable on the way"):
        Archive(Address("http://archive.example/web"))


def test_studies__are_asked_for_by_modality_and_date(server: Server) -> None:
    server.archive.studies(modality="DX", since="20240131")
    server.archive.studies(modality="CR")
    first, second = (seen["path"] for seen in server.seen)
    assert first.startswith("/web/studies?")
    assert "ModalitiesInStudy=DX" in first
    assert "StudyDate=20240131-" in first
    assert "StudyDate" not in second


def test_pages__are_all_read_and_a_server_that_ignores_offsets_ends(server: Server, monkeypatch: Any) -> None:
    monkeypatch.setattr("glint.archive.client.PAGE", 1)
    assert len(server.archive.studies(modality="CR")) == 1
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("text", "url", "study", "series"),
    [
        ("dicomweb://pacs.example/dicom-web", "https://pacs.example/dicom-web", "", ""),
        ("dicomweb:/pacs.example:8443/a/b/studies/1.2/", "https://pacs.example:8443/a/b", "1.2", ""),
        (
            "dicomweb://localhost:8042/dicom-web/studies/1.2/series/3.4",
            "http://localhost:8042/dicom-web",
            "1.2",
            "3.4",
        ),
        ("dicomweb://127.0.0.1:80", "http://127.0.0.1:80", "", ""),
        ("dicomweb://[::1]:80/x", "http://[::1]:80/x", "", ""),
        ("dicomweb+http://pacs.example/x", "http://pacs.example/x", "", ""),
        ("dicomweb+https://localhost/x", "https://localhost/x", "", ""),
        ("https://pacs.example/x", "https://pacs.example/x", "", ""),
    ],
)
def test_address__means(text: str, url: str, study: str, series: str) -> None:
    assert parse_address(text) == Address(url, study, series)


@pytest.mark.parametrize(
    "text",
    ["dicomweb://me:secret@pacs/x", "ftp://pacs/x", "dicomweb://", "dicomweb://pacs/x/studies/../y", "dicomweb://pacs/x?a=b",
     "dicomweb://127.0.0.1.evil.example/x/studies/1.2/series/", "dicomweb://pacs/x/studies/1;2"],
)  # fmt: skip
def test_address__is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


def test_wait__doubles(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.reply = lambda number: (503, {}, b"")
    with pytest.raises(ArchiveError):
        server.archive.studies(modality="CR")
    assert waits == [0.001, 0.002, 0.004, 0.008]


def test_certificate__of_a_stranger_is_refused_and_a_named_one_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *words.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", JSON["Content-Type"])
            self.send_header("Content-Length", str(len(ROWS)))
            self.end_headers()
            self.wfile.write(ROWS)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    Thread(target=http.serve_forever, daemon=True).start()
    address = parse_address(f"dicomweb+https://127.0.0.1:{http.server_port}/web")
    with pytest.raises(ArchiveError, match="certificate"):
        Archive(address).studies(modality="CR")
    monkeypatch.setenv("GLINT_DICOMWEB_CA", str(certificate))
    assert len(Archive(address).studies(modality="CR")) == 1
    http.shutdown()
    http.server_close()
