"""Situations in which AWS credentials are looked for, and which of them win: environment and shared files, with {url}
for the stand-in of AWS (awscloud) and {dir} for the folder that has token files and is the home.

Each is given to our agent, and to botocore (tests/integration) or SPIRE's agent with AWS's SDK for Go
(tests/upstream), which must come to the same access key. `botocore`: what that one says where its order is another;
None: it has no such thing."""

import collections
import json
import os
import pathlib
import subprocess
import sys

SAME = object()
Case = collections.namedtuple("Case", "name env config credentials key plugin botocore container_token",
                              defaults=["", "", SAME, None])

FILE = "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "{dir}/token", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/web"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/container/1"}
IMDS = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}"}
P = {"AWS_PROFILE": "p"}
ROLE = "role_arn = arn:aws:iam::123456789012:role/{0}\n"
CASES = [
    Case("the configuration's", {**KEYS, **WEB, **CONTAINER, **IMDS}, FILE, FILE, "AKIACONF",
         'access_key_id = "AKIACONF"\nsecret_access_key = "s"', None),
    Case("the environment's", {**KEYS, **WEB, **CONTAINER, **IMDS}, FILE, FILE, "AKIAENV"),
    Case("web identity", {**WEB, **CONTAINER, **IMDS}, "", "", "ASIAWEBWEB"),
    Case("web identity beside a key in a file", {**WEB, **CONTAINER, **IMDS}, FILE, FILE, "ASIAWEBWEB"),
    Case("the credentials file", {**CONTAINER, **IMDS}, FILE.replace("FILE", "CONFIG"), FILE, "AKIAFILE"),
    Case("the config file", {**CONTAINER, **IMDS}, FILE, "[other]\naws_access_key_id = A\n", "AKIAFILE"),
    Case("a profile", {**P, **CONTAINER, **IMDS}, "[profile p]\naws_access_key_id: AKIAPROFILE # mine\n"
         "aws_secret_access_key: s\n", FILE, "AKIAPROFILE", botocore="AKIAPROFILE # mine"),
    Case("a profile in the credentials file", {**P, **IMDS}, "[profile p]\nregion = x\n", FILE +
         "[p]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\naws_session_token = t\n", "AKIAPROFILE"),
    Case("a profile named the older way", {"AWS_DEFAULT_PROFILE": "p"}, "", FILE +
         "[p]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\n", "AKIAPROFILE"),
    Case("files elsewhere", {"AWS_CONFIG_FILE": "{dir}/mine", "AWS_SHARED_CREDENTIALS_FILE": "{dir}/none"}, FILE, FILE,
         "AKIAMINE"),
    Case("a role with a file's key", P, "[profile p]\n" + ROLE.format("r") +
         "source_profile = base\nrole_session_name = name\nexternal_id = xyz\nduration_seconds = 3600\n",
         "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n", "ASIAROLER"),
    Case("a role by a role", P, "[profile p]\n" + ROLE.format("r") + "source_profile = q\n[profile q]\n" +
         ROLE.format("q") + "source_profile = base\n",
         "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n", "ASIAROLER"),
    Case("a role of its own key", P, "[profile p]\n" + ROLE.format("r") + "source_profile = p\n"
         "aws_access_key_id = AKIAOWN\naws_secret_access_key = s\n", "", "ASIAROLER"),
    Case("a role of the container", {**P, **CONTAINER, **IMDS}, "[profile p]\n" + ROLE.format("r") +
         "credential_source = EcsContainer\n", "", "ASIAROLER"),
    Case("a role of the instance", {**P, **CONTAINER, **IMDS}, "[profile p]\n" + ROLE.format("r") +
         "credential_source = Ec2InstanceMetadata\n", "", "ASIAROLER"),
    Case("a role by web identity", {**P, **IMDS}, "[profile p]\n" + ROLE.format("r") +
         "web_identity_token_file = {dir}/token\n", "", "ASIAWEBR"),
    Case("a role by a role by web identity", {**P, **IMDS}, "[profile p]\n" + ROLE.format("r") +
         "source_profile = q\n[profile q]\n" + ROLE.format("q") + "web_identity_token_file = {dir}/token\n", "",
         "ASIAROLER"),
    # botocore looks for roles in profiles before it looks at the environment's web identity
    Case("web identity beside a profile with a role", {**WEB, **P, **IMDS}, "[profile p]\n" + ROLE.format("r") +
         "source_profile = base\n", "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n", "ASIAWEBWEB",
         botocore="ASIAROLER"),
    Case("the container", {**CONTAINER, **IMDS}, "", "", "ASIACONTAINER"),
    Case("the container with a token", {**CONTAINER, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic abc"}, "", "",
         "ASIACONTAINER", container_token="Basic abc"),
    Case("the container with a token in a file", {**CONTAINER, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "no",
         "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{dir}/pod"}, "", "", "ASIACONTAINER", container_token="eyJ.pod"),
    Case("the instance", IMDS, "", "", "ASIAINSTANCE"),
    Case("the instance where a profile has nothing", {**IMDS, **P}, "[profile p]\nregion = x\n", FILE, "ASIAINSTANCE"),
    Case("half a key in the environment", {"AWS_ACCESS_KEY_ID": "AKIAENV", **IMDS}, "", "", "ASIAINSTANCE", botocore=None),
]


class Place:
    """A case's files and environment."""

    def __init__(self, case, folder, cloud):
        self.dir = pathlib.Path(folder)
        (self.dir / ".aws").mkdir(parents=True)
        names = {"url": cloud.url, "dir": str(self.dir)}
        for name, text in (("config", case.config), ("credentials", case.credentials)):
            (self.dir / ".aws" / name).write_text(text.replace("{dir}", str(self.dir)))
        (self.dir / "token").write_text("eyJ.web.identity")
        (self.dir / "pod").write_text("eyJ.pod")
        (self.dir / "mine").write_text(FILE.replace("FILE", "MINE"))
        cloud.container_token = case.container_token
        # the SDK for Go asks STS for credentials at AWS_ENDPOINT_URL_STS alone
        self.env = {"HOME": str(self.dir), "AWS_ENDPOINT_URL": cloud.url, "AWS_ENDPOINT_URL_STS": cloud.url,
                    "AWS_EC2_METADATA_DISABLED": "true", **{k: v.format(**names) for k, v in case.env.items()}}

    def apply(self, monkeypatch):
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)

    def botocore(self):
        """The access key that botocore comes to."""
        code = ("import botocore.session as s, json; c = s.Session().get_credentials(); "
                "print(json.dumps(c and c.get_frozen_credentials().access_key))")
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        done = subprocess.run([sys.executable, "-c", code], env={**env, **self.env, "AWS_DEFAULT_REGION": "us-east-1"},
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


# What is refused when the plugin is configured, with the text of AWS's SDK.
Refusal = collections.namedtuple("Refusal", "name env config credentials text container_token", defaults=[None])
REFUSALS = [
    Refusal("no such profile", P, "", FILE, "failed to get shared config profile, p"),
    Refusal("no such source", P, "[profile p]\n" + ROLE.format("r") + "source_profile = q\n", "",
            "failed to load assume role arn:aws:iam::123456789012:role/r, of profile q, failed to get shared config "
            "profile, q"),
    Refusal("no role", P, "[profile p]\nsource_profile = q\n", "", "credential type source_profile requires role_arn, profile p"),
    Refusal("two sources", P, "[profile p]\n" + ROLE.format("r") + "source_profile = q\ncredential_source = Environment\n", "",
            "only one credential type may be specified per profile: source profile, credential source, credential process, "
            "web identity token"),
    Refusal("an unknown source", P, "[profile p]\n" + ROLE.format("r") + "credential_source = Nowhere\n", "",
            "credential_source values must be EcsContainer, Ec2InstanceMetadata, or Environment"),
    Refusal("no container", P, "[profile p]\n" + ROLE.format("r") + "credential_source = EcsContainer\n", "",
            "EcsContainer was specified as the credential_source, but neither 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI' or "
            "AWS_CONTAINER_CREDENTIALS_FULL_URI' was set"),
    Refusal("a container elsewhere", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/x"}, "", "",
            'invalid endpoint host, "192.0.2.1", only loopback/ecs/eks hosts are allowed'),
    Refusal("no host", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "127.0.0.1/x"}, "", "",
            "unable to parse host from local HTTP cred provider URL"),
    Refusal("web identity without a role", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, "", "", "role ARN is not set"),
    Refusal("a second factor", P, "[profile p]\n" + ROLE.format("r") + "source_profile = q\nmfa_serial = m\n",
            "[q]\naws_access_key_id = A\naws_secret_access_key = s\n",
            "assume role with MFA enabled, but AssumeRoleTokenProvider session option not set."),
]
