"""Write the skeletons; the learner's work is never written over."""

from tutorial.places import STEPS, solution_path, step_path
from tutorial.skeleton import is_untouched, skeleton


def make_steps() -> tuple[list[int], list[int]]:
    """Write each step that is missing or still untouched; return the steps written, and those left alone."""
    written, kept = [], []
    for number in range(1, STEPS + 1):
        path = step_path(number)
        if path.exists() and not is_untouched(path.read_text(), number):
            kept.append(number)
        else:
            path.write_text(skeleton(solution_path(number).read_text(), number))
            written.append(number)
    return written, kept
