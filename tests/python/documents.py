"""README.md and what it leads to, as one text for the tests that hold it to its word."""

from clusters import PROJECT_DIR

PAGES = (PROJECT_DIR / "README.md", *sorted((PROJECT_DIR / "docs").glob("*.md")))


def read_docs() -> str:
    """README.md first, so that its examples are the first."""
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
