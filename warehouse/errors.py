"""The one error base, so that the command line can tell a mistake from a defect."""


class OversightError(Exception):
    """Something that a person can put right; the message says what, where and what to do."""


class SettingsError(OversightError):
    """An environment variable is missing or wrong; the message names it."""


class ServerError(OversightError):
    """The embedded PostgreSQL server can't be made, started or stopped."""


class DatabaseUnreachableError(OversightError):
    """No connection to the database; the message names the server, never a password."""


class MigrationError(OversightError):
    """A migration can't be applied or rolled back."""
