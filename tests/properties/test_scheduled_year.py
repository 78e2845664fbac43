"""A year of fifty schedules: clocks are changed, schedulers are down, jobs take their time; and every run is foretold.

The model knows no cron and no progress: it looks at every quarter of an hour of the year, and goes through the ticks
one after the other.
"""

import heapq
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import (
    Cron,
    Entry,
    Every,
    Misfire,
    Overlap,
    Recurrence,
    RunEnd,
    Schedule,
    occurrence_id_of,
)
from milvaion_trio.policy.scheduling import decide, due_at, end_seen, next_ticks

BEGIN = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 1000
END = int(datetime(2028, 1, 1, tzinfo=UTC).timestamp()) * 1000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

OUTAGES = [
    (BEGIN + day * DAY + hour * HOUR, BEGIN + day * DAY + hour * HOUR + lasting)
    for day, hour, lasting in (
        (3, 0, 40 * 1000),  # a failover within every grace
        (20, 5, 90 * MINUTE),
        (86, 0, 5 * HOUR),  # over the night in which Berlin's clocks jump forward
        (150, 11, 3 * DAY),
        (151 + 20, 0, 30 * 1000),
        (250, 1, 26 * HOUR),
        (303, 22, 6 * HOUR),  # over the night in which Berlin's clocks fall back
    )
]

# Minutes and hours at which it ticks, weekdays (Monday is 0), and whether Cronos takes it for an interval expression.
CRONS: dict[str, tuple[set[int], set[int], set[int], bool]] = {
    "30 2 * * *": ({30}, {2}, set(range(7)), False),
    "0,45 1,2 * * *": ({0, 45}, {1, 2}, set(range(7)), False),
    "15 3 * * 1-5": ({15}, {3}, set(range(5)), False),
    "0 */6 * * *": ({0}, {0, 6, 12, 18}, set(range(7)), True),
    "30 1-3 * * 0,6": ({30}, {1, 2, 3}, {5, 6}, True),
    "0 * * * *": ({0}, set(range(24)), set(range(7)), True),
}
ZONES = ["Europe/Berlin", "America/New_York", "UTC", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu"]
EVERY = [29_999.5, 11 * 3600.0, 5 * 3600.0 + 0.25, 86_400.0, 100_000.5]
OVERLAPS = [Overlap.SKIP, Overlap.QUEUE, Overlap.CANCEL_PREVIOUS, Overlap.ALLOW]
MISFIRES = [Misfire.ONCE, Misfire.ALL, Misfire.SKIP]
GRACES = [60.0, 2 * 3600.0, 45.0]


def fifty() -> Iterator[Schedule]:
    whens: list[Recurrence] = [Cron(expression=text, timezone=zone) for text in CRONS for zone in ZONES]
    every: list[Recurrence] = [Every(seconds) for seconds in EVERY for _ in range(4)]
    # Hourly ones are most of the work: five of the six are left out.
    for number, when in enumerate([*whens[:-5], *every][:50]):
        yield Schedule(
            id=f"s{number}",
            job="J",
            worker_id="w",
            pattern="p",
            when=when,
            overlap=OVERLAPS[number % 4],
            misfire=MISFIRES[number % 3],
            misfire_limit=4,
            grace=GRACES[number % 5 % 3],
            jitter=600.0 if number % 7 == 0 else 0.0,
            disable_after=0,
            lost_after=30 * 3600.0,
            end=END,
        )


def lasts(schedule: Schedule, tick: int) -> int | None:
    """How long the run of this tick takes, in milliseconds; of some nobody ever tells the end."""
    draw = zlib.crc32(f"{schedule.id}/{tick}".encode())
    if draw % 500 == 0:
        return None
    return draw % (10 * HOUR) if draw % 17 == 0 else draw % (20 * MINUTE)


def led_from(moment: int) -> int:
    """The first moment from this one on at which a scheduler is there."""
    for begin, end in OUTAGES:
        if begin <= moment < end:
            return end
    return moment


# --- what happens -----------------------------------------------------------------------------------------------------


def played() -> dict[str, list[tuple[int, int]]]:
    """The ticks that are dispatched, and when, by a leader that is woken by `due_at` and by ends alone."""
    entries = {schedule.id: Entry(schedule=schedule, created=BEGIN) for schedule in fifty()}
    dispatched: dict[str, list[tuple[int, int]]] = {name: [] for name in entries}
    ticks_of = dict[str, tuple[str, int]]()
    wakes = dict[str, int | None]()
    agenda: list[tuple[int, int, str, int]] = []
    """When, ends first; whose; the tick that ends."""

    def look_again(entry: Entry, now: int) -> None:
        name = entry.schedule.id
        entries[name] = entry
        due = due_at(entry, now)
        wakes[name] = None if due is None or due > END else led_from(max(due, now))
        if (wake := wakes[name]) is not None:
            heapq.heappush(agenda, (wake, 1, name, 0))

    for entry in list(entries.values()):
        look_again(entry, BEGIN)
    while agenda:
        now, is_wake, name, tick = heapq.heappop(agenda)
        entry = entries[name]
        if not is_wake:
            end = RunEnd(schedule_id=name, tick=tick, status=OccurrenceStatus.COMPLETED, at=now)
            look_again(end_seen(entry, end), now)
            continue
        if wakes[name] != now:
            continue  # it was looked at since
        decision = decide(entry, now)
        for cancelled in decision.cancels:
            if cancelled in ticks_of:
                heapq.heappush(agenda, (led_from(now + 1000), 0, *ticks_of[cancelled]))
        for tick in decision.dispatches:
            dispatched[name].append((tick, now))
            if entry.schedule.overlap is Overlap.CANCEL_PREVIOUS:
                ticks_of[occurrence_id_of(name, tick)] = name, tick
            if (lasting := lasts(entry.schedule, tick)) is not None:
                heapq.heappush(agenda, (led_from(now + lasting), 0, name, tick))
        look_again(evolve(entry, progress=decision.progress), now)
    return dispatched


# --- what is foretold -------------------------------------------------------------------------------------------------


@frozen
class Quarter:
    """A moment of the year on the clocks of a zone."""

    moment: int
    shown: datetime
    left_out: tuple[datetime, ...]
    """What the clocks jumped over just now."""


@cache
def quarters(zone: str) -> Sequence[Quarter]:
    found: list[Quarter] = []
    before = datetime.fromtimestamp(BEGIN / 1000 - 900, ZoneInfo(zone)).replace(tzinfo=None)
    for moment in range(BEGIN, END + 1, 15 * MINUTE):
        shown = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
        plain = shown.replace(tzinfo=None, fold=0)
        jumped = (plain - before) // timedelta(minutes=15)
        left_out = tuple(before + timedelta(minutes=15) * step for step in range(1, jumped))
        found.append(Quarter(moment, shown, left_out))
        before = plain
    return found


def ticks_of(schedule: Schedule) -> list[int]:
    if isinstance(schedule.when, Every):
        step = round(schedule.when.seconds * 1000)
        return list(range(BEGIN + step, END + 1, step))
    assert isinstance(schedule.when, Cron)
    minutes, hours, weekdays, is_interval = CRONS[schedule.when.expression]

    def fits(shown: datetime) -> bool:
        return shown.minute in minutes and shown.hour in hours and shown.weekday() in weekdays

    return [
        quarter.moment
        for quarter in quarters(schedule.when.timezone)
        if (fits(quarter.shown) and (is_interval or not quarter.shown.fold)) or any(map(fits, quarter.left_out))
    ]


def foretold(schedule: Schedule) -> list[tuple[int, int]]:
    ticks = ticks_of(schedule)
    dues = next_ticks(Entry(schedule=schedule, created=BEGIN), BEGIN - 1, len(ticks)) if schedule.jitter else ticks
    assert all(0 <= due - tick <= 600_000 for tick, due in zip(ticks, dues, strict=True))
    runs: list[tuple[int, int]] = []
    free_from = 0
    for now, group in groupby(zip(ticks, dues, strict=True), key=lambda each: led_from(each[1])):
        those = [each for each in group if now <= END]
        late = [tick for tick, due in those if now - due > schedule.grace * 1000]
        spared = {Misfire.SKIP: 0, Misfire.ONCE: 1, Misfire.ALL: 4}[schedule.misfire]
        missed = late[: max(len(late) - spared, 0)]
        wanted = [tick for tick, _ in those if tick not in missed]
        if schedule.overlap is Overlap.CANCEL_PREVIOUS:
            wanted = wanted[-1:]
        for tick in wanted:
            if schedule.overlap is Overlap.SKIP and now < free_from:
                continue
            begins = max(now, free_from) if schedule.overlap is Overlap.QUEUE else now
            runs.append((tick, begins))
            lasting = lasts(schedule, tick)
            lost = begins + round(schedule.lost_after * 1000)
            free_from = led_from(lost if lasting is None else min(led_from(begins + lasting), lost))
            if schedule.overlap is Overlap.SKIP:
                # A tick that comes in the very moment of a loss is free to run; nobody is woken for the loss itself.
                free_from = lost if lasting is None else free_from
    return runs


def test_a_year_of_fifty_schedules_runs_as_foretold() -> None:
    schedules = list(fifty())
    assert len(schedules) == 50
    happened = played()

    for schedule in schedules:
        assert happened[schedule.id] == foretold(schedule), schedule
    assert sum(map(len, happened.values())) > 40_000
