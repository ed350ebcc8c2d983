"""The error of landing, in a module of its own because every part of landing raises it."""

from warehouse.errors import OversightError


class LandingError(OversightError):
    """An extract cannot be landed; the message names file, what is wrong and what to do."""
