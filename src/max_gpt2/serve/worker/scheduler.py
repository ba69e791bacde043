"""A view of MAX's scheduler, with which the pipeline decides how many steps to run at once."""

from typing import Any

from max.serve.scheduler.text_generation_scheduler import TokenGenerationScheduler


class SchedulerView:
    """A scheduler, as its pipeline sees it."""

    def __init__(self, scheduler: TokenGenerationScheduler) -> None:
        """Wrap a scheduler."""
        self._scheduler = scheduler

    def would_run_again(self, sequences: int) -> bool:
        """Return True if the next batch is the current one, of `sequences` sequences.

        Then no prompt waits, not even one that has just arrived, and no other sequence is being continued.
        """
        self._scheduler._retrieve_pending_requests()
        batches = self._scheduler.batch_constructor
        return not batches.all_ce_reqs and len(batches.all_tg_reqs) == sequences


def share_scheduler() -> None:
    """Make every scheduler pass a view of itself to `set_scheduler` of its pipeline; MAX passes nothing."""
    initialize = TokenGenerationScheduler.__init__

    def initialize_and_share(self: TokenGenerationScheduler, *arguments: Any, **keywords: Any) -> None:
        initialize(self, *arguments, **keywords)
        pipeline: Any = self.pipeline
        pipeline.set_scheduler(SchedulerView(self))

    TokenGenerationScheduler.__init__ = initialize_and_share  # type: ignore[method-assign]
