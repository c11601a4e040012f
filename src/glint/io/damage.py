"""Whatever a library raises on a damaged file becomes one error in our words: theirs may quote the file."""

from dataclasses import dataclass
from types import TracebackType

from glint.errors import DataError


@dataclass(frozen=True, slots=True)
class Refusing:
    """Turn every exception of a `with` block into a DataError; one that is a DataError already stays as it is.

    Attributes:
        what: What is wrong with the file when something goes wrong here.
        where: How messages name the file.
        expected: What would have been accepted.
        fix: What the reader can do.
    """

    what: str
    where: str
    expected: str = ""
    fix: str = "copy it again"

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise our error in place of a foreign one.

        Raises:
            DataError: Anything went wrong in the block.
        """
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise DataError(self.what, where=self.where, expected=self.expected, fix=self.fix) from error
