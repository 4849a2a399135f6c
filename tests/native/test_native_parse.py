"""The native body -> positions: what is kept, what is refused, and how."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge import Position, SourceKey
from waybridge_native.parse import MAX_POSITIONS, InvalidBody, MalformedBody, Parser, decode_strictly, parse_iso

TOKEN = "6d1f5e0e-9d7b-4a7e-8f5e-0123456789ab"
FIX = {"device_token": TOKEN, "latitude": 53.4, "longitude": -2.25, "timestamp": 1_700_000_000}


def parse(body):
    parser = Parser(partial(SourceKey, "native"))
    return parser.parse(body if isinstance(body, bytes) else json.dumps(body).encode())


def test_one_position_has_every_field_in_si_units():
    full = {
        **FIX, "speed": 12.5, "heading": 90, "accuracy": 4, "altitude": 61.5, "battery": 0.5,
        "track_token": "trip:1", "attributes": {"driver": "x:y", "inner": {"a": [1]}}, "instance_id": "acme",
    }  # fmt: skip
    parsed = parse(full)
    assert parsed.instance_id == "acme"
    assert parsed.rejected == []
    (position,) = parsed.positions
    assert type(position) is Position
    assert position == Position(
        source=SourceKey("native", TOKEN), latitude=53.4, longitude=-2.25,
        recorded_at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), speed_mps=12.5, heading_deg=90.0, accuracy_m=4.0,
        altitude_m=61.5, battery=0.5, track_token="trip:1", attributes={"driver": "x:y", "inner": {"a": [1]}},
    )  # fmt: skip


def test_a_position_cannot_be_changed_once_it_is_made():
    (position,) = parse(FIX).positions
    with pytest.raises(AttributeError):
        position.latitude = 1.0


def test_zero_is_a_value_and_absent_is_none():
    (position,) = parse({**FIX, "latitude": 0, "longitude": 0, "speed": 0, "heading": 0, "battery": 0}).positions
    assert (position.latitude, position.longitude, position.speed_mps, position.heading_deg) == (0.0, 0.0, 0.0, 0.0)
    assert position.battery == 0.0
    assert (position.altitude_m, position.accuracy_m, position.track_token) == (None, None, None)
    assert position.attributes == {}


@pytest.mark.parametrize("token", [TOKEN.upper(), TOKEN.replace("-", ""), TOKEN.replace("-", "").upper(), TOKEN])
def test_a_token_that_is_a_uuid_is_canonical(token):
    assert parse({**FIX, "device_token": token}).positions[0].source == SourceKey("native", TOKEN)


@pytest.mark.parametrize(
    ("stamp", "seconds", "micros"),
    [
        (1_700_000_000, 1_700_000_000, 0),
        (1_700_000_000.25, 1_700_000_000, 250_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000, 0),
        ("2023-11-14t22:13:20z", 1_700_000_000, 0),
        ("2023-11-15T00:13:20.5+02:00", 1_700_000_000, 500_000),
        ("2023-11-15T00:13:20+0200", 1_700_000_000, 0),
        ("2023-11-14 17:13:20.123456789-05:00", 1_700_000_000, 123_456),
    ],
)
def test_times_are_unix_seconds_or_iso_with_a_zone(stamp, seconds, micros):
    (position,) = parse({**FIX, "timestamp": stamp}).positions
    assert position.recorded_at == datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)
    assert position.recorded_at.tzinfo is UTC


@pytest.mark.parametrize(
    "stamp",
    [
        "2023-11-14T22:13:20", "2023-11-14", "1700000000", "", "now", "2023-02-30T00:00:00Z", "2023-11-14T22:13:60Z",
        "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", True, None, [], {}, 1e18, -1e18, 1_700_000_000_000,
        "\uff12\uff10\uff12\uff13-11-14T22:13:20Z",
    ],
)  # fmt: skip
def test_other_times_are_rejected_by_name(stamp):
    (rejection,) = parse({**FIX, "timestamp": stamp}).rejected
    assert (rejection.index, rejection.field) == (0, "timestamp")
    assert rejection.error


@pytest.mark.parametrize("field", ["latitude", "longitude", "speed", "heading", "accuracy", "altitude", "battery"])
@pytest.mark.parametrize("value", ["1.5", True, False, [1], {"a": 1}, "NaN"])
def test_what_is_no_number_is_rejected_by_name_and_the_rest_kept(field, value):
    parsed = parse({"positions": [FIX, {**FIX, field: value}, {**FIX, "timestamp": 1_700_000_001}]})
    assert [(one.index, one.field, one.error) for one in parsed.rejected] == [(1, field, "must be a number")]
    assert parsed.indexes == [0, 2]
    assert len(parsed.positions) == 2


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 350, "1" + "0" * 5000])
def test_numbers_too_big_for_a_double_are_rejected_and_the_rest_kept(number):
    good, bad = json.dumps(FIX), json.dumps(FIX).replace("53.4", number)
    parsed = parse(f'{{"positions": [{bad}, {good}]}}'.encode())
    assert [(one.index, one.field, one.error) for one in parsed.rejected] == [(0, "latitude", "must be finite")]
    assert parsed.indexes == [1]


@pytest.mark.parametrize("field", ["device_token", "latitude", "longitude", "timestamp"])
@pytest.mark.parametrize("absent", [True, False])
def test_a_required_field_is_asked_for(field, absent):
    fix = {key: value for key, value in FIX.items() if key != field} if absent else {**FIX, field: None}
    (rejection,) = parse(fix).rejected
    assert (rejection.field, rejection.error) == (field, "is required")


@pytest.mark.parametrize("field", ["device_token", "track_token"])
@pytest.mark.parametrize("text", ["", "x" * 201, "a\0b", "a\nb", "\x7f", 5, ["a"]])
def test_a_token_is_a_short_text_without_control_characters(field, text):
    (rejection,) = parse({**FIX, field: text}).rejected
    assert rejection.field == field


@pytest.mark.parametrize("attributes", [[], "x", 5, {"a": "\0"}, {"\0": 1}, {"a": [{"b": "\ud800"}]}])
def test_attributes_are_an_object_that_every_database_can_keep(attributes):
    (rejection,) = parse({**FIX, "attributes": attributes}).rejected
    assert rejection.field == "attributes"


def test_an_item_that_is_no_object_is_rejected_and_the_rest_kept():
    parsed = parse({"positions": [5, FIX, None, []]})
    assert [one.index for one in parsed.rejected] == [0, 2, 3]
    assert parsed.indexes == [1]


def test_unknown_fields_and_nulls_are_ignored():
    parsed = parse({"positions": [{**FIX, "speed": None, "hdop": 3, "more": {"a": [{"b": 1}]}}], "version": 7})
    assert len(parsed.positions) == 1
    assert parsed.rejected == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{}x", b"nope", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a":1,}', b"{'a':1}", b'{"latitude":NaN}',
        b'{"positions":[{"latitude":Infinity}]}', b'{"a":-Infinity}', b'{"x":01}', b'{"x":"\x01"}', b'{"x":"\xff"}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_not_json_is_malformed(body):
    with pytest.raises(MalformedBody):
        parse(body)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"latitude": 53.4', '"latitude": 53.4, "latitude": 53.4'),
        ('"latitude": 53.4', '"latitude": 53.4, "l\\u0061titude": 1'),
        ('"latitude": 53.4', '"latitude": "x", "latitude": 53.4'),
        ('"longitude": -2.25', '"longitude": -2.25, "speed": 1, "speed": null'),
        ('"longitude": -2.25', '"longitude": -2.25, "unknown": 1, "unknown": 2'),
        ('"longitude": -2.25', '"longitude": -2.25, "attributes": {"a": 1, "a": 2}'),
        ('"longitude": -2.25', '"longitude": -2.25, "attributes": {}, "attributes": {}'),
        ('"longitude": -2.25', '"longitude": -2.25, "x": {"y": [{"a": 1, "a": 1}]}'),
        ('"timestamp": 1700000000', '"timestamp": "2023-11-14T22:13:20\\u003a", "timestamp": 1700000000'),
        ('"longitude": -2.25', '"longitude": -2.25, "instance_id": "a", "instance_id": "b"'),
    ],
)
def test_a_duplicate_key_is_malformed_wherever_it_stands(old, new):
    body = json.dumps(FIX)
    assert old in body
    for whole in (body.replace(old, new), '{"positions": [' + body + "," + body.replace(old, new) + "]}"):
        with pytest.raises(MalformedBody, match="duplicate key"):
            parse(whole.encode())


@pytest.mark.parametrize("body", [[], [FIX], 5, "x", None, True])
def test_a_body_that_is_no_object_is_invalid(body):
    with pytest.raises(InvalidBody):
        parse(body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"positions": []}, "positions"),
        ({"positions": [FIX] * (MAX_POSITIONS + 1)}, "positions"),
        ({"positions": None}, "positions"),
        ({"positions": {"0": FIX}}, "positions"),
        ({"positions": [FIX], "instance_id": 5}, "instance_id"),
        ({**FIX, "instance_id": ["a"]}, "instance_id"),
    ],
)
def test_a_wrong_shape_of_the_whole_is_invalid_and_named(body, field):
    with pytest.raises(InvalidBody) as caught:
        parse(body)
    assert caught.value.field == field


def test_a_thousand_positions_are_taken():
    assert len(parse({"positions": [FIX] * MAX_POSITIONS}).positions) == MAX_POSITIONS


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from([*FIX, "speed", "heading", "battery", "track_token", "attributes", "instance_id", "x:y"])
bodies = st.dictionaries(fields, values | st.floats(-90, 90) | st.just("2023-11-14T22:13:20+01:00"), max_size=8)


@given(st.lists(bodies, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_the_quick_way_and_the_careful_way_read_the_same(items, ascii_only, batched):
    items = [{**FIX, **item} for item in items]
    tree = {"positions": items} if batched else items[0]
    body = json.dumps(tree, ensure_ascii=ascii_only).encode()
    parser = Parser(partial(SourceKey, "native"))
    quick = parser._quick(body)
    if quick is not None:
        careful = parser._careful(body)
        assert (quick.positions, quick.instance_id, careful.rejected) == (careful.positions, careful.instance_id, [])


@given(st.lists(bodies, min_size=1, max_size=3), st.data())
def test_no_duplicate_key_ever_gets_past_the_arithmetic(items, data):
    items = [{**FIX, **item} for item in items]
    chosen = data.draw(st.sampled_from(items))
    key = data.draw(st.sampled_from(sorted(chosen)))
    doubled = json.dumps({"!": 0, **chosen}, ensure_ascii=False).replace('"!"', json.dumps(key, ensure_ascii=False), 1)
    texts = [doubled if item is chosen else json.dumps(item, ensure_ascii=False) for item in items]
    with pytest.raises(MalformedBody):
        parse(('{"positions":[' + ",".join(texts) + "]}").encode())


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_parsed_or_refused_on_purpose(body):
    with contextlib.suppress(MalformedBody, InvalidBody):
        parse(body)


def test_strict_decoding_reads_what_json_reads():
    assert decode_strictly(b'{"a": [1, 2.5, "x", null, true]}') == {"a": [1, 2.5, "x", None, True]}


def test_iso_times_come_out_in_utc():
    assert parse_iso("2020-01-01T00:00:00+05:30") == datetime(
        2020, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))
    )
    assert parse_iso("2020-01-01T00:00:00+05:30").utcoffset() == timedelta(0)
