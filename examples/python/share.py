"""A peer inside an HTTP server: share TOKEN URL serves the content of URL, downloads it when it is first asked for, and
shares it with the other members of the network. Prints where it listens, and ends with standard input."""

import http.server
import shutil
import sys
import threading

import dragonfly

if len(sys.argv) != 3:
    sys.exit("usage: share TOKEN URL")
_, token, url = sys.argv


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            reader = peer.open(url)
        except dragonfly.DragonflyError as error:
            self.send_error(502, str(error))
            return
        with reader:
            self.send_response(200)
            self.send_header("content-length", str(reader.length))
            self.end_headers()
            shutil.copyfileobj(reader, self.wfile, 1 << 20)

    def log_message(self, *_: object) -> None:
        pass


with dragonfly.Node(listen=["/ip4/127.0.0.1/tcp/0"], token=token) as node, node.peer() as peer:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        sys.stdin.read()
        server.shutdown()
