"""Every error a user can meet: what happened, where, what was expected, what to do.

Exit statuses (documented in docs/errors.md): 2 usage or configuration, 3 data, 4 weights, 5 training, 7 archive,
70 a bug of ours. Code that reads user input raises these; `assert` is for impossible states only.
"""


class GlintError(Exception):
    """Base of all errors shown to users without a traceback.

    Args:
        what: One sentence: what went wrong.
        where: File, key or option concerned, or "".
        expected: What would have been accepted, or "".
        fix: What the reader can do now, or "".
    """

    code = "GL900"
    exit_status = 70

    def __init__(self, what: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        self.what, self.where, self.expected, self.fix = what, where, expected, fix
        super().__init__(self.message())

    def message(self) -> str:
        """Return the full text, one line a part."""
        parts = [f"{self.code}: {self.what}"]
        parts += [f"  where:    {self.where}"] if self.where else []
        parts += [f"  expected: {self.expected}"] if self.expected else []
        parts += [f"  fix:      {self.fix}"] if self.fix else []
        return "\n".join(parts)


class UsageError(GlintError):
    """The command or call cannot be understood (empty query, unknown model name ...)."""

    code, exit_status = "GL100", 2


class ConfigError(GlintError):
    """A recipe or an override is wrong."""

    code, exit_status = "GL200", 2


class DataError(GlintError):
    """An image, report or data set cannot be used."""

    code, exit_status = "GL300", 3


class WeightsError(GlintError):
    """Model files are missing, damaged or do not fit."""

    code, exit_status = "GL400", 4


class TrainingError(GlintError):
    """Training cannot go on (non-finite loss, run that does not fit its checkpoint ...)."""

    code, exit_status = "GL500", 5


class ArchiveError(GlintError):
    """A DICOMweb archive cannot be reached, or refuses.

    Args:
        what: As in GlintError.
        where: As in GlintError.
        expected: As in GlintError.
        fix: As in GlintError.
        transient: Whether trying again may help.
    """

    code, exit_status = "GL700", 7

    def __init__(
        self, what: str, *, where: str = "", expected: str = "", fix: str = "", transient: bool = False
    ) -> None:
        self.transient = transient
        super().__init__(what, where=where, expected=expected, fix=fix)
