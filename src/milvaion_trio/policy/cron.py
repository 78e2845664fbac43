"""When a cron expression ticks, on the clocks of a time zone.

Separate from the matching of fields (`policy.cron_fields`): this is about clocks that are changed, by Cronos' rules.
Where they jump forward, times in between tick once, right after. Where they fall back, a fixed time ticks only the
first time that they show it; an interval expression (`*`, ranges or steps in second, minute or hour) both times.
"""

from attrs import field, frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.schedule import Millis
from milvaion_trio.policy.cron_fields import CronFields
from milvaion_trio.policy.cron_grammar import read_expression, six_fields
from milvaion_trio.policy.zones import END, Span, problem_of_zone, span_at

__all__ = ["CronTimes", "parse_cron"]


@frozen
class CronTimes:
    """The ticks of a cron expression, from 1970 to some time after the year 9000. Make one with `parse_cron`."""

    expression: str
    """With all its six fields, as Milvaion takes it."""
    timezone: str
    fields: CronFields = field(repr=False)

    @property
    def is_never(self) -> bool:
        """No date fits the expression, as with 30 February."""
        return self.fields.never

    def after(self, moment: Millis) -> Millis | None:
        """The first tick strictly after; `None` when there never is one."""
        if self.fields.never:
            return None
        second = max(moment // 1000 + 1, 0)
        while second < END:
            span = span_at(self.timezone, second)
            if second == span.start and self._ticks_at_jump(span):
                return second * 1000
            begin = second if self.fields.is_interval else max(second, span.fresh)
            local = self.fields.first_from(begin + span.offset)
            if local - span.offset < span.end:
                return (local - span.offset) * 1000
            # Not nearer to the match: clocks that fall back show earlier times first, which may match, too.
            second = span.end
        return None

    def up_to(self, moment: Millis) -> Millis | None:
        """The last tick at or before; `None` when there was none since 1970."""
        if self.fields.never:
            return None
        second = min(moment // 1000, END - 1)
        while second >= 0:
            span = span_at(self.timezone, second)
            local = self.fields.last_up_to(second + span.offset)
            if local - span.offset >= (span.start if self.fields.is_interval else span.fresh):
                return (local - span.offset) * 1000 if local >= span.offset else None
            if self._ticks_at_jump(span):
                return span.start * 1000
            second = span.start - 1
        return None

    def _ticks_at_jump(self, span: Span) -> bool:
        """Whether the clocks left out a matching time when this span began."""
        return span.before < span.offset and (
            self.fields.first_from(span.start + span.before) < span.start + span.offset
        )


def parse_cron(expression: str, timezone: str = "UTC", *, seconds: bool = False) -> CronTimes:
    """Read an expression of six fields, seconds first, or of the last five of them; or a macro such as `@daily`.

    With `seconds` all six have to be there, as in Milvaion.
    Raises `SettingsError` with one sentence for every mistake.
    """
    problems: list[str] = []
    try:
        six = six_fields(expression, seconds=seconds)
        fields = read_expression(six)
    except SettingsError as mistakes:
        problems.extend(mistakes.problems)
    if problem := problem_of_zone(timezone):
        problems.append(problem)
    if problems:
        raise SettingsError(problems)
    return CronTimes(six, timezone, fields)
