"""An outside issuer's tokens: its algorithms, its keys, their rotation, and what happens when it is down."""

import asyncio
import hmac
import json

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from token_makers import ISSUER, SECRET, b64, oct_key, signed

from waybridge.auth import Auth, keysets
from waybridge.errors import ConfigurationError, Unauthorized
from waybridge.settings import AuthSettings

ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "okp": "EdDSA"}


async def refused(auth: Auth, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await auth.verify(token)
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert auth.cached(token) is None
    return caught.value.detail


def made(issuer, claims, name="rsa", **header) -> str:
    return signed(claims, issuer.keys[name], **({"alg": ALGORITHMS[name], "kid": name} | header))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
async def test_each_algorithm_is_proved(both, issuer, outside_claims, name):
    token = made(issuer, outside_claims(), name)

    principal = await both.verify(token)

    assert (principal.subject, principal.instances, principal.scopes) == (
        "platform",
        frozenset({"acme"}),
        frozenset({"read", "write"}),
    )
    assert both.cached(token) == principal
    assert issuer.asked == 1


async def test_the_new_name_of_eddsa_is_taken(both, issuer, outside_claims):
    assert await both.verify(made(issuer, outside_claims(), "okp", alg="Ed25519"))


async def test_own_tokens_live_beside_outside_ones_and_ask_nobody(both, issuer):
    token = both.issue(subject="s", instances=["a"], scope="read", ttl=60)

    assert await both.verify(token)
    assert issuer.asked == 0


async def test_without_an_outside_issuer_its_tokens_are_refused(auth, issuer, outside_claims):
    assert "issuer is not known" in await refused(auth, made(issuer, outside_claims()))
    with pytest.raises(Unauthorized, match="not one of this gateway"):
        auth.verify_own(made(issuer, outside_claims()))


async def test_names_of_claims_can_be_set(clock, keys, issuer, outside_claims):
    settings = AuthSettings(
        jwks_url="https://id/jwks",
        issuer=ISSUER,
        audience="tracking",
        subject_claim="uid",
        instances_claim="https://id/tenants",
        scope_claim="scp",
        device_token_claim="device",
    )
    auth = Auth(settings, [SECRET], clock=clock, outside=keys)
    claims = outside_claims(
        aud="tracking",
        sub=...,
        instances=...,
        scope=...,
        uid="u",
        scp=["read", "openid"],
        device="d",
        **{"https://id/tenants": ["x"]},
    )

    principal = await auth.verify(made(issuer, claims))

    assert (principal.subject, principal.instances, principal.device_token) == ("u", frozenset({"x"}), "d")
    assert principal.scopes == frozenset({"read", "openid"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "waybridge"}, "issuer"),
        ({"iss": ISSUER.rstrip("/")}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"iat": ...}, "iat"),
        ({"exp": ...}, "exp"),
    ],
)
async def test_its_claims_are_checked(both, issuer, outside_claims, changes, said):
    assert said in await refused(both, made(issuer, outside_claims(**changes)))


async def test_its_tokens_live_a_day_at_most(both, issuer, outside_claims, clock):
    assert await both.verify(made(issuer, outside_claims(exp=clock.unix + 86_400)))
    assert "lifetime" in await refused(both, made(issuer, outside_claims(exp=clock.unix + 86_401)))


async def test_its_public_key_is_no_secret_of_ours(both, issuer, outside_claims, claims):
    """The confusion of RS256 and HS256, for either issuer's claims."""
    pem = issuer.keys["rsa"].as_pem(private=False)
    for payload in (outside_claims(), claims()):
        body = f"{b64({'alg': 'HS256', 'kid': 'rsa'})}.{b64(payload)}"
        await refused(both, f"{body}.{b64(hmac.digest(pem, body.encode(), 'sha256'))}")
        with pytest.raises(ConfigurationError, match="no secret"):
            Auth(AuthSettings(), [pem], clock=both._clock)


async def test_neither_issuer_speaks_for_the_other(both, issuer, outside_claims, claims):
    await refused(both, made(issuer, claims()))
    await refused(both, signed(outside_claims(), oct_key(SECRET)))


async def test_only_configured_algorithms_are_taken(clock, keys, issuer, outside_claims):
    settings = AuthSettings(jwks_url="https://id/jwks", issuer=ISSUER, algorithms=("ES256",))
    auth = Auth(settings, [SECRET], clock=clock, outside=keys)

    assert await auth.verify(made(issuer, outside_claims(), "ec"))
    await refused(auth, made(issuer, outside_claims(), "rsa"))
    await refused(auth, made(issuer, outside_claims(), "okp"))


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256"])
async def test_no_relative_of_an_algorithm_is_taken(both, issuer, outside_claims, alg):
    await refused(both, made(issuer, outside_claims(), "rsa", alg=alg))
    assert issuer.asked == 0


async def test_a_key_signs_with_its_own_algorithm_only(both, issuer, outside_claims):
    issuer.document["keys"] = [issuer.public("rsa", kid="k"), issuer.public("ec", kid="k")]

    assert await both.verify(made(issuer, outside_claims(), "ec", kid="k"))
    assert await both.verify(made(issuer, outside_claims(), "rsa", kid="k"))


async def test_another_key_of_the_same_name_is_refused(both, issuer, outside_claims):
    stranger = RSAKey.generate_key(2048, private=True)

    await refused(both, signed(outside_claims(), stranger, alg="RS256", kid="rsa"))


@pytest.mark.parametrize("kid", ["", 5, None, ["rsa"], {"rsa": 1}, "x" * 256, "../rsa", "\x00"])
async def test_a_hostile_kid_is_refused(both, issuer, outside_claims, kid):
    header = b64(json.dumps({"alg": "RS256", "kid": kid}))
    _, payload, signature = made(issuer, outside_claims()).split(".")

    await refused(both, f"{header}.{payload}.{signature}")


async def test_without_a_kid_the_only_key_of_the_algorithm_serves(both, issuer, outside_claims):
    assert await both.verify(signed(outside_claims(), issuer.keys["rsa"], alg="RS256"))


async def test_without_a_kid_two_keys_are_none(both, issuer, outside_claims, private_keys):
    issuer.document["keys"].append(issuer.public("rsa", kid="another"))

    assert "key is not known" in await refused(both, signed(outside_claims(), issuer.keys["rsa"], alg="RS256"))


async def test_a_zero_signature_is_refused(both, issuer, outside_claims):
    header, payload, _ = made(issuer, outside_claims(), "ec").split(".")

    await refused(both, f"{header}.{payload}.{b64(bytes(64))}")


async def test_many_that_come_at_once_make_one_fetch(both, issuer, outside_claims):
    issuer.hold = asyncio.Event()
    waiting = [asyncio.create_task(both.verify(made(issuer, outside_claims(sub=str(n))))) for n in range(50)]
    await issuer.called.wait()
    waiting[0].cancel()
    issuer.hold.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert issuer.asked == 1
    assert isinstance(found[0], asyncio.CancelledError)
    assert [principal.subject for principal in found[1:]] == [str(n) for n in range(1, 50)]


async def test_a_new_key_is_found_at_once_but_only_one_fetch_in_thirty_seconds(both, issuer, outside_claims, clock):
    await both.verify(made(issuer, outside_claims()))
    issuer.keys["new"] = ECKey.generate_key("P-256", private=True)
    token = signed(outside_claims(), issuer.keys["new"], alg="ES256", kid="new")
    clock.pass_seconds(30)
    issuer.document["keys"].append(issuer.public("new"))

    assert await both.verify(token)
    assert issuer.asked == 2
    for n in range(20):
        await refused(both, made(issuer, outside_claims(), kid=f"unknown-{n}"))
    assert issuer.asked == 2
    clock.pass_seconds(30)
    await refused(both, made(issuer, outside_claims(), kid="unknown"))
    assert issuer.asked == 3


async def test_a_withdrawn_key_ends_even_in_steady_use(both, issuer, outside_claims, clock):
    token = made(issuer, outside_claims(exp=clock.unix + 7_200))
    await both.verify(token)
    issuer.document["keys"] = [issuer.public("ec")]

    for _ in range(59):
        clock.pass_seconds(10)
        assert await both.verify(token)
    clock.pass_seconds(10)
    await refused(both, token)
    assert issuer.asked == 2


async def test_while_the_issuer_is_down_its_last_keys_serve_for_a_day(both, issuer, outside_claims, clock):
    await both.verify(made(issuer, outside_claims()))
    issuer.status = 503

    clock.pass_seconds(23 * 3_600)
    for _ in range(5):
        assert await both.verify(made(issuer, outside_claims(sub="late")))
    assert issuer.asked == 2
    clock.pass_seconds(3_600)
    await refused(both, made(issuer, outside_claims()))
    issuer.status = 200
    clock.pass_seconds(30)
    assert await both.verify(made(issuer, outside_claims()))


async def test_an_issuer_that_was_never_reached_lets_nobody_in(both, issuer, outside_claims, clock):
    issuer.status = 500

    for _ in range(3):
        assert "key is not known" in await refused(both, made(issuer, outside_claims()))
    assert issuer.asked == 1
    issuer.status = 200
    clock.pass_seconds(30)
    assert await both.verify(made(issuer, outside_claims()))


async def test_a_silent_issuer_is_given_up(settings, clock, issuer, outside_claims, keys):
    keys._timeout = 0.02
    issuer.hold = asyncio.Event()
    auth = Auth(settings, [SECRET], clock=clock, outside=keys)

    await refused(auth, made(issuer, outside_claims()))
    issuer.hold.set()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"keys": 5}',
        b'{"keys": {}}',
        b"[" * 90_000,
        b'{"keys": []}' + b" " * 100_000,
        json.dumps({"keys": [{}] * 51}).encode(),
    ],
)
async def test_a_key_set_that_is_none_changes_nothing(both, issuer, outside_claims, clock, body):
    await both.verify(made(issuer, outside_claims()))
    issuer.body = body
    clock.pass_seconds(600)

    assert await both.verify(made(issuer, outside_claims(sub="later")))
    assert issuer.asked == 2


def parsed(*keys) -> list[str]:
    body = json.dumps({"keys": list(keys)}).encode()
    return [entry.algorithm for entry in keysets.parse(200, body, ("RS256", "ES256", "EdDSA"))]


def test_unfit_keys_are_left_out_and_the_others_serve(private_keys):
    rsa, ec, okp = (private_keys[name].as_dict(private=False) for name in ("rsa", "ec", "okp"))
    weak = RSAKey.import_key(private_keys["rsa"].as_dict(private=False)).as_dict(private=False)
    number = int.from_bytes(keysets.base64.urlsafe_b64decode(weak["n"] + "==="), "big") >> 1

    assert parsed(rsa, ec, okp) == ["RS256", "ES256", "EdDSA"]
    assert parsed(rsa | {"alg": "RS256"}, okp | {"alg": "Ed25519"}, ec | {"key_ops": ["verify"]}) == [
        "RS256",
        "EdDSA",
        "ES256",
    ]
    for unfit in (
        rsa | {"n": b64(number.to_bytes(256, "big"))},
        rsa | {"n": b64(b"\xff" * 2_000)},
        rsa | {"e": b64(b"\x01")},
        rsa | {"e": b64(b"\x02")},
        rsa | {"e": b64(b"\xff" * 8)},
        rsa | {"n": 5},
        rsa | {"n": "!!"},
        rsa | {"use": "enc"},
        rsa | {"alg": "RS512"},
        rsa | {"key_ops": ["sign"]},
        rsa | {"key_ops": "verify"},
        rsa | {"kid": 5},
        private_keys["rsa"].as_dict(private=True),
        private_keys["ec"].as_dict(private=True),
        ec | {"x": b64(bytes(32))},
        ec | {"crv": "P-999"},
        ec | {"crv": ["P-256"]},
        okp | {"x": b64(bytes(5))},
        OKPKey.generate_key("X25519").as_dict(private=False),
        ECKey.generate_key("P-384").as_dict(private=False),
        OctKey.generate_key(256).as_dict(private=True),
        {"kty": "none"},
        {"kty": ["RSA"]},
        {},
    ):
        assert parsed(unfit, okp) == ["EdDSA"], unfit
    assert parsed(5, None, "x", [], okp) == ["EdDSA"]
