"""A real tracking server that can be killed, a gate before it that can be shut or lose answers, and the UI."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """``mlflow server`` on a free port of 127.0.0.1, with ``mlflow.db`` and ``mlruns/`` of a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        """Start it, again, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "mlruns")]
        own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.port, self._process)

    def kill(self):
        """SIGKILL, to all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    close = kill


@contextmanager
def mlflow_ui(project: Path, *arguments: str | Path, log: Path, host: str = "127.0.0.1", **variables: str):
    """``run_mlflow_ui.bash`` of a project, called from another folder; gives its address."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTHONPATH", "REPROAI_"))}
    own = {"RUNNER": "none", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", project / "run_mlflow_ui.bash", *map(str, arguments), str(port)],
            cwd=log.parent,
            env=kept | own | variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(port, process, host)
        yield f"http://{host}:{port}/"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, host: str = "127.0.0.1"):
    """Wait until a tracking server answers; fails when its process has ended."""
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=30)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        connection.close()
        assert process.poll() is None, "the server has ended"
        time.sleep(0.1)


def predictions(address: str, images: list[bytes]) -> list[dict]:
    """What a model server answers."""
    rows = [[base64.b64encode(image).decode()] for image in images]
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))["predictions"]


class Gate:
    """Passes requests on to a server. While `shut`, none.

    With `lossy`, of each kind every fifth answer is lost, in turns whole and after its head. `forbidden` is the end of
    a path that is answered as a server with accounts does to who may not.
    """

    def __init__(self, server: Server, lossy: bool = False, forbidden: str | None = None):
        self.shut, self.refused, self.lost, kinds = False, 0, [], Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(handler):
                handler.close_connection = True
                if self.shut:
                    self.refused += 1
                    return
                body = handler.read_body()
                if forbidden and handler.path.endswith(forbidden):
                    handler.send_response(403)
                    handler.send_header("Content-Length", "17")
                    handler.end_headers()
                    handler.wfile.write(b"Permission denied")
                    return
                connection = http.client.HTTPConnection("127.0.0.1", server.port)
                connection.request(handler.command, handler.path, body, dict(handler.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                kind = handler.command, handler.path.split("?")[0].removeprefix("/api/2.0/").split("/artifacts/")[0]
                kinds[kind] += 1
                is_lost = lossy and kinds[kind] % 5 == 1
                if is_lost:
                    self.lost.append(" ".join(kind))
                    if len(self.lost) % 2:
                        return
                handler.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                        handler.send_header(name, value)
                handler.send_header("Content-Length", str(len(content)))
                handler.send_header("Connection", "close")
                handler.end_headers()
                handler.wfile.write(content[: len(content) // 2] if is_lost else content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

            def read_body(handler):
                if handler.headers.get("Transfer-Encoding") != "chunked":
                    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
                del handler.headers["Transfer-Encoding"]
                parts = [b""]
                while size := int(handler.rfile.readline(), 16):
                    parts.append(handler.rfile.read(size))
                    handler.rfile.readline()
                handler.rfile.readline()
                return b"".join(parts)

            def log_message(handler, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
