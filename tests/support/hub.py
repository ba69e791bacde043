"""A Hugging Face cache as the hub's client fills it, and a fake hub on this machine."""

import hashlib
import json
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fill_cache(cache: Path, repo: str, folder: Path) -> Path:
    """Add the files of `folder` to the cache as the latest snapshot of `repo`; return the snapshot's folder.

    A snapshot consists of symlinks to blobs, which are named by their hash; a ref names the snapshot.
    """
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for path in folder.iterdir():
        blob = home / "blobs" / digest(path)
        shutil.copyfile(path, blob)
        (snapshot / path.name).symlink_to(Path("../..") / "blobs" / blob.name)
    return snapshot


class Hub(ThreadingHTTPServer):
    """A hub with one repository, served from a folder; `downloads` lists the files requested with GET."""

    def __init__(self, repo: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repo, self.folder, self.downloads = repo, folder, list[str]()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Hub":
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()
        self.server_close()


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path, repo, folder = urlsplit(self.path).path, self.server.repo, self.server.folder
        if path.startswith(f"/api/models/{repo}/tree/"):
            files = [self.entry(file) for file in sorted(folder.iterdir())]
            return self.send(json.dumps(files).encode(), {"Content-Type": "application/json"})
        if path.startswith(f"/api/models/{repo}"):
            siblings = [{"rfilename": file.name} for file in folder.iterdir()]
            info = {"id": repo, "sha": COMMIT, "siblings": siblings, "private": False}
            return self.send(json.dumps(info).encode(), {"Content-Type": "application/json"})
        file = folder / Path(path).name
        if path.startswith(f"/{repo}/resolve/") and file.is_file():
            if self.command == "GET":
                self.server.downloads.append(file.name)
            return self.send(file.read_bytes(), {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT})
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound" if path.startswith(f"/{repo}/") else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def entry(self, file: Path) -> dict[str, Any]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": digest(file)}

    def send(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *_args: object) -> None:  # noqa: A002  (the name in the base class)
        """Print nothing."""
