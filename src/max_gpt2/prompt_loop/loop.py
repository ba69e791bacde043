"""Read a line, answer it, and again."""

import sys
from collections.abc import Callable
from dataclasses import replace

from max_gpt2.console import stderr
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import Loaded, Request, check_request, encode_prompt, fresh_seed
from max_gpt2.prompt_loop.history import History, history_file
from max_gpt2.prompt_loop.settings import change, shown, shown_one
from max_gpt2.reports.generate import show_as_it_is_written

HELP = """\
Type a text and press Enter: the model continues it. Ctrl-C stops it, Ctrl-D ends.
  /set                   show the settings
  /set temperature 0.5   change one
  /help                  show this
  /quit                  end
A text that starts with a slash is typed with two: //like this."""


class PromptLoop:
    """Somebody at a terminal, and a model that continues what is typed."""

    def __init__(self, loaded: Loaded, options: Request, read: Callable[[str], str] = input) -> None:
        """Take a model and the options to start with; `read` shows a prompt and returns a line."""
        self.options = options
        self._loaded = loaded
        self._read = read

    def run(self) -> None:
        """Go on until Ctrl-D or `/quit`."""
        history = History(history_file())
        stderr.print("[dim]/help shows what there is, Ctrl-D ends.[/dim]")
        if history.problem:
            stderr.print(history.problem, style="dim", markup=False)
        while True:
            try:
                line = self._read("> ")
            except EOFError:
                print()
                return
            except KeyboardInterrupt:  # what was typed is forgotten, as in a shell
                print()
                continue
            history.add(line)
            if line.strip() in ("/quit", "/exit"):
                return
            try:
                self.answer(line)
            except MaxGPT2Error as error:
                print(f"error: {error}", file=sys.stderr)
            except KeyboardInterrupt:
                print()
                stderr.print("[dim]stopped[/dim]")

    def answer(self, line: str) -> None:
        """Carry one line out; raises RequestError when it cannot be."""
        if line.startswith("/") and not line.startswith("//"):
            self._obey(line)
        elif line.strip():
            self._continue(line.removeprefix("/") if line.startswith("//") else line)

    def _continue(self, prompt: str) -> None:
        engine, seed = self._loaded.engine, self.options.sampling.seed
        request = replace(self.options, prompt_tokens=encode_prompt(engine.tokenizer, prompt))
        show_as_it_is_written(self._loaded, request.with_seed(fresh_seed() if seed is None else seed))

    def _obey(self, line: str) -> None:
        command, _, rest = line.strip().partition(" ")
        if command == "/help":
            print(HELP)
        elif command == "/set" and not rest.strip():
            print("\n".join(shown(self.options)))
        elif command == "/set":
            name, options = change(self.options, rest)
            engine = self._loaded.engine
            check_request(engine.model.config, engine.tokenizer, replace(options, prompt_tokens=[0]))
            self.options = options
            print(shown_one(options, name))
        else:
            raise RequestError(
                f"There is no {command}. /help shows what there is; a text with a slash starts with two."
            )
