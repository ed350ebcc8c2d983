"""Logs of the runner: JSON lines from services, only warnings beside a person's command."""

import logging
import sys

import structlog


def configure(*, is_service: bool) -> None:
    """Send structlog to standard error, so that a command's own output stays clean."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if is_service
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.INFO if is_service else logging.WARNING
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
