"""The token endpoint: client credentials by RFC 6749, and nothing given away."""

import base64
import logging
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from waybridge.auth import Auth, Clients, TokenRequest, new_client_secret, secret_digest
from waybridge.errors import Invalid, Unauthorized

SECRET = new_client_secret()
GRANT = ("grant_type", "client_credentials")
FORM = (("client_id", "fleet"), ("client_secret", SECRET))


@dataclass(frozen=True)
class Record:
    client_id: str = "fleet"
    instances: tuple[str, ...] = ("acme",)
    scope: str = "read write"
    secret_hash: bytes = secret_digest(SECRET)


@pytest.fixture
def clients(auth: Auth) -> Clients:
    async def find(client_id: str) -> Record | None:
        assert client_id.isprintable()
        return Record() if client_id == "fleet" else None

    return Clients(auth, find)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "request_",
    [
        TokenRequest(headers={}, form=(GRANT, *FORM)),
        TokenRequest(headers={}, query=(GRANT,), form=FORM),
        TokenRequest(headers=basic("fleet", SECRET), form=(GRANT,)),
        TokenRequest(headers=basic("fleet", SECRET), query=(GRANT,)),
        TokenRequest(headers=basic("fleet", SECRET), form=(GRANT, ("client_id", "fleet"))),
        TokenRequest(headers={"Authorization": "Bearer other"}, form=(GRANT, *FORM)),
    ],
)
async def test_a_client_gets_a_token(clients, auth, clock, request_):
    answer = await clients.answer(request_)

    assert answer.status == 200
    assert {name: value for name, value in answer.body.items() if name != "access_token"} == {
        "token_type": "bearer",
        "expires_in": 3600,
        "scope": "read write",
    }
    assert answer.headers["Cache-Control"] == "no-store"
    principal = await auth.verify(answer.body["access_token"])
    assert (principal.subject, principal.instances) == ("fleet", frozenset({"acme"}))
    assert principal.scopes == frozenset({"read", "write"})
    assert principal.expires_at == clock.unix + 3600


async def test_a_narrower_scope_can_be_asked(clients, auth):
    answer = await clients.answer(TokenRequest(headers={}, form=(GRANT, *FORM, ("scope", "write  write"))))

    assert answer.body["scope"] == "write"
    assert (await auth.verify(answer.body["access_token"])).scopes == frozenset({"write"})


@pytest.mark.parametrize("scope", ["admin", "read admin", "READ", "re ad", "read\x00"])
async def test_a_wider_scope_is_refused(clients, scope):
    answer = await clients.answer(TokenRequest(headers={}, form=(GRANT, *FORM, ("scope", scope))))

    assert (answer.status, answer.body["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize(
    "request_",
    [
        TokenRequest(headers={}, form=(GRANT,)),
        TokenRequest(headers={}, form=(GRANT, ("client_id", "fleet"))),
        TokenRequest(headers={}, form=(GRANT, ("client_secret", SECRET))),
        TokenRequest(headers={}, form=(GRANT, ("client_id", "fleet"), ("client_secret", "wrong"))),
        TokenRequest(headers={}, form=(GRANT, ("client_id", "fleet"), ("client_secret", ""))),
        TokenRequest(headers={}, form=(GRANT, ("client_id", "fleet"), ("client_secret", "ý\ud800"))),
        TokenRequest(headers={}, form=(GRANT, ("client_id", "absent"), ("client_secret", SECRET))),
        TokenRequest(headers={}, form=(GRANT, ("client_id", "a\x00"), ("client_secret", SECRET))),
        TokenRequest(headers=basic("fleet", "wrong"), form=(GRANT,)),
        TokenRequest(headers=basic("absent", SECRET), form=(GRANT,)),
        TokenRequest(headers={"Authorization": "Basic /w=="}, form=(GRANT,)),
        TokenRequest(headers={"Authorization": "Basic !"}, form=(GRANT,)),
    ],
)
async def test_every_stranger_gets_the_same_answer(clients, request_):
    answer = await clients.answer(request_)

    assert (answer.status, answer.body) == (
        401,
        {"error": "invalid_client", "error_description": "the client is unknown or its secret is wrong"},
    )
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (TokenRequest(headers={}, form=FORM), "invalid_request"),
        (TokenRequest(headers={}, query=(GRANT, *FORM)), "invalid_request"),
        (TokenRequest(headers={}, query=(GRANT, FORM[1]), form=FORM[:1]), "invalid_request"),
        (TokenRequest(headers={}, form=(("grant_type", ""), *FORM)), "invalid_request"),
        (TokenRequest(headers={}, form=(("grant_type", "password"), *FORM)), "unsupported_grant_type"),
        (TokenRequest(headers={}, form=(("grant_type", 'a"\x00ü'), *FORM)), "unsupported_grant_type"),
        (TokenRequest(headers={}, query=(GRANT,), form=(GRANT, *FORM)), "invalid_request"),
        (TokenRequest(headers={}, form=(GRANT, *FORM, ("scope", "read"), ("scope", "write"))), "invalid_request"),
        (TokenRequest(headers=basic("fleet", SECRET), form=(GRANT, *FORM)), "invalid_request"),
        (TokenRequest(headers=basic("fleet", SECRET), form=(GRANT, ("client_id", "other"))), "invalid_request"),
        (TokenRequest(headers={"Authorization": "a", "authorization": "b"}, form=(GRANT, *FORM)), "invalid_request"),
    ],
)
async def test_a_request_that_is_not_well_formed_is_refused(clients, request_, error):
    answer = await clients.answer(request_)

    assert (answer.status, answer.body["error"]) == (400, error)
    assert answer.body["error_description"].isascii()


PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["grant_type", "client_id", "client_secret", "scope"]) | st.text(),
        st.sampled_from(["client_credentials", "fleet"]) | st.text(),
    )
)


@given(
    query=PAIRS, form=PAIRS, header=st.text() | st.binary().map(lambda raw: "Basic " + base64.b64encode(raw).decode())
)
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_comes_is_answered(clients, query, form, header):
    answer = await clients.answer(TokenRequest(headers={"Authorization": header}, query=query, form=form))

    assert answer.status in (400, 401)


async def test_plugins_get_tokens_by_the_same_rules(clients, auth):
    body = await clients.token("fleet", SECRET, "read")

    assert (body["token_type"], body["scope"]) == ("bearer", "read")
    assert await auth.verify(body["access_token"])
    with pytest.raises(Unauthorized) as caught:
        await clients.token("fleet", "wrong", None)
    assert caught.value.headers["WWW-Authenticate"].startswith("Basic")
    with pytest.raises(Invalid):
        await clients.token("fleet", SECRET, "admin")


async def test_neither_secret_nor_token_is_logged_or_shown(clients, caplog):
    request = TokenRequest(headers={}, form=(GRANT, *FORM))
    with caplog.at_level(logging.DEBUG):
        answer = await clients.answer(request)

    for secret in (SECRET, answer.body["access_token"]):
        assert secret not in caplog.text
        assert secret not in repr(request)
        assert secret not in repr(answer)


def test_a_secret_has_256_bits_and_is_stored_as_a_digest():
    assert len(base64.urlsafe_b64decode(SECRET + "=")) == 32
    assert new_client_secret() != SECRET
    assert len(secret_digest(SECRET)) == 32
