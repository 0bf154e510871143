"""Service 3 of docs/scone.md: plain HTTP, and not a word of TLS or SPIFFE. The network shield is what makes it safe."""

import http.server
import os


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"secret": "Eve is good and Bob is the bad guy"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
