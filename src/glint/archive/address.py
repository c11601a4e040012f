"""Addresses of archives: dicomweb://HOST[:PORT]/PATH[/studies/UID[/series/UID]].

`dicomweb://` means HTTPS, and plain HTTP on this machine (loopback), where nobody listens in; `dicomweb+http://` and
`dicomweb+https://` say it outright. Passwords and tokens come from the environment only: addresses end up in histories.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from glint.errors import UsageError

EXPECTED = "dicomweb://HOST[:PORT]/PATH[/studies/UID[/series/UID]]"
# One slash is enough: pathlib makes one of two.
_ADDRESS = re.compile(
    r"(?:dicomweb(?:\+(?P<secure>https?))?|(?P<plain>https?)):/{1,2}"
    r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?P<port>:\d{1,5})?(?P<path>(?:/[A-Za-z0-9._~-]+)*?)"
    r"(?:/studies/(?P<study>[0-9.]{1,64})(?:/series/(?P<series>[0-9.]{1,64}))?)?/?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an archive answers, and what of it is meant.

    Attributes:
        url: Root of the DICOMweb service, http or https.
        study: StudyInstanceUID, or "".
        series: SeriesInstanceUID, or "".
    """

    url: str
    study: str = ""
    series: str = ""

    @property
    def local(self) -> bool:
        """Whether the archive is on this machine."""
        return _is_loopback(re.sub(r"^https?://", "", self.url).partition("/")[0])

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can read along."""
        return self.url.startswith("https://")


def is_archive(image: str | Path) -> bool:
    """Say whether an image is named by the address of an archive."""
    return str(image).startswith(("dicomweb:/", "dicomweb+http:/", "dicomweb+https:/"))


def parse_address(text: str | Path) -> Address:
    """Read an address.

    Raises:
        UsageError: Malformed, or with a password in it.
    """
    if "@" in str(text):
        raise UsageError(
            "the address of the archive holds a name or a password",
            expected=EXPECTED,
            fix="set GLINT_DICOMWEB_TOKEN, or GLINT_DICOMWEB_USER and GLINT_DICOMWEB_PASSWORD",
        )
    match = _ADDRESS.fullmatch(str(text))
    if match is None or {"..", ".", "studies", "series"}.intersection(match["path"].split("/")):
        raise UsageError(
            "the address of the archive cannot be understood", where=str(text), expected=EXPECTED
        )
    host = match["host"] + (match["port"] or "")
    secure = match["secure"] or match["plain"] or ("http" if _is_loopback(host) else "https")
    return Address(f"{secure}://{host}{match['path']}", match["study"] or "", match["series"] or "")


def _is_loopback(host: str) -> bool:
    name = host.partition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
