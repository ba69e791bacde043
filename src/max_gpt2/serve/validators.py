"""What is seen to between a request and the scheduler."""

from collections.abc import Callable

from max.pipelines.context import TextContext
from max.pipelines.context.exceptions import InputError


def has_tokens(context: TextContext) -> None:
    """Refuse a prompt without a token: there is nothing to predict from."""
    if not context.tokens.prompt_length:
        raise InputError("The prompt has no tokens. Give at least one.")


def shares_nothing_it_needs(context: TextContext) -> None:
    """Let a prompt whose own probabilities are asked for share no prefix: tokens that are not computed have none."""
    if context.log_probabilities and context.log_probabilities_echo:
        context.cache_salt = str(context.request_id)


VALIDATORS: list[Callable[..., None]] = [has_tokens, shares_nothing_it_needs]
