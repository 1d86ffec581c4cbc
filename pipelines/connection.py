"""Where the Kubeflow API is and what to show it: host, namespace, token.

A token is read from an environment variable or from a file, never from the words of a command, which other users of a
machine can see and CI systems print. A file is read again when the API says that the token has expired, because a
projected service account token is renewed in its place.

Example:
    >>> connection = connect_settings(host="https://kubeflow.example.com", token_file="/var/run/secrets/token")
    >>> connection.host, connection.token.label
    ('https://kubeflow.example.com', 'the file /var/run/secrets/token')
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from worldexplorer.errors import UsageError

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
UI_HOST_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"
NAMESPACE_VARIABLE = "KF_PIPELINES_NAMESPACE"
TOKEN_VARIABLE = "KF_PIPELINES_TOKEN"  # noqa: S105 (a variable's name)
TOKEN_FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105
CA_FILE_VARIABLE = "KF_PIPELINES_SSL_CA_CERTS"
PROJECTED_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Where Kubeflow's PodDefault `access-ml-pipeline` puts a pod's token."""
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
IN_CLUSTER_HOST = "http://ml-pipeline.{}.svc.cluster.local:8888"


class TokenSource(Protocol):
    """Something that knows the token of the moment."""

    @property
    def label(self) -> str:
        """Where the token comes from, for a person."""

    def read(self) -> str:
        """The token as it is now, empty for none."""


@dataclass(frozen=True)
class NoToken:
    """A server that asks for none, such as a port forward."""

    label: str = "no token"

    def read(self) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True)
class VariableToken:
    """A token in an environment variable, which CI systems fill from their secrets."""

    variable: str

    @property
    def label(self) -> str:
        """The variable."""
        return f"the environment variable {self.variable}"

    def read(self) -> str:
        """See TokenSource."""
        return _checked(os.environ.get(self.variable, ""), self.label)


@dataclass(frozen=True)
class FileToken:
    """A token in a file that somebody renews, such as a projected service account token."""

    path: Path

    @property
    def label(self) -> str:
        """The file."""
        return f"the file {self.path}"

    def read(self) -> str:
        """See TokenSource; UsageError where the file cannot be read."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(
                f"the token file cannot be read: {reason}", where=str(self.path), remedy="let --token_file name a token"
            ) from None
        return _checked(text, self.label)


def _checked(text: str, label: str) -> str:
    """The token without white space around it; UsageError (without the token) where it cannot be one."""
    token = text.strip()
    if not token:
        raise UsageError("the token is empty", where=label, remedy="put a token there")
    if not token.isascii() or any(character.isspace() or not character.isprintable() for character in token):
        raise UsageError(
            "this is not one token: it holds white space or odd characters",
            where=label,
            remedy="put the token alone there, without a prefix such as Bearer",
        )
    return token


@dataclass(frozen=True)
class Connection:
    """How to reach the API.

    Attributes:
        host: the API's base URL, without a slash at the end.
        ui_host: the base URL of links for a person; empty where nobody knows it.
        namespace: the Kubeflow profile's namespace; empty for a Kubeflow without profiles, or to find out.
        token: where the token comes from.
        ca_file: certificates to trust instead of the public ones; empty for those.
    """

    host: str
    ui_host: str
    namespace: str
    token: TokenSource
    ca_file: str = ""

    def run_url(self, run_id: str) -> str:
        """Where a person looks at a run; empty where nobody knows."""
        return f"{self.ui_host}/#/runs/details/{run_id}" if self.ui_host else ""


def connect_settings(
    *,
    host: str = "",
    namespace: str = "",
    token_variable: str = "",
    token_file: str = "",
    ca_file: str = "",
    kubeflow_namespace: str = "kubeflow",
) -> Connection:
    """What the flags say, completed from the environment and, in a pod, from the cluster's defaults.

    Raises:
        UsageError: no host is known, the host is no URL, or a named token or file is not there.
    """
    given = host or os.environ.get(HOST_VARIABLE, "")
    in_cluster = not given and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    if in_cluster:
        given = IN_CLUSTER_HOST.format(kubeflow_namespace)
    if not given:
        raise UsageError(
            "nothing says where the Kubeflow Pipelines API is",
            where="--host",
            remedy=f"give --host https://..., or set {HOST_VARIABLE}; in a pod of the cluster neither is needed",
        )
    address = _url(given)
    shown = os.environ.get(UI_HOST_VARIABLE, "")
    certificates = ca_file or os.environ.get(CA_FILE_VARIABLE, "")
    if certificates and not Path(certificates).is_file():
        raise UsageError("the certificate file is not there", where=certificates, remedy="correct --ca_file")
    return Connection(
        host=address,
        ui_host=_url(shown) if shown else ("" if in_cluster else address),
        namespace=namespace or os.environ.get(NAMESPACE_VARIABLE, ""),
        token=_token_source(token_variable, token_file),
        ca_file=certificates,
    )


def _url(text: str) -> str:
    """A base URL; https unless it says otherwise."""
    address = (text if "://" in text else f"https://{text}").rstrip("/")
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise UsageError(
            "the host holds a name or a password, which other users of this machine can see",
            where="--host",
            remedy=f"leave them out, and put a token into {TOKEN_VARIABLE}",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            f"{text!r} is not the URL of a server",
            where="--host",
            remedy="give it as https://HOST or https://HOST/PATH",
        )
    return address


def _token_source(variable: str, file: str) -> TokenSource:
    """What is named, else the usual variable, else the usual files."""
    if variable and file:
        raise UsageError("--token_env and --token_file name two tokens", remedy="give one of them")
    if file:
        return FileToken(Path(file))
    if variable and not os.environ.get(variable):
        raise UsageError(
            f"the environment variable {variable} is not set", where="--token_env", remedy="put the token into it"
        )
    if variable or os.environ.get(TOKEN_VARIABLE):
        return VariableToken(variable or TOKEN_VARIABLE)
    named = os.environ.get(TOKEN_FILE_VARIABLE, "")
    if named or PROJECTED_TOKEN.is_file():
        return FileToken(Path(named or PROJECTED_TOKEN))
    return NoToken()
