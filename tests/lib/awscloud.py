"""As much of AWS as the agent's plugin meets: Secrets Manager, STS, a container's and an instance's endpoint of
credentials, in one server on loopback that writes down who asked for what."""

import collections
import http.server
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

Call = collections.namedtuple("Call", "service action key body headers raw")

ROLE_XML = """<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <{action}Result>
    <AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>{key}</AccessKeyId>
      <SecretAccessKey>s/+=</SecretAccessKey>
      <SessionToken>t&#43;{key}</SessionToken>
      <Expiration>{end}</Expiration>
    </Credentials>
  </{action}Result>
  <ResponseMetadata><RequestId>1-2-3</RequestId></ResponseMetadata>
</{action}Response>
"""


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, body, status=200, kind="application/x-amz-json-1.1", **headers):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("x-amzn-RequestId", "0a1b")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def note(self, service, action, body, raw=b""):
        key = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        call = Call(service, action, key and key[1], body, {k.lower(): v for k, v in self.headers.items()}, raw)
        with self.server.cloud.lock:
            self.server.cloud.calls.append(call)
        return call

    def credentials(self, key, **more):
        doc = {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": stamp(self.server.cloud.lasts)}
        self.reply(json.dumps({**doc, **more}), kind="application/json")

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.note("metadata", "token", None)
        good = self.path == "/latest/api/token" and int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0
        self.reply("session" if good else "", 200 if good else 400, X_aws_ec2_metadata_token_ttl_seconds="300")

    def do_GET(self):
        cloud = self.server.cloud
        path = urllib.parse.urlparse(self.path).path
        if path.startswith("/container"):
            self.note("container", path, None)
            if cloud.container_token is not None and self.headers.get("Authorization") != cloud.container_token:
                return self.reply('{"code": "AccessDenied"}', 403, "application/json")
            return self.credentials("ASIACONTAINER")
        self.note("metadata", path, None)
        if self.headers.get("X-aws-ec2-metadata-token") != "session":
            return self.reply("", 401)
        roles = "/latest/meta-data/iam/security-credentials"
        if path.rstrip("/") == roles:
            return self.reply("a-role", kind="text/plain")
        if path == roles + "/a-role":
            return self.credentials("ASIAINSTANCE", Code="Success")
        return self.reply("", 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = self.headers.get("X-Amz-Target", "")
        if target.startswith("secretsmanager."):
            call = self.note("secretsmanager", target.split(".")[1], json.loads(body), body)
            return self.server.cloud.secrets(self, call, body)
        form = {k: v[0] for k, v in urllib.parse.parse_qs(body.decode()).items()}
        self.note("sts", form.get("Action"), form, body)
        self.server.cloud.sts(self, form)

    def log_message(self, *args):
        pass


class Cloud:
    """behind: another server (moto) that answers what is for Secrets Manager."""

    def __init__(self, behind=None, address=("127.0.0.1", 0)):
        self.behind = behind
        self.lock = threading.Lock()
        self.calls = []
        self.container_token = None
        self.lasts = 3600
        self.refuse = {}  # action -> (status, type, message)
        self.server = http.server.ThreadingHTTPServer(address, Handler)
        self.server.cloud = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def seen(self, service=None):
        with self.lock:
            return [c for c in self.calls if service is None or c.service == service]

    def secrets(self, handler, call, body):
        if call.action in self.refuse:
            status, kind, message = self.refuse[call.action]
            return handler.reply(json.dumps({"__type": kind, "Message": message}), status)
        if self.behind:
            headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("host", "content-length", "connection",
                                                                                     "accept-encoding")}
            asked = urllib.request.Request(self.behind, body, headers)
            try:
                with urllib.request.urlopen(asked) as answer:
                    return handler.reply(answer.read(), answer.status)
            except urllib.error.HTTPError as err:
                return handler.reply(err.read(), err.code)
        if call.action == "DescribeSecret":
            return handler.reply('{"__type":"ResourceNotFoundException","Message":"no"}', 400)
        return handler.reply('{"ARN":"arn:aws:secretsmanager:us-east-1:1:secret:w","Name":"w","VersionId":"v"}')

    def sts(self, handler, form):
        kind = {"AssumeRole": "ASIAROLE", "AssumeRoleWithWebIdentity": "ASIAWEB"}[form["Action"]]
        key = kind + form["RoleArn"].rsplit("/", 1)[1].upper()
        handler.reply(ROLE_XML.format(action=form["Action"], key=key, end=stamp(self.lasts)), kind="text/xml")
