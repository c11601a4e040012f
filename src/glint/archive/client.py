"""An archive by DICOMweb: search (QIDO-RS), retrieve (WADO-RS), store (STOW-RS), with retries.

Answers of the archive never enter messages: they may quote values of a patient.
"""

import logging
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from glint.archive.address import Address
from glint.archive.session import CONNECT_S, READ_S, open_session
from glint.errors import ArchiveError, DataError
from glint.io.dicom_file import quiet
from glint.io.limits import MAX_FILE_BYTES

RETRIES, FIRST_WAIT_S = 4, 0.5
"""Further tries after a failure that may pass, and the wait before the first; it doubles."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses after which trying again makes sense."""
PAGE, MAX_STUDIES, MAX_INSTANCES = 500, 1_000_000, 20_000
DEFLATED = str(DeflatedExplicitVRLittleEndian).encode()

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Study:
    """A study that an archive has.

    Attributes:
        uid: StudyInstanceUID.
        instances: How many objects it has now; 0 when the archive does not say.
    """

    uid: str
    instances: int


@dataclass(frozen=True, slots=True)
class Instance:
    """An object of a study: its UIDs, the modality of its series, and its SOP class, "" when it is not told."""

    study: str
    series: str
    uid: str
    modality: str
    sop_class: str = ""


class Archive:
    """A DICOMweb archive.

    Args:
        address: Where it answers.

    Raises:
        UsageError: Credentials would travel in the clear.
    """

    def __init__(self, address: Address) -> None:
        self.url = address.url
        session = open_session(address, MAX_FILE_BYTES)
        session.hooks["response"].append(_refuse_deflated)
        # In one piece: an archive may not take chunks. Tries are ours, because a try needs its body anew.
        self._client = DICOMwebClient(address.url, session, chunk_size=2**62, timeout=(CONNECT_S, READ_S))
        self._client.set_http_retry_params(retry=False)

    def studies(self, *, modality: str, since: str = "") -> list[Study]:
        """Return the studies with a modality.

        Args:
            modality: E.g. "DX".
            since: First StudyDate, YYYYMMDD; "" for all.

        Raises:
            ArchiveError: No answer, or a refusal.
        """
        wanted = {"ModalitiesInStudy": modality} | ({"StudyDate": f"{since}-"} if since else {})
        found: dict[str, Study] = {}
        for offset in range(0, MAX_STUDIES, PAGE):
            studies = self._try(
                lambda offset=offset: [
                    Study(_value(row, "0020000D"), int(_value(row, "00201208") or 0))
                    for row in self._client.search_for_studies(
                        search_filters=wanted,
                        fields=["NumberOfStudyRelatedInstances"],
                        limit=PAGE,
                        offset=offset,
                    )
                ]
            )
            fresh = {study.uid: study for study in studies if study.uid and study.uid not in found}
            found |= fresh
            if len(studies) < PAGE or not fresh:
                break
        return list(found.values())

    def instances(self, study: str, series: str = "") -> list[Instance]:
        """Return the objects of a study or of one of its series.

        Raises:
            ArchiveError: No answer, or a refusal.
        """
        return self._try(lambda: self._instances(study, series))

    def _instances(self, study: str, series: str) -> list[Instance]:
        found: list[Instance] = []
        for row in self._client.search_for_series(study):
            uid, modality = _value(row, "0020000E"), _value(row, "00080060")
            if series in ("", uid):
                rows = self._client.search_for_instances(study, uid, limit=MAX_INSTANCES)
                found += [
                    Instance(study, uid, _value(item, "00080018"), modality, _value(item, "00080016"))
                    for item in rows
                ]
        return found

    def fetch(self, instance: Instance, path: Path) -> None:
        """Write an object to a file.

        Raises:
            ArchiveError: No answer, or a refusal.
            DataError: The object is damaged or deflated.
        """
        data = self._try(
            lambda: self._client.retrieve_instance(
                instance.study, instance.series, instance.uid, media_types=(("application/dicom", "*"),)
            )
        )
        with quiet():
            data.save_as(path)

    def store(self, results: Sequence[Dataset]) -> None:
        """Send results; those that the archive has already are no error.

        Raises:
            ArchiveError: Not all of them were taken.
        """
        answer = self._try(lambda: self._client.store_instances(results))
        refused = len(answer.get("FailedSOPSequence") or ())
        if refused:
            raise ArchiveError(f"the archive refused {refused} of {len(results)} results", where=self.url)

    def _try(self, call: Callable[[], Result]) -> Result:
        """Call, again and again while the failure may pass."""
        tries = 0
        while True:
            try:
                with _silent():
                    return call()
            except (requests.RequestException, ArchiveError) as error:
                failure = self._told(error)
                tries += 1
                if tries > RETRIES or not failure.transient:
                    raise failure from None
            except DataError:
                raise
            except Exception as error:  # whatever pydicom and the JSON reader raise
                raise DataError(
                    "an answer of the archive cannot be understood", where=self.url, expected="DICOMweb"
                ) from error
            time.sleep(FIRST_WAIT_S * 2 ** (tries - 1))

    def _told(self, error: Exception) -> ArchiveError:
        """Return a failure in our words: those of libraries quote addresses and answers."""
        if isinstance(error, ArchiveError):
            return error
        if isinstance(error, requests.exceptions.SSLError):
            fix = "set GLINT_DICOMWEB_CA to the file of its certificate authority"
            return ArchiveError("the certificate of the archive is not trusted", where=self.url, fix=fix)
        if isinstance(error, requests.HTTPError) and error.response is not None:
            status = error.response.status_code
            fix = (
                "set GLINT_DICOMWEB_TOKEN, or GLINT_DICOMWEB_USER and _PASSWORD"
                if status in (401, 403)
                else ""
            )
            return ArchiveError(
                f"the archive answered with HTTP status {status}",
                where=self.url,
                fix=fix,
                transient=status in PASSING,
            )
        passing = isinstance(error, requests.ConnectionError | requests.Timeout)
        return ArchiveError(
            f"the archive cannot be reached: {type(error).__name__}", where=self.url, transient=passing
        )


def _refuse_deflated(response: requests.Response, **_: Any) -> None:
    """Stop before pydicom unpacks a deflated object: that takes any amount of memory."""
    if "dicom+json" not in response.headers.get("Content-Type", "") and DEFLATED in response.content[:4096]:
        raise DataError("the archive sent a deflated object", expected="any other transfer syntax")


def _value(row: dict[str, Any], tag: str) -> str:
    values = row.get(tag, {}).get("Value") or [""]
    return str(values[0])


@contextmanager
def _silent() -> Generator[None]:
    """Keep libraries silent: they log addresses with UIDs, and warn with values."""
    logger = logging.getLogger("dicomweb_client")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
