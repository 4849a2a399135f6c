"""The gateway's own tokens: what is let in, and the attacks that are not."""

import hmac
import json

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from token_makers import OLDER, SECRET, b64, oct_key, signed

from waybridge.auth import Auth, Principal, bearer, tokens
from waybridge.auth.principal import basic_credentials
from waybridge.errors import Forbidden, Unauthorized
from waybridge.settings import AuthSettings

KEY = oct_key(SECRET)


async def refused(auth: Auth, token: str) -> str:
    """Both ways to prove a token refuse it, with 401 and the challenge, and nothing is remembered."""
    with pytest.raises(Unauthorized) as caught:
        await auth.verify(token)
    with pytest.raises(Unauthorized):
        auth.verify_own(token)
    assert auth.cached(token) is None
    assert caught.value.status == 401
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    return caught.value.detail


async def test_an_issued_token_is_proved(auth, clock):
    token = auth.issue(subject="ops", instances=["acme", "b-1"], scope="read ingest", ttl=60)

    principal = await auth.verify(token)

    assert principal == Principal(
        subject="ops",
        instances=frozenset({"acme", "b-1"}),
        scopes=frozenset({"read", "ingest"}),
        expires_at=clock.unix + 60,
    )
    assert auth.cached(token) == auth.verify_own(token) == principal


async def test_a_platform_can_mint_tokens_itself(auth, claims):
    for secret in (SECRET, OLDER):
        principal = await auth.verify(signed(claims(aud=["other", "waybridge"]), oct_key(secret), kid="any"))
        assert principal.subject == "platform"


async def test_a_token_may_be_bound_to_a_device(auth):
    token = auth.issue(
        subject="phone", instances=["a"], scope="ingest", ttl=60, device_token="0AF7651916CD43DD8448EB211C80319C"
    )

    assert (await auth.verify(token)).device_token == "0af76519-16cd-43dd-8448-eb211c80319c"


def test_principals_cover_instances_and_hold_scopes():
    some = Principal(subject="", instances=frozenset({"a"}), scopes=frozenset({"read"}), expires_at=0)
    all_of_them = Principal(subject="", instances=frozenset({"*"}), scopes=frozenset(), expires_at=0)

    assert some.covers("a")
    assert not some.covers("b")
    assert not some.covers("*")
    assert not some.covers_all
    assert all_of_them.covers("b")
    assert all_of_them.covers_all
    assert some.may("read")
    some.require("read")
    for scope in ("write", "ingest", "admin"):
        assert not some.may(scope)
        with pytest.raises(Forbidden, match=scope):
            some.require(scope)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": ...}, "issuer"),
        ({"iss": "other"}, "issuer"),
        ({"iss": ["waybridge"]}, "issuer"),
        ({"aud": ...}, "audience"),
        ({"aud": "other"}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": ["waybridge", 5]}, "audience"),
        ({"aud": {"waybridge": 1}}, "audience"),
        ({"exp": ...}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": "1795264214"}, "exp"),
        ({"exp": [1]}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"exp": 1e300}, "exp"),
        ({"exp": -1}, "exp"),
        ({"iat": ...}, "iat"),
        ({"iat": "now"}, "iat"),
        ({"nbf": "soon"}, "nbf"),
        ({"sub": 5}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"sub": "a\x00b"}, "sub"),
        ({"sub": "\ud800"}, "sub"),
        ({"instances": "acme"}, "instances"),
        ({"instances": [5]}, "instances"),
        ({"instances": ["a b"]}, "instances"),
        ({"instances": ["**"]}, "instances"),
        ({"instances": {"*": 1}}, "instances"),
        ({"scope": 5}, "scope"),
        ({"scope": {"admin": 1}}, "scope"),
        ({"scope": [["admin"]]}, "scope"),
        ({"device_token": None}, "device_token"),
        ({"device_token": ""}, "device_token"),
        ({"device_token": 5}, "device_token"),
        ({"device_token": "a\x00"}, "device_token"),
        ({"device_token": "x" * 201}, "device_token"),
    ],
)
async def test_a_claim_that_is_missing_or_wrong_is_refused(auth, claims, changes, said):
    assert said in await refused(auth, signed(claims(**changes), KEY))


async def test_absent_rights_are_no_rights(auth, claims):
    principal = await auth.verify(signed(claims(instances=..., scope=..., sub=...), KEY))

    assert principal.instances == principal.scopes == frozenset()


@pytest.mark.parametrize(
    ("issued", "expires", "good"),
    [
        (0, 1, True),
        (-600, -29, True),
        (-600, -30, False),
        (30, 600, True),
        (31, 600, False),
        (0, 0, False),
        (10, 5, False),
        (0, 10 * 366 * 86_400, True),
        (0, 10 * 366 * 86_400 + 1, False),
    ],
)
async def test_times_are_held_to_thirty_seconds(auth, claims, clock, issued, expires, good):
    token = signed(claims(iat=clock.unix + issued, exp=clock.unix + expires), KEY)

    if good:
        assert await auth.verify(token)
    else:
        await refused(auth, token)


async def test_a_token_is_not_good_before_its_time(auth, claims, clock):
    assert "not valid yet" in await refused(auth, signed(claims(nbf=clock.unix + 31), KEY))
    assert await auth.verify(signed(claims(nbf=clock.unix + 30), KEY))


async def test_a_remembered_token_ends_with_its_time(auth, clock):
    token = auth.issue(subject="s", instances=["a"], scope="read", ttl=60)
    await auth.verify(token)

    clock.pass_seconds(59)
    assert auth.cached(token)
    clock.pass_seconds(1)
    assert auth.cached(token) is None
    clock.pass_seconds(30)
    await refused(auth, token)


async def test_the_memory_of_tokens_is_bounded_and_keeps_the_used(auth, monkeypatch):
    monkeypatch.setattr(tokens, "CACHED", 3)
    made = [auth.issue(subject=str(n), instances=["a"], scope="read", ttl=60) for n in range(4)]
    for token in made[:3]:
        await auth.verify(token)
    auth.cached(made[0])
    await auth.verify(made[3])

    assert [auth.cached(token) is not None for token in made] == [True, False, True, True]


@pytest.mark.parametrize("name", ["iss", "exp", "instances", "scope"])
async def test_a_claim_that_stands_twice_is_refused(auth, claims, name):
    good = json.dumps(claims())
    twice = good[:-1] + f', "{name}": {json.dumps(claims()[name])}}}'

    assert await auth.verify(signed(good, KEY))
    await refused(auth, signed(twice, KEY))


@pytest.mark.parametrize("twice", ['"alg": "none", "alg": "HS256"', '"alg": "HS256", "kid": "a", "kid": "a"'])
async def test_a_header_that_says_a_thing_twice_is_refused(auth, claims, twice):
    await refused(auth, by_hand(f"{{{twice}}}", claims()))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "ES256", "", "hs256"])
async def test_no_other_algorithm_is_taken(auth, claims, alg):
    token = by_hand({"alg": alg}, claims())

    await refused(auth, token)
    await refused(auth, token.rpartition(".")[0] + ".")


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
async def test_not_even_truly_signed(auth, claims, alg):
    long = Auth(AuthSettings(), [SECRET * 2], clock=auth._clock)

    await refused(long, signed(claims(), oct_key(SECRET * 2), alg=alg))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"typ": "JWE"},
        {"typ": "secevent+jwt"},
        {"typ": 5},
        {"alg": 5},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": {"HS256": 1}},
    ],
)
async def test_a_header_that_is_not_understood_is_refused(auth, claims, header):
    """Although the signature is true."""
    assert await auth.verify(by_hand({"alg": "HS256"}, claims()))

    await refused(auth, by_hand({"alg": "HS256"} | header, claims()))


def by_hand(header, claims) -> str:
    body = f"{b64(header)}.{b64(claims)}"
    return f"{body}.{b64(hmac.digest(SECRET, body.encode(), 'sha256'))}"


async def test_a_key_in_the_header_is_never_used(auth, claims):
    mine = oct_key(b"the-attackers-own-key-of-enough-bytes")

    await refused(auth, signed(claims(), mine, jwk=mine.as_dict(private=True)))


async def test_a_changed_token_is_refused(auth, claims):
    header, payload, signature = signed(claims(), KEY).split(".")

    await refused(auth, f"{header}.{b64(claims(scope='admin'))}.{signature}")
    await refused(auth, f"{header}.{payload}.{b64(bytes(32))}")
    await refused(auth, f"{header}.{payload}.{signature[:-4]}")
    await refused(auth, f"{b64({'alg': 'HS256'})}.{payload}.{signature}")


async def test_a_foreign_secret_is_refused(auth, claims):
    assert "signature" in await refused(auth, signed(claims(), oct_key(b"some-other-secret-of-enough-bytes")))


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "null",
        "[]",
        "5",
        '"text"',
        "{",
        '{"exp": NaN}',
        '{"exp": Infinity}',
        '{"exp": 1e999}',
        "[" * 3_000,
        '{"a":' * 1_000,
        '{"exp": ' + "9" * 5_000 + "}",
        b"\xff\xfe",
        b'{"iss": "\xff"}',
    ],
)
async def test_a_payload_that_is_no_object_is_refused(auth, payload):
    await refused(auth, signed(payload, KEY))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "a.b.c.d.e",
        "é.b.c",
        "\ud800.b.c",
        "a b.c.d",
        "eyJhbGciOiJIUzI1NiJ9..",
        "e30.e30.e30",
        "null.e30.e30",
        b64("[]") + ".e30.e30",
        b64("null") + ".e30.e30",
        b64("{") + ".e30.e30",
        b64("[" * 2_000) + ".e30.e30",
        b64(b"\xff") + ".e30.e30",
        "A.A.A",
        "a.b.c\n",
        "\x00.b.c",
        "=.=.=",
    ],
)
async def test_garbage_is_refused(auth, token):
    await refused(auth, token)


async def test_a_long_token_is_not_even_looked_at(auth, claims):
    token = signed(claims(padding="x" * 8_192), KEY)

    assert "8192 characters" in await refused(auth, token)


@given(token=st.text() | st.text(alphabet="abcXYZ019-_.=", max_size=300) | st.lists(st.binary(), max_size=4).map(
    lambda parts: ".".join(b64(part) for part in parts)
))  # fmt: skip
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_is_refused(auth, token):
    await refused(auth, token)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=5,
)


@given(changes=st.dictionaries(st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "sub", "instances", "scope"]), JSON))
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_claims_are_proved_or_refused(auth, claims, changes):
    token = signed(json.dumps(claims(**changes)), KEY)
    try:
        principal = await auth.verify(token)
    except Unauthorized:
        return
    assert {"iss": "waybridge"} | changes == changes | {"iss": "waybridge"}
    assert principal.subject == changes.get("sub", "platform")


@pytest.mark.parametrize(
    "made",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": 1e9},
        {"instances": ["a b"]},
        {"subject": "\x00"},
        {"device_token": ""},
    ],
)
def test_no_token_is_issued_that_would_be_refused(auth, made):
    with pytest.raises(ValueError):
        auth.issue(**({"subject": "s", "instances": ["a"], "scope": "read", "ttl": 60} | made))


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"AUTHORIZATION": "BEARER abc"}, "abc"),
    ],
)
def test_a_bearer_token_is_read(headers, token):
    assert bearer(headers) == token


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "abc", "Basic abc", "Bearer a b", "Bearerabc"])
def test_anything_else_is_no_bearer_token(value):
    with pytest.raises(Unauthorized) as caught:
        bearer({} if value is None else {"Authorization": value})
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}


def test_a_bare_token_is_read_where_a_dialect_says_so():
    assert bearer({"authorization": "a.b.c"}, bare=True) == "a.b.c"
    with pytest.raises(Unauthorized):
        bearer({"authorization": "Basic abc"}, bare=True)
    with pytest.raises(Unauthorized):
        bearer({}, bare=True)


def test_two_authorization_headers_are_refused():
    with pytest.raises(Unauthorized, match="more than one"):
        bearer({"Authorization": "Bearer a", "authorization": "Bearer b"})


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        ("Basic YTpi", ("a", "b")),
        ("basic YTpiOmM=", ("a", "b:c")),
        ("Basic YQ==", None),
        ("Basic !!", None),
        ("Basic /w==", None),
        ("Bearer YTpi", None),
        ("", None),
    ],
)
def test_basic_credentials_are_read(value, pair):
    assert basic_credentials({"Authorization": value}) == pair
