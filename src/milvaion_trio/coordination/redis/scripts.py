"""What Redis is asked to do: a Lua script for each request, since what it reads and writes must be one step.

Below a prefix, `milvaion-trio:coordination:<virtual host of RabbitMQ>:`, there are these keys. None but leases and
claims runs out.

- `lease:<name>`: a string, `<token> <holder>`, for as long as it is held;
- `claim:<key>`: a string, the id of the occurrence;
- `token`, `revision`: strings, the numbers given last; `leader`: the last token given for the lease of the leader;
- `schedules`: a set, the name of each schedule;
- `schedule:<name>`: a hash of `definition`, `recurrence`, `created`, `paused`, `resumed`, `progress`;
- `ends`: a hash, from `<tick> <schedule>` to the end of that run, of those that no leader has taken; `ends:order`: a
  sorted set of the same, by when they ended;
- `ended`: a sorted set of `<tick> <schedule>` by when its end was told, for a day and an hour; not of what was taken
  for lost.

Numbers are larger than the server's time in milliseconds. So they grow also where a server lost its data, or one took
over that had not heard of the last of them; and one counter does for the tokens of all names.
All keys that a script uses are in one Redis: a cluster of several does not do. A server that throws keys away when its
memory is full (`maxmemory-policy`) takes leases from their holders, or schedules out of the book.
Scripts read the time and then write, which Redis allows since version 5.
"""

import hashlib
from typing import Final

from attrs import field, frozen

__all__ = [
    "ACQUIRE",
    "ADVANCE",
    "BEAT",
    "CLAIM",
    "ENDED",
    "GIVE_UP",
    "HAS_ENDED",
    "PAUSE",
    "PUT",
    "READ",
    "RELEASE",
    "REMOVE",
    "RENEW",
    "RESUME",
    "Script",
]


@frozen
class Script:
    """A Lua script, and the digest by which a server that has it already finds it."""

    text: str
    digest: str = field(init=False)

    @digest.default
    def _digest_of_text(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_GROW: Final = """
local function grow(key)
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', key) or 0)
  local number = string.format('%.0f', math.max(last + 1, time[1] * 1000 + math.floor(time[2] / 1000)))
  redis.call('SET', key, number)
  return number
end
"""
_HOLDS: Final = """
local function holds(key, token)
  local held = redis.call('GET', key)
  return held and string.match(held, '^%d+') == token
end
"""

ACQUIRE: Final = Script(f"""{_GROW}
local lease, token, leader = unpack(KEYS)
local holder, milliseconds = unpack(ARGV)
if redis.call('EXISTS', lease) == 1 then return false end
local new = grow(token)
redis.call('SET', lease, new .. ' ' .. holder, 'PX', milliseconds)
if leader then redis.call('SET', leader, new) end
return new
""")
"""`leader` is given for the lease of the leader alone."""

RENEW: Final = Script(f"""{_HOLDS}
if not holds(KEYS[1], ARGV[1]) then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

RELEASE: Final = Script(f"""{_HOLDS}
if not holds(KEYS[1], ARGV[1]) then return 0 end
return redis.call('DEL', KEYS[1])
""")

CLAIM: Final = Script("""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
""")

GIVE_UP: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")

PUT: Final = Script(f"""{_GROW}
local schedule, schedules, revision = unpack(KEYS)
local id, definition, recurrence, now = unpack(ARGV)
local there = redis.call('HMGET', schedule, 'definition', 'recurrence')
if there[1] == definition and there[2] == recurrence then return 0 end
redis.call('HSET', schedule, 'definition', definition, 'recurrence', recurrence)
if there[2] ~= recurrence then
  redis.call('HSET', schedule, 'created', now)
  redis.call('HDEL', schedule, 'progress')
end
redis.call('SADD', schedules, id)
grow(revision)
return 1
""")

REMOVE: Final = Script(f"""{_GROW}
local schedule, schedules, revision = unpack(KEYS)
if redis.call('DEL', schedule) == 0 then return 0 end
redis.call('SREM', schedules, ARGV[1])
grow(revision)
return 1
""")

PAUSE: Final = Script(f"""{_GROW}
local schedule, revision = unpack(KEYS)
if redis.call('EXISTS', schedule) == 0 then return 0 end
redis.call('HSET', schedule, 'paused', 1)
grow(revision)
return 1
""")

RESUME: Final = Script(f"""{_GROW}
local schedule, revision = unpack(KEYS)
if redis.call('EXISTS', schedule) == 0 then return 0 end
redis.call('HSET', schedule, 'paused', 0)
local is_read, progress = pcall(cjson.decode, redis.call('HGET', schedule, 'progress'))
local disabled = is_read and type(progress) == 'table' and tonumber(progress.disabled)
local moment = tonumber(ARGV[1])
if disabled and disabled >= moment then moment = disabled + 1 end
redis.call('HSET', schedule, 'resumed', string.format('%d', moment))
grow(revision)
return 1
""")

READ: Final = Script("""
local schedules, revision = unpack(KEYS)
local rows = {}
for _, id in ipairs(redis.call('SMEMBERS', schedules)) do
  local row = redis.call('HMGET', ARGV[1] .. id,
    'definition', 'recurrence', 'created', 'paused', 'resumed', 'progress')
  table.insert(row, 1, id)
  rows[#rows + 1] = row
end
return {redis.call('GET', revision) or '0', rows}
""")
"""Its argument is the prefix of the keys of schedules."""

ENDED: Final = Script("""
local ended, ends, order = unpack(KEYS)
local id, at, text, seconds, is_known = unpack(ARGV)
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', ended, '-inf', '(' .. now - seconds)
local is_new
if is_known == '1' then
  is_new = redis.call('ZADD', ended, 'NX', now, id) == 1
else
  is_new = not redis.call('ZSCORE', ended, id)
end
if is_new then
  redis.call('HSET', ends, id, text)
  redis.call('ZADD', order, at, id)
end
return 1
""")
"""Of a run that was only taken for lost, `ended` says nothing."""

HAS_ENDED: Final = Script("""
return redis.call('ZSCORE', KEYS[1], ARGV[1])
""")

BEAT: Final = Script(f"""{_HOLDS}
local lease, revision, ends, order = unpack(KEYS)
local token, milliseconds, limit = unpack(ARGV)
if not holds(lease, token) then return false end
redis.call('PEXPIRE', lease, milliseconds)
local news = {{}}
for _, id in ipairs(redis.call('ZRANGE', order, 0, limit - 1)) do
  news[#news + 1] = redis.call('HGET', ends, id)
end
return {{redis.call('GET', revision) or '0', news}}
""")

ADVANCE: Final = Script("""
local leader, ends, order = unpack(KEYS)
local token, prefix, count = unpack(ARGV, 1, 3)
if tonumber(token) < tonumber(redis.call('GET', leader) or 0) then return 0 end
local last = 3 + 2 * count
for index = 4, last, 2 do
  local schedule = prefix .. ARGV[index]
  if redis.call('EXISTS', schedule) == 1 then redis.call('HSET', schedule, 'progress', ARGV[index + 1]) end
end
for index = last + 1, #ARGV do
  redis.call('HDEL', ends, ARGV[index])
  redis.call('ZREM', order, ARGV[index])
end
return 1
""")
"""Its arguments go on with so many names and texts of progress, and with the ends."""
