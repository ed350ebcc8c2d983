"""What goes wrong in a pull: for good, or perhaps only now."""

from warehouse.errors import OversightError


class PullError(OversightError):
    """An engine can't be asked, or what it answers can't be used; nothing landed."""


class PassingError(Exception):
    """A failure that may be over at the next attempt; `wait_seconds` is what the engine asks."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds
