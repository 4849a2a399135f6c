"""Rate limits on a clock that the test owns, and who a client is behind proxies."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge.limits import Bucket, MemoryLimiter, Verdict, buckets, client_key, headers
from waybridge.settings import LimitSettings


class Clock:
    def __init__(self, start: float = 0.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now


def limiter(clock, *, per_minute=60, burst=60, capacity=1_000) -> MemoryLimiter:
    return MemoryLimiter({"b": Bucket(per_minute=per_minute, burst=burst)}, monotonic=clock, capacity=capacity)


async def passed(limit: MemoryLimiter, times: int, key: str = "k") -> int:
    return sum([(await limit.hit("b", key)).allowed for _ in range(times)])


@pytest.mark.parametrize("start", [0.0, 12.7, 3e6])
async def test_a_minutes_worth_passes_at_once_and_no_more(start):
    limit = limiter(Clock(start))

    assert await passed(limit, 100) == 60


async def test_the_bucket_fills_steadily():
    clock = Clock()
    limit = limiter(clock)
    await passed(limit, 60)

    clock.now = 0.99
    assert await passed(limit, 5) == 0
    clock.now = 1.0
    assert await passed(limit, 5) == 1
    clock.now = 11.0
    assert await passed(limit, 50) == 10
    clock.now = 3_600.0
    assert await passed(limit, 100) == 60


async def test_a_refusal_costs_nothing():
    clock = Clock()
    limit = limiter(clock, per_minute=6, burst=1)
    await limit.hit("b", "k")
    for _ in range(50):
        assert (await limit.hit("b", "k")).retry_after == pytest.approx(10)

    clock.now = 10.0
    assert (await limit.hit("b", "k")).allowed


@given(
    per_minute=st.integers(1, 600),
    burst=st.integers(1, 100),
    waits=st.lists(st.floats(0, 5), min_size=1, max_size=300),
)
async def test_no_minute_ever_has_more_than_burst_and_rate(per_minute, burst, waits):
    clock = Clock(1e5)
    limit = limiter(clock, per_minute=per_minute, burst=burst)
    times = []
    for wait in waits:
        clock.now += wait
        verdict = await limit.hit("b", "k")
        if verdict.allowed:
            times.append(clock.now)
        else:
            assert verdict.retry_after > 0
    for index, begin in enumerate(times):
        inside = sum(1 for moment in times[index:] if moment <= begin + 60)
        assert inside <= burst + per_minute


@given(per_minute=st.integers(1, 6_000), burst=st.integers(1, 200), spent=st.integers(0, 400))
async def test_what_a_verdict_says_is_true(per_minute, burst, spent):
    clock = Clock(7e4)
    limit = limiter(clock, per_minute=per_minute, burst=burst)
    await passed(limit, spent)
    verdict = await limit.hit("b", "k")

    if verdict.allowed:
        assert await passed(limit, burst + 5) == verdict.remaining
    else:
        assert verdict.remaining == 0
        clock.now += verdict.retry_after * 0.99 - 1e-5
        assert not (await limit.peek("b", "k")).allowed
        clock.now += verdict.retry_after * 0.01 + 1e-5
        assert (await limit.hit("b", "k")).allowed


async def test_peeking_counts_nothing():
    limit = limiter(Clock(), burst=3)
    for _ in range(10):
        assert (await limit.peek("b", "k")).allowed
    assert await passed(limit, 10) == 3
    assert not (await limit.peek("b", "k")).allowed
    assert len(limit) == 1


async def test_keys_do_not_share():
    limit = limiter(Clock(), burst=2)

    assert await passed(limit, 5, "a") == 2
    assert await passed(limit, 5, "b") == 2


async def test_the_table_is_bounded_and_forgets_the_longest_unseen():
    limit = limiter(Clock(), burst=1, capacity=3)
    for key in "abcab":
        await limit.hit("b", key)
    await limit.hit("b", "d")

    assert len(limit) == 3
    assert (await limit.peek("b", "c")).allowed
    for key in "abd":
        assert not (await limit.peek("b", key)).allowed


async def test_an_unknown_bucket_is_a_mistake():
    with pytest.raises(KeyError):
        await limiter(Clock()).hit("other", "k")


def test_the_settings_make_the_buckets():
    made = buckets(LimitSettings(public_requests_per_minute=5, public_misses_burst=2))

    assert made["public"] == Bucket(per_minute=5, burst=5)
    assert made["misses"] == Bucket(per_minute=10, burst=2)
    assert made["token"] == Bucket(per_minute=60, burst=60)


def test_headers_say_what_is_left():
    bucket = Bucket(per_minute=60, burst=60)

    assert headers("public", bucket, Verdict(True, 12, 0.0, 47.2)) == {
        "RateLimit-Policy": '"public";q=60;w=60',
        "RateLimit": '"public";r=12;t=48',
    }
    assert headers("public", bucket, Verdict(False, 0, 0.2, 60)) == {
        "RateLimit-Policy": '"public";q=60;w=60',
        "RateLimit": '"public";r=0;t=1',
        "Retry-After": "1",
    }


TRUSTED = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8:ffff::/48", "127.0.0.1/32")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "key"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["1.1.1.1"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["9.9.9.9, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["9.9.9.9", "1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["9.9.9.9, 1.1.1.1, 10.2.3.4,  10.0.0.9 "], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1", "2001:db8:ffff::2"], "1.1.1.1"),
        ("10.0.0.1", ["10.0.0.5, 10.0.0.4"], "10.0.0.5"),
        ("10.0.0.1", ["1.1.1.1:4711"], "1.1.1.1"),
        ("10.0.0.1", ["[2606:4700::1]:4711"], "2606:4700::/64"),
        ("10.0.0.1", ["nonsense, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1,"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["127.1"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["::ffff:1.1.1.1"], "1.1.1.1"),
        ("2606:4700:1:2:3:4:5:6", [], "2606:4700:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["1.1.1.1"], "unknown"),
        ("", [], "unknown"),
        ("/run/socket", ["1.1.1.1"], "unknown"),
    ],
)
def test_a_client_is_found_from_the_right(peer, forwarded, key):
    assert client_key(peer, forwarded, TRUSTED) == key


@given(st.lists(st.text()), st.sampled_from(["10.0.0.1", "203.0.113.7"]))
def test_any_header_makes_some_key(forwarded, peer):
    assert client_key(peer, forwarded, TRUSTED)
