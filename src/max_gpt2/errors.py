"""The errors that max-gpt2 raises on purpose. Each message names what is wrong and says what to do next."""

_LONGEST_LINE = 1000


class MaxGPT2Error(Exception):
    """The base of all of them: catch it to catch every refusal.

    What a message quotes from a file is made fit to be read: a terminal would obey its control characters.
    """

    def __init__(self, message: str) -> None:
        """Take the message, several lines of which are several problems."""
        super().__init__("\n".join(_readable(line) for line in message.split("\n")))


class ModelNotFoundError(MaxGPT2Error):
    """No such folder, no such model on the hub, or no network and nothing in the cache."""


class ConfigError(MaxGPT2Error):
    """A `config.json` that is missing, broken, or describes something else than a GPT-2."""


class CheckpointError(MaxGPT2Error):
    """Weights that cannot be loaded exactly."""


class TokenizerError(MaxGPT2Error):
    """A tokenizer that is missing, broken, or does not fit the model."""


class RequestError(MaxGPT2Error):
    """A prompt or an option that cannot be carried out."""


class DestinationError(MaxGPT2Error):
    """A folder that cannot be written, or must not be."""


class MissingExtraError(MaxGPT2Error):
    """PyTorch or transformers is needed and not installed, or too old."""


class ServeError(MaxGPT2Error):
    """A server that cannot be started, or cannot go on."""


class StoppedError(MaxGPT2Error):
    """Ctrl-C, where what was done until then is kept; the message says where it is and how to go on."""


def listed(headline: str, problems: list[str], remedy: str) -> str:
    """Return one message for several problems: a headline, a line for each, and what to do next."""
    if len(problems) == 1:
        return f"{headline}: {problems[0]}. {remedy}"
    return "\n".join([f"{headline}, {len(problems)} problems:", *(f"  - {problem}" for problem in problems), remedy])


def _readable(line: str) -> str:
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
