"""A real HTTP server on loopback that serves files, and lies in the ways that a test asks for."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LyingServer(ThreadingHTTPServer):
    """Serves ``files`` by name; ``lies`` maps a name to what happens instead, once per item of its list.

    Lies: a status number; "truncate" (half of the promised bytes, then the connection ends);
    "wrong" (other bytes); "stall" (half of the bytes, then nothing); "drip" (a byte now and
    then); "loop" (redirects to itself); "endless" (bytes without a word of their end, which comes
    after 64 MiB: a test that fails should not fill the disk); "no ranges" (the whole file whatever
    part is asked for); "shifted" (another part than was asked for).
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.lies = {}
        self.requests = []  # name and range asked for
        self.closing = threading.Event()

    def url(self, name, mirror="mirror"):
        return f"http://127.0.0.1:{self.server_port}/{mirror}/{name}"


@contextlib.contextmanager
def serving(files):
    server = LyingServer(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        _, mirror, name = self.path.split("/")
        asked = self.headers.get("Range")
        self.server.requests.append((mirror, name, asked))
        lies = self.server.lies.get((mirror, name), self.server.lies.get(name, []))
        lie = lies.pop(0) if lies else None
        content = self.server.files.get(name)
        if content is None:
            lie = 404
        with contextlib.suppress(ConnectionError):
            self.answer(lie, content, asked)

    def answer(self, lie, content, asked):
        if isinstance(lie, int):
            self.send_error(lie)
        elif lie == "loop":
            self.head(302, 0, Location=self.path)
        elif lie == "wrong":
            self.head(200, len(content))
            self.wfile.write(bytes(len(content)))
        elif lie == "endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(1 << 10):
                self.wfile.write(bytes(1 << 16))
            self.close_connection = True
        else:
            self.part(lie, content, asked)

    def part(self, lie, content, asked):
        start = 0 if asked is None or lie == "no ranges" else int(asked.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(content):
            self.send_error(416)
            return
        rest = content[start:]
        shown = start + 1 if lie == "shifted" else start
        ranges = {"Content-Range": f"bytes {shown}-{len(content) - 1}/{len(content)}"} if start else {}
        self.head(206 if start else 200, len(rest), **ranges)
        if lie in ("truncate", "stall", "drip"):
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
            while lie == "drip" and not self.server.closing.wait(0.02):
                self.wfile.write(b"x")
            if lie == "stall":
                self.server.closing.wait(30)
            self.connection.close()
        else:
            self.wfile.write(rest)

    def head(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
