"""OwnTracks and Traccar Client: their payloads, their units, their batches."""

import json
import logging
from datetime import UTC, datetime

import pytest

from waybridge import Profile, ProviderContext, Push, PushRejected, Sender, vendor_device_token
from waybridge_osmand import OsmAnd, OsmAndSettings
from waybridge_owntracks import OwnTracks, OwnTracksSettings

NOW = datetime(2026, 4, 12, 12, 0, tzinfo=UTC)
TAKEN = datetime(2026, 4, 12, 11, 59, 30, tzinfo=UTC)
STAMP = int(TAKEN.timestamp())


@pytest.fixture(params=[(OwnTracks, OwnTracksSettings), (OsmAnd, OsmAndSettings)], ids=["owntracks", "osmand"])
def phone(request):
    return make(*request.param)


def make(kind, settings):
    counts = {}

    def count(name, amount=1):
        counts[name] = counts.get(name, 0) + amount

    context = ProviderContext(
        instance_id="acme", connection_id="phones", session=None, state=None, clock=None, count=count,
        log=logging.getLogger("test"),
    )  # fmt: skip
    return kind(settings(), context)


@pytest.fixture
def owntracks():
    return make(OwnTracks, OwnTracksSettings)


@pytest.fixture
def osmand():
    return make(OsmAnd, OsmAndSettings)


def push(body=b"", *, method="POST", query=None, headers=None, device=None, path=""):
    return Push(
        method=method, path=path, segments=tuple(path.split("/")) if path else (), query=query or {},
        headers=headers or {}, body=body if isinstance(body, bytes) else json.dumps(body).encode(), received_at=NOW,
        sender=Sender(subject="phone", instances=frozenset({"acme"}), device_token=device),
    )  # fmt: skip


# OwnTracks.

LOCATION = {
    "_type": "location", "lat": 48.1486, "lon": 17.1077, "tst": STAMP, "acc": 12, "alt": 140, "vel": 36, "cog": 270,
    "batt": 87, "tid": "JS", "t": "u", "conn": "w", "topic": "owntracks/jana/phone", "BSSID": "x", "_id": "a1",
}  # fmt: skip


async def test_owntracks_units_become_si(owntracks):
    receipt = await owntracks.receive(push(LOCATION))
    (position,) = receipt.reports
    assert (position.latitude, position.longitude, position.recorded_at) == (48.1486, 17.1077, TAKEN)
    assert (position.speed_mps, position.heading_deg, position.battery) == (10.0, 270.0, 0.87)
    assert (position.accuracy_m, position.altitude_m) == (12.0, 140.0)
    assert position.source.external_id == "jana/phone"
    assert position.attributes == {"owntracks.t": "u", "owntracks.tid": "JS"}
    assert receipt.answer.body == b"[]"
    assert receipt.answer.status == 200


async def test_owntracks_leaves_unknown_values_unknown(owntracks):
    (position,) = (
        await owntracks.receive(push({"_type": "location", "lat": 0, "lon": 0, "tst": STAMP, "tid": "A"}))
    ).reports
    assert (position.latitude, position.longitude) == (0.0, 0.0)
    assert (position.speed_mps, position.heading_deg, position.battery, position.accuracy_m) == (None,) * 4


async def test_owntracks_names_a_phone_by_topic_headers_or_tracker_id(owntracks):
    async def name(item, **more):
        return (await owntracks.receive(push(item, **more))).reports[0].source.external_id

    plain = {key: value for key, value in LOCATION.items() if key != "topic"}
    headers = {"x-limit-u": "jana", "x-limit-d": "tablet"}
    assert await name(LOCATION, headers=headers) == "jana/phone"
    assert await name(plain, headers=headers) == "jana/tablet"
    assert await name(plain) == "JS"
    del plain["tid"]
    assert await name(plain, device="van-1") == "van-1"
    assert (await owntracks.receive(push(plain))).reports == []


async def test_owntracks_lists_are_taken_and_bad_items_left_out(owntracks):
    bad = [
        {**LOCATION, "lat": "48"},
        {**LOCATION, "tst": None},
        {**LOCATION, "vel": True},
        5,
        {},
        {**LOCATION, "tst": 1e18},
    ]
    receipt = await owntracks.receive(push([LOCATION, *bad, {**LOCATION, "tst": STAMP + 1}]))
    assert len(receipt.reports) == 2
    assert [one.index for one in receipt.rejected] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["lwt", "transition", "waypoints", "status", "encrypted", "steps"])
async def test_owntracks_other_payloads_are_no_positions(owntracks, kind):
    receipt = await owntracks.receive(push({"_type": kind, "tst": STAMP, "tid": "A"}))
    assert (receipt.reports, receipt.rejected, receipt.answer.body) == ([], [], b"[]")


async def test_owntracks_a_card_is_a_profile(owntracks):
    (profile,) = (await owntracks.receive(push({"_type": "card", "name": "Jana N", "tid": "A"}))).reports
    assert profile == Profile(source=profile.source, full_name="Jana N")


async def test_owntracks_an_empty_body_is_a_deleted_friend(owntracks):
    receipt = await owntracks.receive(push(b""))
    assert (receipt.reports, receipt.answer.body) == ([], b"[]")


# OsmAnd and Traccar Client.

FORM = {
    "id": "123456", "lat": "48.1486", "lon": "17.1077", "timestamp": str(STAMP), "speed": "10", "bearing": "45.5",
    "altitude": "140.5", "accuracy": "3", "batt": "50", "token": "secret-in-the-query", "hdop": "1.2",
}  # fmt: skip


async def test_the_osmand_form_in_the_query_is_converted_from_knots(osmand):
    receipt = await osmand.receive(push(method="GET", query=FORM))
    (position,) = receipt.reports
    assert (position.latitude, position.longitude, position.recorded_at) == (48.1486, 17.1077, TAKEN)
    assert position.speed_mps == pytest.approx(5.1444, abs=1e-4)
    assert (position.heading_deg, position.altitude_m, position.accuracy_m) == (45.5, 140.5, 3.0)
    assert (position.battery, position.source.external_id) == (0.5, "123456")
    assert "secret-in-the-query" not in repr(position)
    assert receipt.answer.status == 200


async def test_the_osmand_form_in_the_body_is_the_same(osmand):
    body = "&".join(f"{key}={value}" for key, value in FORM.items() if key != "token").encode()
    queried = (await osmand.receive(push(query=FORM))).reports
    assert (await osmand.receive(push(body, query={"token": "t"}))).reports == queried
    location = {"deviceid": "123456", "location": "48.1486,17.1077", "timestamp": str(STAMP)}
    (position,) = (await osmand.receive(push(method="GET", query=location))).reports
    assert (position.latitude, position.longitude, position.source.external_id) == (48.1486, 17.1077, "123456")


@pytest.mark.parametrize(
    "text",
    [
        str(STAMP),
        f"{STAMP}.0",
        f"{STAMP}000",
        "2026-04-12T11:59:30Z",
        "2026-04-12T13:59:30+02:00",
        "2026-04-12 11:59:30",
    ],
)
async def test_the_osmand_form_takes_its_times(osmand, text):
    (position,) = (await osmand.receive(push(method="GET", query={**FORM, "timestamp": text}))).reports
    assert position.recorded_at == TAKEN


async def test_a_fix_without_a_time_is_as_old_as_its_arrival(osmand):
    fields = {key: value for key, value in FORM.items() if key != "timestamp"}
    assert (await osmand.receive(push(method="GET", query=fields))).reports[0].recorded_at == NOW


def traccar(**more):
    return {
        "location": {
            "timestamp": "2026-04-12T11:59:30.000Z", "is_moving": True, "odometer": 5, "event": "motionchange",
            "coords": {
                "latitude": 48.1486, "longitude": 17.1077, "accuracy": 5, "speed": 10.5, "heading": 90, "altitude": 140,
            },
            "battery": {"level": 0.5, "is_charging": False}, "activity": {"type": "still"}, "extras": {},
        },
        "device_id": "48241179", **more,
    }  # fmt: skip


async def test_the_newer_json_of_traccar_client_is_in_si_already(osmand):
    (position,) = (await osmand.receive(push(traccar()))).reports
    assert (position.latitude, position.longitude, position.recorded_at) == (48.1486, 17.1077, TAKEN)
    assert (position.speed_mps, position.heading_deg, position.battery) == (10.5, 90.0, 0.5)
    assert position.source.external_id == "48241179"


async def test_the_newer_json_comes_in_batches_and_with_unknowns(osmand):
    several = traccar()["location"]
    assert len((await osmand.receive(push(traccar(location=[several, several])))).reports) == 2
    assert len((await osmand.receive(push([traccar(), traccar()]))).reports) == 2
    bare = {"timestamp": "2026-04-12T11:59:30Z", "coords": {"latitude": 1, "longitude": 2}, "battery": {"level": -1}}
    (position,) = (await osmand.receive(push({"location": bare, "device_id": 7}))).reports
    assert (position.battery, position.speed_mps, position.source.external_id) == (None, None, "7")


@pytest.mark.parametrize(
    "change",
    [
        {"lat": ""}, {"lat": "x"}, {"lat": "NaN"}, {"lon": "1_0"}, {"speed": "fast"}, {"timestamp": "soon"},
        {"timestamp": "9" * 30}, {"id": ""}, {"lat": "1e999"}, {"timestamp": "9999-12-31T23:59:59-12:00"},
    ],
)  # fmt: skip
async def test_a_form_that_is_wrong_is_400(osmand, change):
    with pytest.raises(PushRejected) as caught:
        await osmand.receive(push(method="GET", query={**FORM, **change}))
    assert caught.value.status == 400
    assert b"secret" not in caught.value.body


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[" * 50_000, b"{}", b"[5]", b'{"location": NaN}', traccar(device_id=None), traccar(location=None),
        traccar(location={"timestamp": 5, "coords": {"latitude": 1, "longitude": 2}}),
        traccar(location={"timestamp": "2026-04-12T11:59:30Z", "coords": {"latitude": "1", "longitude": 2}}),
        traccar(location={"timestamp": "x", "coords": {"latitude": 1, "longitude": 2}}),
        traccar(location={**traccar()["location"], "battery": {"level": "full"}}),
    ],
)  # fmt: skip
async def test_a_json_that_is_wrong_is_400(osmand, body):
    with pytest.raises(PushRejected) as caught:
        await osmand.receive(push(body))
    assert caught.value.status == 400


# Both.


async def test_a_bound_token_decides_which_phone_it_is(phone):
    fix = LOCATION if isinstance(phone, OwnTracks) else traccar()
    own = "jana/phone" if isinstance(phone, OwnTracks) else "48241179"
    assert (await phone.receive(push(fix, device="van-1"))).reports[0].source.external_id == "van-1"
    computed = vendor_device_token("acme", "phones", own)
    assert (await phone.receive(push(fix, device=computed))).reports[0].source.external_id == own


def test_tokens_come_in_the_places_that_phones_can_write_them(phone):
    assert phone.capabilities.receives
    assert phone.capabilities.token_in == {"header", "basic", "query"}


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", "", 405), ("POST", "elsewhere", 404)])
async def test_other_requests_are_refused(phone, method, path, status):
    with pytest.raises(PushRejected) as caught:
        await phone.receive(push(LOCATION, method=method, path=path))
    assert caught.value.status == status


@pytest.mark.parametrize("body", [b"\xff", b'{"a":', b'["\xff"]', b'{"location": ' + b"1" * 5000 + b"}"])
async def test_bytes_that_are_no_payload_are_400(phone, body):
    with pytest.raises(PushRejected) as caught:
        await phone.receive(push(body))
    assert caught.value.status == 400
