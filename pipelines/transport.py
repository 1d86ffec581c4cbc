"""Calls of the Kubeflow API that end: with an answer, or with an error that a person understands.

The calls are those of `kfp_server_api`, the generated client below `kfp.Client`. `kfp.Client` itself is not used here:

* it sets no request timeout, so a connection that dies silently hangs it for ever;
* it prints links to standard output, which belongs to `--json`;
* its constructor reads `~/.config/kfp/context.json`, so the same command does other things on other machines, and tries
  a host that does not answer for 25 seconds with five tracebacks;
* it does not know the proxy of the environment;
* after a 401 it asks Google for a token, whatever token it was given.

The generated client's own traps are met here: network errors come out of it as urllib3's, a TLS error as an
AttributeError, and a login page as an empty object.

Example:
    >>> transport = Transport(connection, patience=60)
    >>> transport.repeat(transport.runs.run_service_get_run, run_id=run_id).state
    'RUNNING'
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import kfp_server_api
import urllib3.exceptions
from kfp_server_api.exceptions import ApiException
from urllib3.util import make_headers

from pipelines.connection import Connection
from pipelines.errors import ClusterError, UnreachableError
from worldexplorer.cli.output import one_line
from worldexplorer.errors import UsageError
from worldexplorer.log import redact

CONNECT_SECONDS = 10
READ_SECONDS = 60
DEFAULT_PATIENCE = 60.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_LOOKS = 4
_SHOWN_LENGTH = 600
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class LostAnswerError(UnreachableError):
    """The request may or may not have been carried out."""


class Transport:
    """The API's services, and how they are called.

    Args:
        connection: where the API is.
        patience: seconds for which a call that may be repeated is repeated while the API does not answer.
        on_trouble: told, in one line, of every answer that stayed away.
        clock: seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float = DEFAULT_PATIENCE,
        on_trouble: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.connection = connection
        self.patience = patience
        self.on_trouble = on_trouble
        self.clock = clock
        self.sleep = sleep
        self._configuration = kfp_server_api.Configuration()
        self._configuration.host = connection.host
        self._configuration.retries = False  # repeating is decided here, where it is known what may be repeated
        self._use_proxy(connection.host)
        if connection.ca_file:
            self._configuration.ssl_ca_cert = connection.ca_file
        self._token = connection.token.read()
        self._show_token()
        self._client = kfp_server_api.ApiClient(self._configuration)
        self.health = kfp_server_api.HealthzServiceApi(self._client)
        self.experiments = kfp_server_api.ExperimentServiceApi(self._client)
        self.runs = kfp_server_api.RunServiceApi(self._client)
        self.recurring_runs = kfp_server_api.RecurringRunServiceApi(self._client)

    def repeat(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call what does no harm when it is carried out twice, until it is answered or patience ends.

        Raises:
            UnreachableError: no answer in time, or the token is refused.
            UsageError: there is no such thing, or the request is refused.
            ClusterError: the answer is not one of this API.
        """
        for pause in self.pauses():
            try:
                return self.once(function, **arguments)
            except LostAnswerError as error:
                if pause is None:
                    raise UnreachableError(
                        f"no answer for {self.patience:g} s: {error.what}", where=error.where, remedy=error.remedy
                    ) from None
                self.on_trouble(f"{error.what}; next try in {pause:g} s")
                self.sleep(pause)
        raise AssertionError("pauses end with None")

    def once(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call it once, again with a new token where the old one has expired; LostAnswerError, else as above."""
        try:
            return self._call(function, arguments)
        except ApiException as error:
            if error.status != 401 or not self._renew_token():
                raise self._explained(error) from None
        try:
            return self._call(function, arguments)
        except ApiException as error:
            raise self._explained(error) from None

    def pauses(self) -> Iterator[float | None]:
        """Growing pauses in seconds for as long as patience lasts, then None."""
        end = self.clock() + self.patience
        for number in count():
            pause = min(_FIRST_PAUSE * 2.0**number, _LONGEST_PAUSE)
            if self.clock() + pause > end:
                break
            yield pause
        yield None

    def looks(self) -> Iterator[None]:
        """Several moments to look for what a lost answer was about, with growing pauses (1, 2, 4 s) between them."""
        for number in range(_LOOKS):
            if number:
                self.sleep(_FIRST_PAUSE * 2.0 ** (number - 1))
            yield

    def _use_proxy(self, host: str) -> None:
        """Go through the proxy that the environment names for this host, as other programs do."""
        parts = urlsplit(host)
        proxy = getproxies().get(parts.scheme)
        if not proxy or parts.hostname in _LOOPBACK or proxy_bypass(parts.netloc):
            return
        self._configuration.proxy = proxy
        account = urlsplit(proxy)
        if account.username:
            secret = f"{unquote(account.username)}:{unquote(account.password or '')}"
            self._configuration.proxy_headers = make_headers(proxy_basic_auth=secret)

    def _call(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        host = self.connection.host
        try:
            answer = function(**arguments, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
        except ApiException as error:
            if error.status in _TRANSIENT:
                raise LostAnswerError(
                    f"the API answers {error.status} {error.reason}", where=host, remedy="try again later"
                ) from None
            if not error.status:
                raise ClusterError(f"the answer is not understood: {one_line(str(error.reason))}", where=host) from None
            raise
        except urllib3.exceptions.LocationParseError:
            raise UsageError("this is not the URL of a server", where=host, remedy="correct --host") from None
        except urllib3.exceptions.HTTPError as error:
            raise LostAnswerError(
                f"the API cannot be reached: {_reason(error)}", where=host, remedy="check --host, the network and VPN"
            ) from None
        except (AttributeError, UnicodeDecodeError) as error:
            # The generated client decodes the body of every error, and the error of a broken TLS handshake has none.
            cause = error.__context__
            if not isinstance(cause, ApiException):
                raise
            if cause.status in _TRANSIENT:
                raise LostAnswerError(f"the API answers {cause.status}", where=host, remedy="try again later") from None
            raise UnreachableError(
                f"no secure connection: {one_line(str(cause.reason))[:_SHOWN_LENGTH]}",
                where=host,
                remedy="name the certificates to trust with --ca_file, or give --host http://... where it has none",
            ) from None
        if "html" in (self._client.last_response.getheader("content-type") or ""):
            raise self._login_page("a web page instead of the API's answer")
        return answer

    def _renew_token(self) -> bool:
        """Read the token again; whether it is another one than the one refused."""
        renewed = self.connection.token.read()
        changed = renewed != self._token
        self._token = renewed
        self._show_token()
        return changed

    def _show_token(self) -> None:
        if self._token:
            self._configuration.api_key["authorization"] = self._token
            self._configuration.api_key_prefix["authorization"] = "Bearer"

    def _explained(self, error: ApiException) -> Exception:
        host, label = self.connection.host, self.connection.token.label
        told = self._told(error)
        if error.status == 401:
            return UnreachableError(
                f"the API refuses the token: {told}",
                where=f"{host}, {label}",
                remedy="put a valid token there (a service account's: kubectl create token NAME "
                "--audience=pipelines.kubeflow.org)"
                if self._token
                else "give a token: --token_env NAME or --token_file FILE",
            )
        if error.status == 403:
            return UnreachableError(
                f"this token may not do that: {told}",
                where=f"{host}, {label}",
                remedy="use the namespace and the service account that may (docs/submitting.md), or ask for the right",
            )
        if 300 <= error.status < 400:
            return self._login_page(f"a redirection ({error.status})")
        if error.status == 404:
            return UsageError(f"there is no such thing: {told}", where=host, remedy="check the id and the namespace")
        return UsageError(f"the API refuses this ({error.status}): {told}", where=host, remedy="correct the command")

    def _login_page(self, what: str) -> UnreachableError:
        return UnreachableError(
            f"{what}, perhaps to a login page",
            where=self.connection.host,
            remedy="give a token with --token_env or --token_file, and let --host name the API, often with /pipeline",
        )

    def _told(self, error: ApiException) -> str:
        """What the server says, shortened, without secrets."""
        text = str(error.body or error.reason or "nothing")
        try:
            document = json.loads(text)
            text = str(document.get("message") or document.get("error") or text)
        except (ValueError, AttributeError):
            pass
        if self._token:
            text = text.replace(self._token, "[redacted]")
        return one_line(redact(text))[:_SHOWN_LENGTH]


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """The reason without the object that urllib3 puts before it."""
    text = one_line(redact(str(error)))
    return text.partition(">: ")[2] or text.partition("): ")[2] or text or type(error).__name__
