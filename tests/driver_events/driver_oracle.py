"""An oracle of the driver events, written from the vendor's tables alone: it shares no code with the provider.

It keeps lists of what happened and looks answers up. Times are seconds, as the supplier wrote them.
"""

NAMES = [
    "DRIVER_DEPARTED_TO_PICKUP", "DRIVER_ARRIVED_AT_PICKUP", "DRIVER_SUBMITTED_CUSTOMER_NO_SHOW",
    "DRIVER_DEPARTED_TO_DROPOFF", "DRIVER_ARRIVED_AT_DROPOFF", "DRIVER_LIVE_LOCATION",
]  # fmt: skip
TABLE = """
    last        | DEP_PICKUP ARR_PICKUP NO_SHOW DEP_DROPOFF ARR_DROPOFF LIVE
    nothing     | take       first      first   first       first       first
    DEP_PICKUP  | dup        take       seq     seq         seq         take
    ARR_PICKUP  | dup        dup        take    take        seq         take
    DEP_DROPOFF | dup        dup        seq     dup         take        take
    NO_SHOW     | dup        dup        dup     seq         seq         late
    ARR_DROPOFF | dup        dup        seq     dup         dup         late
"""
SHORT = ["DEP_PICKUP", "ARR_PICKUP", "NO_SHOW", "DEP_DROPOFF", "ARR_DROPOFF", "LIVE"]
ROWS = {row.split("|")[0].strip(): row.split("|")[1].split() for row in TABLE.strip().splitlines()[1:]}


class Oracle:
    """What the pages say must happen to one booking."""

    def __init__(self, strict_later, strict_order, skew):
        self.strict_later, self.strict_order, self.skew = strict_later, strict_order, skew
        self.steps = []
        self.live = []
        self.assigned = None
        self.state = "ok"
        self.started = self.stopped = 0
        self.published = []
        self.kept = 0

    def answer(self, number, sent, now):
        """-> (status, text). Times are seconds; `sent` as the supplier wrote it."""
        name, short = NAMES[number], SHORT[number]
        if sent > now + self.skew:
            return 400, "Event time is in the future"
        if self.assigned is None:
            return 400, "Driver is not assigned to the booking"
        is_live = short == "LIVE"
        if is_live and any(each[0] == sent for each in self.live):
            return 200, "duplicate"
        if not is_live and short in [each[0] for each in self.steps]:
            return 200, "duplicate"
        if sent < self.assigned:
            return 400, "Event time is before driver assignation time"
        last = self.steps[-1] if self.steps else ("nothing", None, None)
        cell = ROWS[last[0]][number]
        last_name = None if last[0] == "nothing" else NAMES[SHORT.index(last[0])]
        if self.state != "ok":
            after = f" after last event submitted {last_name}" if last_name else ""
            return 400, f"Event {name} not allowed{after}: booking is {self.state}"
        if cell == "first":
            return 400, f"Event {name} not allowed as first event"
        at = min(sent, now)
        if cell == "seq" or (cell == "late" and sent > last[2] and at > last[1]):
            return 400, f"Event {name} not allowed after last event submitted {last_name}"
        return self.take_live(sent, at, cell) if is_live else self.take_step(short, sent, at)

    def take_step(self, short, sent, at):
        floor = [self.steps[-1][1]] if self.steps else []
        if self.strict_order:
            floor += [max(each[1] for each in self.live)] if self.live else []
        if floor and (at < max(floor) or (self.strict_later and at == max(floor))):
            return 400, "Event time is before last event time"
        self.steps.append((short, at, sent))
        if short in {"NO_SHOW", "ARR_DROPOFF"}:
            self.end()
        return 200, "accepted"

    def take_live(self, sent, at, cell):
        floor = self.steps[0][1]
        if self.strict_order and cell != "late":
            floor = max([self.steps[-1][1], *(each[1] for each in self.live)])
        if at < floor:
            return 400, "Event time is before last event time"
        older = any(each[1] > at for each in self.live)
        self.live.append((sent, at))
        self.kept += 1
        if cell == "late":
            return 200, "stored-late"
        self.started = 1
        self.published.append(at)
        return 200, "stored-late" if older else "accepted"

    def end(self):
        self.stopped = self.started
