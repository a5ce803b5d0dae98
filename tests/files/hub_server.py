"""A Hugging Face Hub on this machine: what `hf_hub_download` asks of it, for files in memory."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from urllib.parse import unquote


class Hub:
    """Repositories, by `OWNER/NAME`, as commits of files.

    Attributes:
        commits: (repository, commit) -> file -> content.
        refs: (repository, branch or tag) -> commit.
        private: repositories that need a token; `gated` ones need an approval.
        requests: method, path and token of each request.
    """

    def __init__(self):
        self.commits, self.refs, self.requests = {}, {}, []
        self.private, self.gated = set(), set()

    def commit(self, repository, files, *refs):
        """Add a commit of files and let `main` and other names mean it; return it."""
        text = repr((repository, sorted(files.items()))).encode()
        commit = hashlib.sha1(text).hexdigest()
        self.commits[repository, commit] = files
        self.refs |= {(repository, ref): commit for ref in ("main", *refs)}
        return commit

    def commit_folder(self, repository, folder, *refs):
        """Add what `hf upload OWNER/NAME FOLDER .` uploads."""
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return self.commit(repository, files, *refs)

    def answer(self, path, token):
        """Return status, headers and content of a request."""
        if "/resolve/" not in path:  # what the library asks by itself
            return 404, {}, b""
        owner, name, _, revision, file = path.strip("/").split("/", 4)
        repository, revision = f"{owner}/{name}", unquote(revision)
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if repository in self.private and token is None:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if repository not in {known for known, _ in self.commits}:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        commit = self.refs.get((repository, revision), revision)
        files = self.commits.get((repository, commit))
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        digest = hashlib.sha256(files[file]).hexdigest()
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{digest}"'}, files[file]


def ask_only(address, monkeypatch):
    """Let huggingface_hub ask this address, and give up at once where nothing answers."""
    module = import_module("huggingface_hub.file_download")
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(module.constants, "ENDPOINT", address)
    monkeypatch.setattr(module.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(module, "_DEFAULT_RETRY_ON_EXCEPTIONS", ())


@contextmanager
def serving(hub):
    """Serve a hub at the address that the block gets."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            token = self.headers.get("Authorization")
            hub.requests.append((self.command, self.path, token))
            status, headers, content = hub.answer(self.path, token)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
