"""One damaged file, as the edits that make it of a file that is valid."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Put `new` in the place of the bytes from `start` to `stop`."""

    start: int
    stop: int
    new: bytes = b""

    def __str__(self) -> str:
        shown = self.new.hex() if len(self.new) <= 64 else f"{self.new[:32].hex()}... ({len(self.new)} bytes)"
        return f"[{self.start}:{self.stop}] = {shown or 'nothing'}"


@dataclass(frozen=True)
class Case:
    """What is done to which file of which seed; the edits are made one after another."""

    seed: str
    file: str
    kind: str
    what: str
    edits: tuple[Edit, ...]

    def damaged(self, content: bytes) -> bytes:
        for edit in self.edits:
            content = content[: edit.start] + edit.new + content[edit.stop :]
        return content

    def __str__(self) -> str:
        edits = "; ".join(map(str, self.edits[:4]))
        return f"{self.seed}/{self.file}, {self.kind}: {self.what} ({edits})"
