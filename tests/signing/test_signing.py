"""Webhook signatures: the published vector, the library as oracle, and hostile headers."""

import base64
from datetime import UTC, datetime

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

import waybridge
from waybridge.signing import SignatureRejected, new_secret, sign_webhook, signed_headers, verify_webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
GOOD = {"webhook-id": MESSAGE, "webhook-timestamp": str(SENT), "webhook-signature": SIGNATURE}


def refused(headers, *, secrets=SECRET, body=BODY, now=SENT) -> str:
    with pytest.raises(SignatureRejected) as caught:
        verify_webhook(secrets, headers, body, now)
    return str(caught.value)


def test_the_published_vector_is_signed_and_verified():
    assert sign_webhook(SECRET, MESSAGE, SENT, BODY) == SIGNATURE
    assert signed_headers(SECRET, MESSAGE, SENT, BODY) == GOOD
    assert verify_webhook(SECRET, GOOD, BODY, SENT) == MESSAGE


def test_authors_find_both_at_the_front_door():
    assert waybridge.verify_webhook is verify_webhook
    assert waybridge.sign_webhook is sign_webhook
    assert waybridge.SignatureRejected is SignatureRejected


def test_while_secrets_overlap_both_sign_and_either_verifies():
    other = new_secret()
    both = signed_headers([other, SECRET], MESSAGE, SENT, BODY)

    assert len(both["webhook-signature"].split(" ")) == 2
    for secrets in (SECRET, other, [new_secret(), SECRET]):
        assert verify_webhook(secrets, both, BODY, SENT) == MESSAGE
    assert refused(both, secrets=[new_secret(), new_secret()]) == "no signature matches"


def test_names_of_headers_match_in_any_case():
    assert verify_webhook(SECRET, {name.title(): value for name, value in GOOD.items()}, BODY, SENT) == MESSAGE


@pytest.mark.parametrize("late", [-300, 300])
def test_five_minutes_are_tolerated_either_way(late):
    assert verify_webhook(SECRET, GOOD, BODY, SENT + late) == MESSAGE


@pytest.mark.parametrize("late", [-301, 301, 1e12])
def test_more_is_not(late):
    assert "too far from now" in refused(GOOD, now=SENT + late)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_or_empty_header_is_refused(missing):
    assert "missing" in refused({name: value for name, value in GOOD.items() if name != missing})
    assert "missing" in refused(GOOD | {missing: ""})


@pytest.mark.parametrize(
    "timestamp",
    ["1614265330.9", " 1614265330", "1614265330 ", "161_4265330", "+1614265330", "-1", "nan", "inf", "١٦١٤", "9" * 400],
)
def test_only_plain_seconds_are_a_time(timestamp):
    assert "unix seconds" in refused(GOOD | {"webhook-timestamp": timestamp})


@pytest.mark.parametrize(
    "signature",
    [
        "v1",
        "v1,",
        "v1,,",
        "v1,a,b,c",
        "v1,!!!!",
        "v1,ü",
        "  ",
        "v2," + SIGNATURE[3:],
        "v1a," + SIGNATURE[3:],
        "V1," + SIGNATURE[3:],
        SIGNATURE[:-2],
        SIGNATURE[3:],
        SIGNATURE[:20] + "!" + SIGNATURE[20:],
        SIGNATURE[:20] + "\n" + SIGNATURE[20:],
        SIGNATURE.replace("g0h", "G0h"),
        "v1,\ud800",
    ],
)
def test_a_hostile_signature_is_refused(signature):
    assert refused(GOOD | {"webhook-signature": signature}) == "no signature matches"


def test_nonsense_beside_a_good_signature_does_no_harm():
    for around in ("v1,!! {}", "{}  v1", "v1a,xyz {} v1,a,b", "v9 {}"):
        assert verify_webhook(SECRET, GOOD | {"webhook-signature": around.format(SIGNATURE)}, BODY, SENT) == MESSAGE


def test_what_was_changed_is_refused():
    assert refused(GOOD, body=BODY + b" ") == "no signature matches"
    assert refused(GOOD | {"webhook-id": "msg_other"}) == "no signature matches"
    assert refused(GOOD | {"webhook-timestamp": str(SENT + 1)}) == "no signature matches"
    assert "too long" in refused(GOOD | {"webhook-id": "m" * 257})


def test_a_body_may_be_any_bytes():
    body = b"\xff\x00\xfe"

    assert verify_webhook(SECRET, signed_headers(SECRET, MESSAGE, SENT, body), body, SENT) == MESSAGE


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "whsec_ä", "whsec_abcde"])
def test_a_bad_secret_signs_nothing_and_verifies_nothing(secret):
    with pytest.raises(ValueError, match="not whsec_ followed by base64"):
        sign_webhook(secret, MESSAGE, SENT, BODY)
    assert "cannot be verified" in refused(GOOD, secrets=secret)
    assert refused(GOOD, secrets=[]) == "no signature matches"


def test_a_new_secret_has_32_random_bytes():
    secret = new_secret()

    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert secret != new_secret()


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    key=st.binary(min_size=24, max_size=64),
    message_id=st.from_regex(r"[A-Za-z0-9_]{1,60}", fullmatch=True),
    sent=st.integers(1, 4_000_000_000),
    body=TEXT,
)
def test_the_library_signs_alike_and_accepts_ours(key, message_id, sent, body):
    secret = "whsec_" + base64.b64encode(key).decode()
    moment = datetime.fromtimestamp(sent, UTC)
    headers = signed_headers(secret, message_id, sent, body.encode())

    assert headers["webhook-signature"] == Webhook(secret).sign(message_id, moment, body)
    with time_machine.travel(moment, tick=False):
        Webhook(secret).verify(body.encode(), headers, json_parse=False)
    assert verify_webhook(secret.rstrip("="), headers, body.encode(), sent) == message_id


ANY = st.text()


@given(
    headers=st.dictionaries(st.sampled_from([*GOOD, "Webhook-Id", "x"]), ANY),
    signature=ANY | st.lists(ANY).map(lambda parts: " ".join(f"v1,{part}" for part in parts)),
    body=st.binary(),
)
def test_whatever_comes_is_refused_and_breaks_nothing(headers, signature, body):
    refused(headers, body=body)
    refused(GOOD | {"webhook-signature": signature}, body=b"other" + body)
    if headers.get("webhook-id", MESSAGE) != MESSAGE:
        refused(GOOD | {"webhook-id": headers["webhook-id"]})
