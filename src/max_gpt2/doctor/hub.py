"""The Hugging Face hub: whether models can be downloaded."""

import threading

from max_gpt2.doctor.finding import Finding

SECONDS = 5.0
_WAYS_OUT = "Without it: a folder, a filled Hugging Face cache (HF_HOME), or the checkpoint that ships (--model demo)."


def hub(seconds: float = SECONDS) -> Finding:
    """Say whether the hub answers within a few seconds; it is not asked when HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    facts = {"endpoint": constants.ENDPOINT, "reachable": None}
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "not asked: HF_HUB_OFFLINE is set", facts=facts)
    problem: list[str] = []
    # In a thread, since a name server that does not answer knows no time limit.
    asking = threading.Thread(target=lambda: problem.append(_ask(constants.ENDPOINT, seconds)), daemon=True)
    asking.start()
    asking.join(seconds + 1)
    why = problem[0] if problem else f"no answer within {seconds:g} s"
    if not why:
        return Finding("hub", f"{constants.ENDPOINT} answers", facts=facts | {"reachable": True})
    says = f"{constants.ENDPOINT} cannot be reached ({why})"
    return Finding("hub", says, "note", _WAYS_OUT, facts | {"reachable": False})


def _ask(endpoint: str, seconds: float) -> str:
    """Return what went wrong, or an empty text."""
    import httpx

    try:
        answer = httpx.head(f"{endpoint}/openai-community/gpt2/resolve/main/config.json", timeout=seconds)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return "" if answer.status_code < 400 else f"it answers with {answer.status_code}"
