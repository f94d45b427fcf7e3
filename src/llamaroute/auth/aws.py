"""Credentials of AWS: Bedrock's API keys, and signatures (SigV4) with whatever AWS's own tools would sign with.

boto3's credentials, boto3's signature, but neither its clients nor its retries: those would need a thread a call.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Any, NamedTuple, Protocol, cast

from pydantic import SecretStr

from ..dialects.bedrock_converse import exception_name
from ..errors import AuthenticationError, ConfigError, ConnectionError, LlamarouteError
from ..spi import Auth, AuthSettings, WireRequest, WireResponse
from ..types.dataclass import dataclass
from .base import StaticHeaders, header_value
from .tokens import CachedToken, Token, within

__all__ = ["BearerKey", "SigV4", "bedrock", "unlogged"]

SERVICE = "bedrock"
"""The name that requests are signed for; not the host's, which is `bedrock-runtime`."""

LIMIT = 60.0
"""Seconds in which credentials must come, whatever gives them: a program of a profile's has no limit of its own."""
CONNECT, READ, ATTEMPTS = 5.0, 15.0, 2
"""Seconds and attempts of one request for credentials (STS, single sign-on). The metadata services have botocore's own
limits: 1 second and 1 attempt on EC2, 2 seconds and 3 attempts in a container."""

SKEW = 240.0
"""Seconds by which this machine's clock may differ from AWS's before it is corrected. AWS allows 300."""
_SKEWED = ("InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed")
_EXPIRED = ("ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId")
"""The last two are also what temporary keys get that were revoked."""

STAMP = "%Y%m%dT%H%M%SZ"


class AwsOptions(Protocol):
    """The keys of an account's table that matter here; `providers/bedrock.py` describes them."""

    @property
    def api_key(self) -> SecretStr | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def live_credential(self) -> Any: ...
    @property
    def region(self) -> str | None: ...
    @property
    def profile(self) -> str | None: ...
    @property
    def role_arn(self) -> str | None: ...
    @property
    def access_key_id(self) -> SecretStr | None: ...
    @property
    def secret_access_key(self) -> SecretStr | None: ...
    @property
    def session_token(self) -> SecretStr | None: ...


def bedrock(settings: AuthSettings) -> Auth:
    """What the table names: an API key, a live session, access keys, a profile, a role. Without any of them, what the
    environment has, in boto3's order: `AWS_BEARER_TOKEN_BEDROCK`, access keys, `AWS_PROFILE`, the default profile, a
    container's role, a machine's role.

    Raises:
        ConfigError: no region is known, there is no such profile, or the extra is missing.
    """
    options, env = cast(AwsOptions, settings.options), settings.env
    own = options.live_credential or options.access_key_id or options.profile or options.role_arn
    token = options.api_key
    if token is None and not own and (text := env.get("AWS_BEARER_TOKEN_BEDROCK", "").strip()):
        token = SecretStr(text)
    if token is not None:
        # A URL of one's own needs no region, and a key needs none to sign.
        region = "" if options.base_url else _region(settings, signing=False)
        return BearerKey(header_value(token, settings), region)
    keys = _Keys(settings, _region(settings, signing=True))
    renewable = options.access_key_id is None or options.role_arn is not None
    return SigV4(keys.fetch, provider=settings.provider, region=keys.region, renewable=renewable)


class BearerKey(StaticHeaders):
    """A Bedrock API key, as `Authorization: Bearer`. boto3 is not needed."""

    __slots__ = ("_region",)

    def __init__(self, key: str, region: str) -> None:
        super().__init__({"authorization": f"Bearer {key}"})
        self._region = region

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with the key."""
        return super().sign(_located(request, self._region), now)


@dataclass(frozen=True, slots=True)
class _Credentials(Token):
    """Frozen credentials of botocore. `headers` are those that change with them."""

    keys: Any = field(default=None, repr=False)
    day_keys: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """Made of the secret: what the requests of the last day are signed with."""


class SigV4(CachedToken):
    """Signs each request with access keys, which are fetched afresh before they end.

    Args:
        fetch: gets credentials; may block.
        provider: the account's name, for messages.
        region: that is called.
        renewable: whether fetching again may give other keys.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        fetch: Callable[[], Token],
        *,
        provider: str,
        region: str,
        renewable: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            fetch,
            provider=provider,
            rejected=lambda response: renewable and exception_name(response) in _EXPIRED,
            clock=clock,
        )
        self._region = region
        self._offset = 0.0
        """Seconds that AWS's clock is ahead of this machine's."""

    def reject(self, request: WireRequest, response: WireResponse, now: float) -> bool:
        """Correct the clock if that was refused, else as for any token."""
        if exception_name(response) in _SKEWED or re.search(rb"Signature (expired|not yet current)", response.body):
            signed, theirs = _signed_at(request), _answered_at(response)
            if signed is None or theirs is None or abs(theirs - signed) < SKEW:
                return False
            self._offset = theirs - now
            return True
        return super().reject(request, response, now)

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with a signature of this moment."""
        token = self._token
        assert isinstance(token, _Credentials), "refresh() comes first"
        request = _located(request, self._region)
        stamp = datetime.fromtimestamp(now + self._offset, UTC).strftime(STAMP)
        headers = {**request.headers, **token.headers, "x-amz-date": stamp}
        return replace(request, headers={**headers, "authorization": self._authorization(request, headers, token)})

    def _authorization(self, request: WireRequest, headers: Mapping[str, str], token: _Credentials) -> str:
        """botocore's signature, of which what is the same for each request is kept: that takes 15 us instead of 80.
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
        place, stamp = _place(request.method, request.url), headers["x-amz-date"]
        # The fewest headers that may be signed: what a proxy on the way changes does no harm.
        signed = {"host": place.host}
        for name, value in headers.items():
            if name.lower() in ("content-type", "host") or name.startswith("x-amz-"):
                signed[name.lower()] = " ".join(value.split())
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"{place.first_lines}\n{lines}\n{names}\n{_digest(request.body)}"
        scope = f"{stamp[:8]}/{self._region}/{SERVICE}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = _hmac(self._key(token, stamp[:8]), text).hex()
        credential = f"{token.keys.access_key}/{scope}"
        return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"

    def _key(self, token: _Credentials, day: str) -> bytes:
        if (known := token.day_keys.get(day)) is not None:
            return known
        key = f"AWS4{token.keys.secret_key}".encode()
        for part in (day, self._region, SERVICE, "aws4_request"):
            key = _hmac(key, part)
        token.day_keys.clear()
        token.day_keys[day] = key
        return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


class _Place(NamedTuple):
    """Of what is signed, that which the URL says: the host, and the first lines, with method, path and query."""

    host: str
    first_lines: str


@lru_cache(maxsize=256)
def _place(method: str, url: str) -> _Place:
    """As botocore writes it: it knows how paths and queries are escaped and sorted."""
    aws_request, signer_class = _signing()
    what = aws_request(method, url)
    what.context |= {"timestamp": "", "payload": ""}
    signer = signer_class(None, SERVICE, "")
    return _Place(signer.headers_to_sign(what)["host"], "\n".join(signer.canonical_request(what).split("\n")[:3]))


@cache
def _signing() -> tuple[Any, Any]:
    """botocore's request, and its signer with a digest of ours."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    class Signer(SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> Any:
            """The body's digest, which was taken from its parts without joining them."""
            return request.context["payload"]

    return AWSRequest, Signer


def _digest(body: bytes | tuple[bytes, ...]) -> str:
    digest = hashlib.sha256()
    for part in (body,) if isinstance(body, bytes) else body:
        digest.update(part)
    return digest.hexdigest()


def _located(request: WireRequest, region: str) -> WireRequest:
    """With the region in the host's name, where the table has none."""
    return replace(request, url=request.url.replace("{region}", region, 1)) if "{region}" in request.url else request


def _signed_at(request: WireRequest) -> float | None:
    stamp = request.headers.get("x-amz-date")
    return None if stamp is None else datetime.strptime(stamp, STAMP).replace(tzinfo=UTC).timestamp()


def _answered_at(response: WireResponse) -> float | None:
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


# -- where credentials come from ---------------------------------------------------------------------------------------


class _Keys:
    """Gets credentials with botocore. Each fetch begins anew, so that files that have changed count."""

    def __init__(self, settings: AuthSettings, region: str) -> None:
        self.region = region
        self._provider = settings.provider
        self._options = cast(AwsOptions, settings.options)
        self._env = settings.env
        _signing()  # a missing extra is told when the account is made, not at its first call
        if self._options.profile is not None and self._options.live_credential is None:
            _checked(settings, lambda: _session(self._options.profile, self._env).get_scoped_config())

    def fetch(self) -> Token:
        """Fresh credentials.

        Raises:
            AuthenticationError, ConfigError, ConnectionError: there are none; the message says how to get some.
        """
        try:
            keys, expires = within(LIMIT, self._quietly, self._late)
        except LlamarouteError:
            raise
        except Exception as error:
            # botocore's own may quote a whole answer of STS, keys and all.
            raise _explained(error, self._provider, self._options.profile or self._env.get("AWS_PROFILE")) from None
        token = {"x-amz-security-token": keys.token} if keys.token else {}
        return _Credentials(token, expires, tuple(filter(None, (keys.secret_key, keys.token))), keys)

    def _late(self) -> LlamarouteError:
        return AuthenticationError(
            f"providers.{self._provider}: AWS credentials did not come within {LIMIT:.0f} s; is a program of the "
            "profile's (credential_process), or a question it asks, waiting for somebody?",
            provider=self._provider,
        )

    def _quietly(self) -> tuple[Any, float | None]:
        with unlogged():
            return self._keys()

    def _keys(self) -> tuple[Any, float | None]:
        source = self._source()
        if source is None:
            raise AuthenticationError(
                f"providers.{self._provider}: no AWS credentials were found; set api_key (a Bedrock API key), "
                "access_key_id and secret_access_key, or profile, or use AWS's own variables and files "
                "('aws configure', 'aws sso login')",
                provider=self._provider,
            )
        keys = source.get_frozen_credentials()
        if self._options.role_arn is not None:
            return self._assume(keys, self._options.role_arn)
        ends = getattr(source, "_expiry_time", None)  # botocore tells nobody else; without it, keys serve until refused
        return keys, ends.timestamp() if isinstance(ends, datetime) else None

    def _source(self) -> Any:
        """Credentials of botocore: fixed ones, or such as know how to renew themselves."""
        from botocore.credentials import Credentials

        options, env = self._options, self._env
        if (live := options.live_credential) is not None:
            return live.get_credentials()
        if options.access_key_id is not None and options.secret_access_key is not None:
            token = options.session_token
            return Credentials(
                options.access_key_id.get_secret_value(),
                options.secret_access_key.get_secret_value(),
                token.get_secret_value() if token is not None else None,
            )
        profile = options.profile
        if profile is None and (key := env.get("AWS_ACCESS_KEY_ID")):
            if secret := env.get("AWS_SECRET_ACCESS_KEY"):
                return Credentials(key, secret, env.get("AWS_SESSION_TOKEN"))
            raise ConfigError(
                f"providers.{self._provider}: AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not",
                key=f"providers.{self._provider}.secret_access_key",
            )
        session = _session(profile or env.get("AWS_PROFILE"), env, self.region, options)
        chain = session.get_component("credential_provider")
        if "env" in {provider.METHOD for provider in chain.providers}:
            chain.remove("env")  # they were looked for in the account's own environment
        return session.get_credentials()

    def _assume(self, source: Any, role: str) -> tuple[Any, float]:
        """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html"""
        from botocore.credentials import ReadOnlyCredentials

        client = _session(None, self._env, self.region, self._options).create_client(
            "sts",
            aws_access_key_id=source.access_key,
            aws_secret_access_key=source.secret_key,
            aws_session_token=source.token,
        )
        with closing(client):
            given = client.assume_role(RoleArn=role, RoleSessionName="llamaroute")["Credentials"]
        keys = ReadOnlyCredentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        return keys, given["Expiration"].timestamp()


def _session(profile: str | None, env: Mapping[str, str], region: str | None = None, options: Any = None) -> Any:
    """A session of botocore with the limits above and the account's own environment, as far as botocore lets it in.

    With the account's `options`, it goes through the same proxy and trusts the same certificates.
    """
    from botocore.config import Config
    from botocore.session import Session

    # Without one named, none: a profile that the process's environment names may not be the account's.
    session = Session(session_vars={"profile": (None, None, None, None)}, profile=profile or None)
    for variable, name in (("AWS_CONFIG_FILE", "config_file"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials_file")):
        if path := env.get(variable):
            session.set_config_variable(name, path)
    if region is not None:
        session.set_config_variable("region", region)  # of the services that give credentials, too
    limits = Config(connect_timeout=CONNECT, read_timeout=READ, retries={"total_max_attempts": ATTEMPTS})
    if options is not None and options.proxy:
        limits = limits.merge(Config(proxies={"http": options.proxy, "https": options.proxy}))
    if options is not None and options.verify is not True:
        session.set_config_variable("ca_bundle", options.verify)
    session.set_default_client_config(limits)
    return session


def _region(settings: AuthSettings, *, signing: bool) -> str:
    """The region: the table's, the environment's, the profile's, or the one in the name of the host that is called."""
    options, env = cast(AwsOptions, settings.options), settings.env
    region = options.region or getattr(options.live_credential, "region_name", None)
    region = region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    if not region:
        try:
            region = _checked(settings, lambda: _of_profile(options.profile or env.get("AWS_PROFILE"), env))
        except ImportError:
            if signing:
                raise
    if not region and (named := re.search(r"//bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.", options.base_url or "")):
        region = named[1]
    if not region:
        raise ConfigError(
            f"providers.{settings.provider}.region: no region is known; set it (Llama 4 is in us-east-1, us-east-2 and "
            "us-west-2), or AWS_REGION, AWS_DEFAULT_REGION, or the profile's own",
            key=f"providers.{settings.provider}.region",
        )
    return str(region)


def _of_profile(profile: str | None, env: Mapping[str, str]) -> str | None:
    region: str | None = _session(profile, env).get_scoped_config().get("region")
    return region


def _checked(settings: AuthSettings, read: Callable[[], Any]) -> Any:
    """Read AWS's config files while the account is made."""
    try:
        return read()
    except ImportError:
        raise
    except Exception as error:
        raise _explained(error, settings.provider, cast(AwsOptions, settings.options).profile) from None


_TALKATIVE = ("parsers", "endpoint", "auth", "credentials", "tokens", "utils", "httpsession", "awsrequest", "hooks")


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep keys out of what botocore logs in this thread: at DEBUG whole answers and requests, else exceptions."""
    here = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        if record.thread != here:
            return True
        record.exc_info = None  # the exception itself is told to whoever asked
        return record.levelno > logging.DEBUG

    loggers = [logging.getLogger(f"botocore.{name}") for name in _TALKATIVE]
    for logger in loggers:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(passes)


def _explained(error: Exception, provider: str, profile: str | None) -> LlamarouteError:
    """An exception of botocore's as one of ours, with what helps."""
    from botocore import exceptions as aws

    who = f"providers.{provider}"
    line = (str(error).strip().splitlines() or [""])[0][:300]
    login = f"aws sso login{f' --profile {profile}' if profile else ''}"
    if type(error).__name__.startswith("Login"):  # of `aws login`, which older botocores do not know
        return AuthenticationError(f"{who}: {line}; run '{login.replace('sso ', '')}'", provider=provider)
    match error:
        case aws.ProfileNotFound():
            return ConfigError(f"{who}.profile: {line}; 'aws configure list-profiles' shows them", key=f"{who}.profile")
        case aws.ConfigParseError() | aws.ConfigNotFound() | aws.InvalidConfigError() | aws.InfiniteLoopConfigError():
            return ConfigError(f"{who}: AWS's config files: {line}", key=f"{who}.profile")
        case aws.PartialCredentialsError():
            return ConfigError(f"{who}: AWS's credentials are not whole: {line}", key=f"{who}.profile")
        case aws.SSOError() | aws.TokenRetrievalError():
            return AuthenticationError(f"{who}: {line}; run '{login}'", provider=provider)
        case aws.ClientError(response=answer):
            said = answer.get("Error", {})
            return AuthenticationError(
                f"{who}: AWS refused to give credentials: {str(said.get('Message'))[:300]}",
                provider=provider,
                status=answer.get("ResponseMetadata", {}).get("HTTPStatusCode"),
                code=said.get("Code"),
                request_id=answer.get("ResponseMetadata", {}).get("RequestId"),
            )
        case aws.HTTPClientError() | aws.ConnectionError():
            return ConnectionError(f"{who}: AWS's credentials could not be asked for: {line}", provider=provider)
        case _:
            return AuthenticationError(f"{who}: no AWS credentials: {type(error).__name__}: {line}", provider=provider)
