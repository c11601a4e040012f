"""The HTTP side of an archive: who we are, how long we wait, how much we take.

requests waits for each packet only and takes what comes: a slow or endless answer would hold us for ever. The adapter
counts bytes after unpacking and looks at the clock while they arrive.
"""

import os
import time
from collections.abc import Generator
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from glint.archive.address import Address
from glint.errors import ArchiveError, UsageError

CONNECT_S, READ_S = 10.0, 60.0
"""Longest waits for a connection and for the next packet."""
ANSWER_S = 600.0
"""Longest time for a whole answer."""


def open_session(address: Address, max_bytes: int) -> requests.Session:
    """Return a session for an archive; certificates are checked, redirections refused.

    Credentials: GLINT_DICOMWEB_TOKEN (bearer), or GLINT_DICOMWEB_USER and GLINT_DICOMWEB_PASSWORD. A private
    certificate authority: GLINT_DICOMWEB_CA, a file.

    Args:
        address: Of the archive.
        max_bytes: Largest answer that is taken.

    Raises:
        UsageError: Credentials would travel in the clear.
    """
    session = requests.Session()
    session.trust_env = False  # no ~/.netrc: nobody would expect its passwords here
    session.max_redirects = 0
    token, user = os.environ.get("GLINT_DICOMWEB_TOKEN", ""), os.environ.get("GLINT_DICOMWEB_USER", "")
    if (token or user) and not (address.encrypted or address.local):
        raise UsageError(
            "the token or password would be readable on the way to the archive",
            where=address.url,
            fix="use https",
        )
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user:
        session.auth = (user, os.environ.get("GLINT_DICOMWEB_PASSWORD", ""))
    session.verify = os.environ.get("GLINT_DICOMWEB_CA") or True
    session.mount("https://", _Bounded(max_bytes))
    session.mount("http://", _Bounded(max_bytes))
    return session


class _Bounded(HTTPAdapter):
    """An adapter whose answers end at a size and a time."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        raw = _Counted(response.raw, self.max_bytes, time.monotonic() + ANSWER_S)
        raw.check(int(response.headers.get("Content-Length") or 0))
        response.raw = raw
        return response


class _Counted:
    """The body of an answer, with a limit; everything else is passed on."""

    def __init__(self, raw: Any, max_bytes: int, until: float) -> None:
        self._raw, self._max_bytes, self._until = raw, max_bytes, until

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amount: int = 2**16, decode_content: bool | None = None) -> Generator[bytes]:
        """Yield the body, unpacked."""
        taken = 0
        for part in self._raw.stream(amount, decode_content=decode_content):
            taken += len(part)
            self.check(taken)
            yield part

    def check(self, size: int) -> None:
        """Stop when too much has come, or too late."""
        if size > self._max_bytes:
            raise ArchiveError(
                "an answer of the archive is too large", expected=f"at most {self._max_bytes:,} bytes"
            )
        if time.monotonic() > self._until:
            raise ArchiveError(
                "an answer of the archive took too long", expected=f"at most {ANSWER_S:g} s", transient=True
            )
