"""Sessions (JWT): what they may read, and all that makes one worth nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from api_warehouse import ApiWarehouse, Client, json_of
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from tokens import AUDIENCE, ISSUER, SECRET, claims, token

from api.access import jwks
from api.access.sessions import Session, Sessions
from api.app import create_app
from api.problems import ApiError
from api.state import EXTENSION, Limits, State
from warehouse import database
from warehouse.keys import revoke_session
from warehouse.settings import SessionSettings

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
WEAK_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def client_of(warehouse: ApiWarehouse, **how: Any) -> Client:
    """A client of an app that remembers no caller, with sessions."""
    sessions = SessionSettings(issuer=ISSUER, audience=AUDIENCE, **how)
    settings = replace(warehouse.settings, sessions=sessions)
    app = create_app(settings, limits=Limits(remember_keys_seconds=0))
    return Client(app.test_client(use_cookies=False), None)


@pytest.fixture(scope="module")
def client(read_only: ApiWarehouse) -> Client:
    return client_of(read_only, secret=SECRET)


def status(client: Client, text: str, path: str = "marts") -> int:
    return client.get(path, {"Authorization": f"Bearer {text}"}).status_code


def rows(client: Client, text: str) -> list[dict[str, Any]]:
    answer = client.get("daily-metrics", {"Authorization": f"Bearer {text}"})
    data: list[dict[str, Any]] = json_of(answer)["data"]
    return data


def write_jwks(path: Path, **keys: Any) -> None:
    """A JWKS file of the keys by `kid`, put in place whole."""
    made = []
    for kid, key in keys.items():
        kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        made.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid})
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"keys": made}))
    partial.replace(path)


def test_a_session_reads_its_scope_and_nothing_else(client: Client) -> None:
    found = rows(client, token())
    assert {row["partner_id"] for row in found} == {"reddit_ads:1"}
    assert rows(client, token(scope={"organization": ["gamma"], "partner": ["*"]})) == []


@pytest.mark.parametrize(
    "scope",
    [None, {}, [], "alpha", 1, {"organization": "alpha"}, {"organization": ["alpha"]},
     {"organization": ["alpha"], "partner": "*"}, {"organization": ["a,b"], "partner": ["*"]},
     {"organization": [["alpha"]], "partner": ["*"]}, {"Organization": ["*"], "partner": ["*"]}],
)  # fmt: skip
def test_a_scope_that_is_missing_or_malformed_gives_nothing(client: Client, scope: Any) -> None:
    assert rows(client, token(scope=scope)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://other.example"}, {"iss": None}, {"aud": "other"}, {"aud": None},
        {"aud": []}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 256},
        {"sub": "a\ud800b"}, {"jti": None}, {"jti": ""}, {"jti": 7}, {"jti": "a b"},
        {"role": None}, {"role": 7}, {"role": []},
        {"iat": None}, {"exp": None}, {"exp": "soon"}, {"exp": "9999999999"}, {"exp": float("nan")},
        {"exp": float("inf")}, {"exp": -1}, {"exp": int(time.time()) - 31},
        {"exp": int(time.time()) + 86_400 + 60}, {"iat": int(time.time()) + 60},
        {"iat": int(time.time()) - 86_400}, {"nbf": int(time.time()) + 60},
    ],
)  # fmt: skip
def test_claims_that_do_not_hold_are_refused(client: Client, change: Mapping[str, Any]) -> None:
    assert status(client, token()) == 200
    assert status(client, token(**change)) == 401


def test_half_a_minute_of_skew_is_allowed(client: Client) -> None:
    now = int(time.time())
    assert status(client, token(exp=now - 20, iat=now - 600)) == 200
    assert status(client, token(iat=now + 20)) == 200


def test_tokens_that_are_cut_altered_or_unsigned_are_refused(client: Client) -> None:
    good = token()
    header, payload, signature = good.split(".")
    nobody = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    bad = [
        f"{nobody}.{payload}.", f"{nobody}.{payload}.{signature}", f"{header}.{payload}.",
        f"{header}.{payload}", f"{header}..{signature}", "..", "a.b.c", f"{good}.{signature}",
        f"{deep}.{deep}.{signature}", jwt.encode(claims(), SECRET + "x", "HS256"),
        jwt.encode(claims(), SECRET, "HS512"), "x" * 20_000 + "." + good, good + "=",
    ]  # fmt: skip
    bad += [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
            for at in range(0, len(good) - 1, 7)]  # fmt: skip
    bad += [good[:length] for length in range(0, len(good), 11)]
    assert [status(client, item) for item in bad] == [401] * len(bad)
    words = {
        client.get("marts", {"Authorization": f"Bearer {item}"}).get_json()["detail"]
        for item in [*bad[:12], "ov_" + "A" * 43, "x"]
    }
    assert len(words) == 1


def test_an_unknown_role_may_do_nothing_and_tiers_are_ours(client: Client) -> None:
    assert status(client, token(role="root")) == 403
    state: State = client.flask.application.extensions[EXTENSION]
    for sent, tier in (("enterprise", "enterprise"), ("gold", "standard"), ([], "standard")):
        found = state.authenticator.principal(f"Bearer {token(tier=sent)}")
        assert found.tier == tier
        assert found.subject == "user@example.com"
        assert "user" not in found.id + found.name
    again = state.authenticator.principal(f"Bearer {token()}")
    assert again.id == found.id != state.authenticator.principal(f"Bearer {token(sub='b')}").id


def test_a_revoked_session_ends_and_its_sisters_do_not(
    read_only: ApiWarehouse, client: Client
) -> None:
    ended, sister = token(jti="ended"), token(jti="sister")
    assert status(client, ended) == status(client, sister) == 200
    connection = database.connect(read_only.settings, autocommit=True)
    revoke_session(connection, "ended")
    connection.close()
    assert (status(client, ended), status(client, sister)) == (401, 200)
    assert status(client, token(jti="ended", sub="another")) == 401


def test_without_settings_no_session_counts(read_only: ApiWarehouse) -> None:
    assert status(read_only.client(None), token()) == 401


@pytest.mark.parametrize(("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256")])
def test_public_keys_verify_their_own_algorithm_alone(
    read_only: ApiWarehouse, tmp_path: Path, key: Any, algorithm: str
) -> None:
    file = tmp_path / "jwks.json"
    write_jwks(file, one=key)
    client = client_of(read_only, jwks=file)
    assert status(client, jwt.encode(claims(), key, algorithm, {"kid": "one"})) == 200
    assert status(client, jwt.encode(claims(), key, algorithm)) == 200
    assert status(client, jwt.encode(claims(), key, algorithm, {"kid": "two"})) == 401
    assert status(client, token()) == 401
    encodings = serialization.Encoding
    formats = serialization.PublicFormat.SubjectPublicKeyInfo
    for encoding in (encodings.PEM, encodings.DER):
        public = key.public_key().public_bytes(encoding, formats)
        assert status(client, _confused(public)) == 401
    if algorithm == "RS256":
        assert status(client, jwt.encode(claims(), key, "PS256", {"kid": "one"})) == 401


def _confused(public_key: bytes) -> str:
    """A token that takes the public key for an HMAC secret; PyJWT itself refuses to make one."""
    parts = [json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}), json.dumps(claims())]
    body = b".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in parts)
    signature = hmac.digest(public_key, body, hashlib.sha256)
    return f"{body.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_a_changed_file_of_keys_is_read_again_and_a_spoilt_one_is_not(
    read_only: ApiWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_LOOK_SECONDS", 0.0)
    file = tmp_path / "jwks.json"
    write_jwks(file, one=EC_KEY)
    client = client_of(read_only, jwks=file)
    one = jwt.encode(claims(), EC_KEY, "ES256", {"kid": "one"})
    two = jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "two"})
    assert (status(client, one), status(client, two)) == (200, 401)
    write_jwks(file, one=EC_KEY, two=RSA_KEY)
    assert (status(client, one), status(client, two)) == (200, 200)
    file.write_text('{"keys": [')
    assert (status(client, one), status(client, two)) == (200, 200)
    file.unlink()
    assert (status(client, one), status(client, two)) == (200, 200)
    write_jwks(file, two=RSA_KEY)
    assert (status(client, one), status(client, two)) == (401, 200)


def test_a_token_read_while_its_key_was_taken_away_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_LOOK_SECONDS", 0.0)
    file = tmp_path / "jwks.json"
    write_jwks(file, one=EC_KEY)
    settings = SessionSettings(issuer=ISSUER, audience=AUDIENCE, jwks=file)
    sessions = Sessions(settings, pseudonyms_key="x")
    one = jwt.encode(claims(), EC_KEY, "ES256", {"kid": "one"})
    read = sessions._read

    def overtaken(text: str, digest: str) -> Session | None:
        session = read(text, digest)
        monkeypatch.setattr(sessions, "_read", read)
        write_jwks(file, two=RSA_KEY)
        assert sessions.verify(jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "two"}))
        return session

    monkeypatch.setattr(sessions, "_read", overtaken)
    assert sessions.verify(one), "its key was there when it was read"
    assert sessions.verify(one) is None


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"keys": []}', '{"keys": [7]}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}',
        json.dumps({"keys": [RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True)]}),
        json.dumps({"keys": [RSAAlgorithm.to_jwk(WEAK_KEY.public_key(), as_dict=True)]}),
        json.dumps({"keys": [ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True)] * 2}),
    ],
)  # fmt: skip
def test_a_file_of_other_keys_stops_the_start(
    read_only: ApiWarehouse, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(content)
    with pytest.raises(ApiError, match=r"OVERSIGHT_JWT_JWKS: .*jwks\.json"):
        client_of(read_only, jwks=file)
