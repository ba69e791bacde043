"""The exceptions of max-gpt2. Each message names the problem and the remedy."""

_LONGEST_LINE = 1000


class MaxGPT2Error(Exception):
    """The base class of all exceptions of max-gpt2.

    Control characters in a message are escaped: text quoted from a file must not control the terminal.
    """

    def __init__(self, message: str) -> None:
        """Escape control characters and shorten long lines of the message."""
        super().__init__("\n".join(_readable(line) for line in message.split("\n")))


class ModelNotFoundError(MaxGPT2Error):
    """A model that is neither a local path, nor cached, nor can be downloaded from the hub."""


class ConfigError(MaxGPT2Error):
    """A `config.json` that is missing, damaged, or not that of a GPT-2."""


class CheckpointError(MaxGPT2Error):
    """Weights that cannot be loaded exactly."""


class TokenizerError(MaxGPT2Error):
    """A tokenizer that is missing, damaged, or does not match the model."""


class RequestError(MaxGPT2Error):
    """An invalid prompt, option or input file."""


class InputError(RequestError):
    """An input file that cannot be read, or that has changed since it was read first."""


class DestinationError(MaxGPT2Error):
    """A folder that cannot or must not be written."""


class MissingExtraError(MaxGPT2Error):
    """An optional dependency that is required but not installed, or too old."""


class ServeError(MaxGPT2Error):
    """A server that cannot start, or has to stop."""


class StoppedError(MaxGPT2Error):
    """An interruption by Ctrl-C that keeps partial results; the message names them and how to resume."""


def listed(headline: str, problems: list[str], remedy: str) -> str:
    """Return one message for several problems: a headline, a line for each, and the remedy."""
    if len(problems) == 1:
        return f"{headline}: {problems[0]}. {remedy}"
    return "\n".join([f"{headline}, {len(problems)} problems:", *(f"  - {problem}" for problem in problems), remedy])


def _readable(line: str) -> str:
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


class UnknownTextWarning(UserWarning):
    """A text contains characters that the tokenizer drops or replaces by its unknown token."""
