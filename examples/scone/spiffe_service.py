"""Service 2 of docs/scone.md: HTTPS with an X509-SVID that was put into files before it started. What it answers it gets
from service 3, which must have a certificate of the same trust domain."""

import http.server
import os
import ssl
import urllib.error
import urllib.request

SECRETS = ssl.create_default_context(cafile=os.environ["BUNDLE_PATH"])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with urllib.request.urlopen(os.environ["SECRET_SERVICE_URL"], timeout=5, context=SECRETS) as answer:
                status, body = 200, answer.read(1 << 16)
        except (OSError, urllib.error.URLError) as err:
            status, body = 500, f"error: {err}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.environ["SVID_CERT_PATH"], os.environ["SVID_KEY_PATH"])
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
