"""What the vendor says, read: the literal examples of its documents, and every shape that the tables name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge_mycartracks.payload import (
    ALIASES,
    ENVELOPES,
    NESTED,
    Connected,
    Fix,
    Gone,
    Heartbeat,
    Trouble,
    Unreadable,
    find_rows,
    parse_event,
    parse_row,
    parse_session,
)
from waybridge_mycartracks.values import heading_deg, identity, moment, speed_mps, text

POSITION = """{
  "type": "vehicle.position.updated",
  "vehicleId": 123,
  "vehicleName": "Van 12",
  "userId": 42,
  "userName": "John Smith",
  "latitude": 48.1486,
  "longitude": 17.1077,
  "speed": 42.5,
  "heading": 90.0,
  "recordedAt": "2026-06-01T14:21:35Z",
  "receivedAt": "2026-06-01T14:21:38Z",
  "onlineState": "online"
}"""
OFFLINE = '{"type": "vehicle.offline", "vehicleId": 123, "lastSeenAt": "2026-06-01T14:19:12Z"}'
STREAM = """{
  "streamId": "lps_01HZ0000000000000000000000",
  "websocketUrl": "wss://mycartracks.com/services/rest/v3/vehicles/livePositions/stream/lps_01HZ0000000000000000000000?token=...",
  "expiresAt": "2026-06-01T14:30:00Z",
  "heartbeatSeconds": 30,
  "minIntervalSeconds": 5
}"""
RECORDED = datetime(2026, 6, 1, 14, 21, 35, tzinfo=UTC)


def row(**changes: Any) -> dict[str, Any]:
    return {"vehicleId": 1, "latitude": 48.0, "longitude": 17.0, "recordedAt": "2026-06-01T14:21:35Z"} | changes


def fix(**changes: Any) -> Fix:
    parsed = parse_row(row(**changes), "kmh")
    assert parsed is not None
    return parsed


def test_the_documented_position_event_becomes_a_fix_in_our_units() -> None:
    event = parse_event(POSITION, "kmh")

    assert isinstance(event, Fix)
    assert (event.vehicle_id, event.latitude, event.longitude) == ("123", 48.1486, 17.1077)
    assert event.recorded_at == RECORDED
    assert event.speed_mps == pytest.approx(11.8056, abs=1e-4)
    assert (event.heading_deg, event.online) == (90.0, True)
    assert (event.vehicle_name, event.user_name) == ("Van 12", "John Smith")
    assert event.attributes == {
        "mycartracks.vehicleName": "Van 12",
        "mycartracks.userId": 42,
        "mycartracks.userName": "John Smith",
        "mycartracks.receivedAt": "2026-06-01T14:21:38Z",
        "mycartracks.onlineState": "online",
    }


def test_the_documented_offline_event_carries_no_coordinate() -> None:
    assert parse_event(OFFLINE, "kmh") == Gone("123", datetime(2026, 6, 1, 14, 19, 12, tzinfo=UTC))


def test_the_documented_stream_answer_is_understood() -> None:
    session = parse_session(json.loads(STREAM))

    assert session is not None
    assert session.websocket_url.startswith("wss://mycartracks.com/services/")
    assert session.expires_at == datetime(2026, 6, 1, 14, 30, tzinfo=UTC)
    assert (session.heartbeat_seconds, session.min_interval_seconds) == (30, 5)
    assert "token" not in repr(session)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('{"type":"connected","streamId":"lps_01"}', Connected()),
        ('{"type":"heartbeat","sentAt":"2026-06-01T14:21:35Z"}', Heartbeat()),
        ('{"type":"error","code":"upstream","message":"late"}', Trouble("upstream", "late")),
        ('{"type":"error","code":17}', Trouble("17", "")),
        ('{"type":"error"}', Trouble("None", "")),
        ('{"type":"vehicle.door.opened","vehicleId":1}', Unreadable("unknown_event")),
        ('{"vehicleId":1}', Unreadable("unknown_event")),
        ('{"type":["connected"]}', Unreadable("unknown_event")),
        ('{"type":"vehicle.offline"}', Unreadable("event_without_vehicle")),
        ('{"type":"vehicle.position.updated","vehicleId":1}', Unreadable("event_without_position")),
        ("[]", Unreadable("malformed_frame")),
        ('"connected"', Unreadable("malformed_frame")),
        ("{not json", Unreadable("malformed_frame")),
        ('{"type":"vehicle.position.updated","vehicleId":1,"latitude":NaN}', Unreadable("malformed_frame")),
        ("", Unreadable("malformed_frame")),
        ("[" * 5000 + "]" * 5000, Unreadable("malformed_frame")),
    ],
)
def test_every_kind_of_frame_is_told_apart(frame: str, expected: object) -> None:
    assert parse_event(frame, "kmh") == expected


def test_an_event_of_the_four_needed_fields_is_enough() -> None:
    event = parse_event(json.dumps(row() | {"type": "vehicle.position.updated"}), "kmh")

    assert isinstance(event, Fix)
    assert (event.speed_mps, event.heading_deg, event.online, event.user_name) == (None, None, None, None)


@pytest.mark.parametrize("envelope", [*ENVELOPES, None])
def test_rows_are_found_in_every_envelope(envelope: str | None) -> None:
    rows = [row()]
    assert find_rows(rows if envelope is None else {"total": 1, envelope: rows}) == rows


@pytest.mark.parametrize("body", [None, 1, "x", {}, {"rows": [1]}, {"data": None}, {"data": {"x": 1}}])
def test_an_unknown_shape_is_said_to_be_one(body: object) -> None:
    assert find_rows(body) is None


def test_rows_are_found_below_data_too() -> None:
    assert find_rows({"data": {"items": [1]}}) == [1]


def test_an_empty_list_is_no_unknown_shape() -> None:
    assert find_rows({"data": []}) == []


@pytest.mark.parametrize("nest", NESTED)
def test_a_nested_position_is_merged_and_the_row_wins(nest: str) -> None:
    nested = {
        "id": 7,
        "name": "Van 7",
        nest: {"id": 99, "name": "a point", "lat": 1.5, "lng": 2.5, "speed": 36, "timestamp": 1_780_323_695},
    }

    parsed = parse_row(nested, "kmh")

    assert parsed is not None
    assert (parsed.vehicle_id, parsed.vehicle_name) == ("7", "Van 7")
    assert (parsed.latitude, parsed.longitude, parsed.speed_mps) == (1.5, 2.5, 10.0)
    assert parsed.recorded_at == datetime.fromtimestamp(1_780_323_695, UTC)


@pytest.mark.parametrize(("ours", "theirs"), [(name, alias) for name, aliases in ALIASES.items() for alias in aliases])
def test_every_alias_is_read(ours: str, theirs: str) -> None:
    plain = row(
        vehicleName="n", userId=2, userName="u", speed=3, heading=4, receivedAt=1_780_323_700, onlineState="online"
    )
    renamed = {name: value for name, value in plain.items() if name != ours} | {theirs: plain[ours]}

    assert parse_row(renamed, "ms") == parse_row(plain, "ms")


def test_id_is_the_vehicle_only_without_a_vehicle_id() -> None:
    assert fix(id=555).vehicle_id == "1"
    assert fix(vehicleId=None, id=555).vehicle_id == "555"


def test_a_location_that_is_an_address_is_no_position() -> None:
    assert fix(location="Bratislava").latitude == 48.0


@pytest.mark.parametrize(
    "changes",
    [
        {"vehicleId": None},
        {"vehicleId": True},
        {"vehicleId": ""},
        {"vehicleId": "a\x00b"},
        {"vehicleId": "x" * 201},
        {"latitude": None},
        {"latitude": "48.0"},
        {"latitude": True},
        {"latitude": 90.001},
        {"latitude": 10**400},
        {"longitude": -180.001},
        {"longitude": None},
    ],
)
def test_a_row_without_a_vehicle_or_a_valid_coordinate_is_no_position(changes: dict[str, Any]) -> None:
    assert parse_row(row(**changes), "kmh") is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2026-06-01T14:21:35Z", RECORDED),
        ("2026-06-01T16:21:35+02:00", RECORDED),
        ("2026-06-01T14:21:35", RECORDED),
        ("2026-06-01T14:21:35.250Z", RECORDED + timedelta(milliseconds=250)),
        (1_780_323_695, RECORDED),
        (1_780_323_695_000, RECORDED),
        (1_780_323_695_250, RECORDED + timedelta(milliseconds=250)),
        ("1780323695", RECORDED),
        (1_780_323_695.5, RECORDED + timedelta(milliseconds=500)),
        ("yesterday", None),
        ("", None),
        ("9" * 5000, None),
        (1e300, None),
        (True, None),
        (None, None),
        ({}, None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times_are_iso_or_numbers_and_always_aware(said: object, expected: datetime | None) -> None:
    parsed = moment(said)

    assert parsed == expected
    assert parsed is None or parsed.tzinfo is UTC or parsed.utcoffset() == UTC.utcoffset(None)


def test_a_fix_without_recorded_time_was_taken_when_the_vendor_got_it() -> None:
    assert fix(recordedAt=None, receivedAt="2026-06-01T14:21:35Z").recorded_at == RECORDED
    assert fix(recordedAt=None).recorded_at is None


@pytest.mark.parametrize(
    ("said", "unit", "expected"),
    [(36, "kmh", 10.0), (10, "ms", 10.0), (10, "mph", 4.4704), (0, "kmh", 0.0), (-1, "kmh", None), ("36", "kmh", None)],
)
def test_speed_is_converted_from_the_configured_unit(said: object, unit: str, expected: float | None) -> None:
    assert speed_mps(said, unit) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("said", "expected"), [(0, 0.0), (359.9, 359.9), (360, 0.0), (361, None), (-1, None), (None, None)]
)
def test_heading_is_kept_within_the_circle(said: object, expected: float | None) -> None:
    assert heading_deg(said) == expected


@pytest.mark.parametrize(
    ("state", "expected"), [("online", True), ("ONLINE", True), ("offline", False), ("parked", None), (7, None)]
)
def test_the_online_state_is_mapped_and_kept_raw(state: object, expected: bool | None) -> None:
    parsed = fix(onlineState=state)

    assert parsed.online is expected
    assert parsed.attributes["mycartracks.onlineState"] == state


def test_unknown_plain_fields_are_kept_under_our_namespace_within_bounds() -> None:
    extras = {f"extra{n}": n for n in range(100)}
    attributes = fix(odometer=1200.5, nested={"a": 1}, long="x" * 500, **extras).attributes

    assert attributes["mycartracks.odometer"] == 1200.5
    assert "mycartracks.nested" not in attributes
    assert "mycartracks.long" not in attributes
    assert len(attributes) == 20


@pytest.mark.parametrize(("said", "expected"), [(123, "123"), ("123", "123"), (123.0, "123"), (1.5, None), ([], None)])
def test_ids_are_text(said: object, expected: str | None) -> None:
    assert identity(said) == expected


def test_names_lose_control_characters() -> None:
    assert text("  Van\x00 12\u202e ") == "Van 12"
    assert text("   ") is None


@pytest.mark.parametrize(
    "body", [None, [], {}, {"websocketUrl": None}, {"websocketUrl": ""}, {"websocketUrl": 5}, {"data": {"x": 1}}]
)
def test_a_stream_answer_without_an_address_is_none(body: object) -> None:
    assert parse_session(body) is None


def test_a_stream_answer_may_be_enveloped_and_lack_everything_else() -> None:
    session = parse_session({"data": {"websocketUrl": "wss://x/y", "heartbeatSeconds": -4, "expiresAt": "soon"}})

    assert session is not None
    assert (session.heartbeat_seconds, session.expires_at) == (1.0, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*[a for names in ALIASES.values() for a in names], "type", *NESTED]), inner)
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["vehicle.position.updated", "vehicle.offline", "error", "x"]))
def test_whatever_json_comes_is_read_or_refused_but_never_raises(body: Any, kind: str) -> None:
    parse_session(body)
    rows = find_rows(body)
    for one in [body, *(rows or [])]:
        parsed = parse_row(one, "kmh")
        assert parsed is None or (-90 <= parsed.latitude <= 90 and -180 <= parsed.longitude <= 180)
    parse_event(json.dumps(body | {"type": kind} if isinstance(body, dict) else body), "kmh")


@given(st.text())
def test_no_frame_at_all_raises(frame: str) -> None:
    parse_event(frame.encode("utf-8", "surrogatepass"), "kmh")
