"""What can be wrong with an answer before its numbers can be compared."""


class WrongAnswerError(Exception):
    """One sentence or two for the learner: what is wrong, and what to do."""
