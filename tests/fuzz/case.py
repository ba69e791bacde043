"""A damaged file, described by edits of a valid one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Replace the bytes from `start` to `stop` by `new`."""

    start: int
    stop: int
    new: bytes = b""

    def __str__(self) -> str:
        shown = self.new.hex() if len(self.new) <= 64 else f"{self.new[:32].hex()}... ({len(self.new)} bytes)"
        return f"[{self.start}:{self.stop}] = {shown or 'nothing'}"


@dataclass(frozen=True)
class Case:
    """Edits of one file of a seed, applied one after another."""

    seed: str
    file: str
    kind: str
    description: str
    edits: tuple[Edit, ...]

    def damaged(self, content: bytes) -> bytes:
        for edit in self.edits:
            content = content[: edit.start] + edit.new + content[edit.stop :]
        return content

    def __str__(self) -> str:
        edits = "; ".join(map(str, self.edits[:4]))
        return f"{self.seed}/{self.file}, {self.kind}: {self.description} ({edits})"
