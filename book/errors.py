"""What ends the building of the book."""


class BookError(Exception):
    """A page asks for what is not there: one sentence that names it."""
