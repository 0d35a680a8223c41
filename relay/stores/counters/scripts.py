"""What runs inside Redis: the same counting as `account.py` and `window.py`, in Lua.

Two keys for each holder, both with the hash tag of its group, so that all that one call needs is in
one slot of a cluster:

    relay:{GROUP}:HOLDER:counts      a hash
        r k o n        requests and tokens of the last minute; its oldest and its newest second
        wSECOND        last millisecond:requests:tokens
        p u            calls that run; uses in all
        bk bb bs br    budget: kind and begin of its window, spent, reserved
        bz be          the ledger was asked; a word of who told, so that a loss is noticed
        lID            a call that is reserved: second:tokens:nano:begin of the window
    relay:{GROUP}:HOLDER:leases      a sorted set, by the millisecond at which each ends
        lID            a call that runs: its replica prolongs it, so it ends when that one is gone
        xID            one that has ended so; kept for a while, as it may be settled all the same

Numbers are Lua's, exact up to 2^53: nine million dollars in one budget.
"""

KEPT_MS = 15 * 60 * 1000
"""How long an ended lease can still be settled."""

_COMMON = """
local MINUTE = 60000
local KEPT = KEPT_MS

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

local function text(number) return string.format('%.0f', number) end

local function fields(entry)
  local found = {}
  for part in string.gmatch(entry, '[^:]+') do found[#found + 1] = part end
  return found
end

local function get(counts, name) return tonumber(redis.call('HGET', counts, name)) or 0 end

local function free(counts, nano)
  if nano ~= '0' then redis.call('HINCRBY', counts, 'br', '-' .. nano) end
end

-- What calls of killed replicas held is free again.
local function expire_leases(counts, leases, now)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', leases, member)
    local id = string.sub(member, 2)
    if string.sub(member, 1, 1) == 'x' then
      redis.call('HDEL', counts, 'l' .. id)
    else
      local lease = redis.call('HGET', counts, 'l' .. id)
      if lease then
        local part = fields(lease)
        redis.call('HINCRBY', counts, 'p', -1)
        if part[4] == redis.call('HGET', counts, 'bb') then free(counts, part[3]) end
        redis.call('ZADD', leases, now + KEPT, 'x' .. id)
      end
    end
  end
end

-- Requests and tokens of the last minute, after what is older was removed.
local function minute(counts, now)
  local found = redis.call('HMGET', counts, 'r', 'k', 'o', 'n')
  local requests, tokens = tonumber(found[1]) or 0, tonumber(found[2]) or 0
  local oldest, newest = tonumber(found[3]), tonumber(found[4])
  if not oldest or (oldest + 60) * 1000 > now then return requests, tokens, oldest, newest end
  local last, gone = math.min(newest, math.floor((now - MINUTE) / 1000)), {}
  local names = {}
  for second = oldest, last do names[#names + 1] = 'w' .. second end
  local entries = redis.call('HMGET', counts, unpack(names))
  oldest = last + 1
  for place, entry in ipairs(entries) do
    if entry then
      local part = fields(entry)
      if tonumber(part[1]) + MINUTE <= now then
        requests, tokens = requests - part[2], tokens - part[3]
        gone[#gone + 1] = names[place]
      else
        oldest = last
      end
    end
  end
  if #gone > 0 then redis.call('HDEL', counts, unpack(gone)) end
  if oldest > newest then
    redis.call('HDEL', counts, 'r', 'k', 'o', 'n')
    return 0, 0, nil, nil
  end
  redis.call('HSET', counts, 'r', requests, 'k', tokens, 'o', oldest)
  return requests, tokens, oldest, newest
end

-- Milliseconds until so many of them have expired; -1 when there are not so many.
local function wait(counts, now, oldest, newest, requests, tokens)
  if not oldest then return -1 end
  local names = {}
  for second = oldest, newest do names[#names + 1] = 'w' .. second end
  for _, entry in ipairs(redis.call('HMGET', counts, unpack(names))) do
    if entry then
      local part = fields(entry)
      requests, tokens = requests - part[2], tokens - part[3]
      if requests <= 0 and tokens <= 0 then return tonumber(part[1]) + MINUTE - now end
    end
  end
  return -1
end

-- Count these from now on; the second to which they belong.
local function add(counts, now, requests, tokens)
  local second = math.floor(now / 1000)
  local name = 'w' .. second
  local entry = redis.call('HGET', counts, name)
  local part = entry and fields(entry) or {0, 0, 0}
  redis.call('HSET', counts, name,
    text(now) .. ':' .. text(part[2] + requests) .. ':' .. text(part[3] + tokens), 'n', second)
  redis.call('HSETNX', counts, 'o', second)
  if requests > 0 then redis.call('HINCRBY', counts, 'r', requests) end
  if tokens > 0 then redis.call('HINCRBY', counts, 'k', text(tokens)) end
  return second
end

-- The begin of the budget's window that holds; a later one than the last begins empty.
local function turn(counts, kind, begin)
  local found = redis.call('HMGET', counts, 'bk', 'bb')
  if found[1] ~= kind then
    redis.call('HSET', counts, 'bk', kind, 'bb', begin, 'bs', 0, 'br', 0)
    redis.call('HDEL', counts, 'bz', 'be')
  elseif tonumber(found[2]) < tonumber(begin) then
    redis.call('HSET', counts, 'bb', begin, 'bs', 0, 'br', 0)
    if kind == 'total' then redis.call('HDEL', counts, 'bz', 'be')
    else redis.call('HSETNX', counts, 'bz', 1) end
  else
    return found[2]
  end
  return begin
end
""".replace("KEPT_MS", str(KEPT_MS))

RESERVE = (
    _COMMON
    + """
-- ARGV: now, id, lease, unseeded, tokens, least tokens, nano, least nano; then for each holder
-- rpm, tpm, parallel, budget, kind, begin, end, uses, milliseconds to keep it. -1: none.
-- Gives {1, {requests, tokens, word}…}, {2, {holder, begin}…} when the ledger has to be asked, or
-- {0, limit, holder, wait, {requests, tokens, reset}…}.
local now, id = clock(ARGV[1]), ARGV[2]
local tokens, least = tonumber(ARGV[5]), tonumber(ARGV[6])
local nano, least_nano = tonumber(ARGV[7]), tonumber(ARGV[8])
local holders = #KEYS / 2
local unseeded, states, worst = {}, {}, nil

local function refuse(limit, holder, milliseconds)
  if not worst or worst[4] ~= -1 and (milliseconds == -1 or milliseconds > worst[4]) then
    worst = {0, limit, holder, milliseconds}
  end
end

for holder = 1, holders do
  local counts, leases = KEYS[2 * holder - 1], KEYS[2 * holder]
  local at = 9 * holder - 1
  local rpm, tpm = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local parallel, budget = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local ends, uses = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
  expire_leases(counts, leases, now)
  local state = {tokens = 0, nano = 0, begin = '-', requests = 0, used = 0}
  states[holder] = state
  if rpm >= 0 or tpm >= 0 then
    state.counted = true
    state.requests, state.used, state.oldest, state.newest = minute(counts, now)
    if rpm >= 0 and state.requests >= rpm then
      refuse('requests', holder,
        wait(counts, now, state.oldest, state.newest, state.requests - rpm + 1, 0))
    end
    state.tokens = tokens
    if tpm >= 0 and tokens > 0 then
      local need = math.max(least, 1)
      if need > tpm then
        refuse('tokens', holder, -1)
      elseif state.used + need > tpm then
        refuse('tokens', holder,
          wait(counts, now, state.oldest, state.newest, 0, state.used + need - tpm))
      end
      state.tokens = math.min(tokens, tpm - state.used)
    end
  end
  if parallel >= 0 and get(counts, 'p') >= parallel then
    refuse('parallel', holder, parallel > 0 and 0 or -1)
  end
  if uses >= 0 and get(counts, 'u') >= uses then refuse('uses', holder, -1) end
  if budget >= 0 then
    state.begin = turn(counts, ARGV[at + 5], ARGV[at + 6])
    local found = redis.call('HMGET', counts, 'bs', 'br', 'bz', 'be')
    state.word = found[4] or ''
    if not found[3] and ARGV[4] == '0' then
      unseeded[#unseeded + 1] = {holder, state.begin}
    elseif nano > 0 then
      local spent, reserved = tonumber(found[1]) or 0, tonumber(found[2]) or 0
      local need = math.max(least_nano, 1)
      if need > budget then
        refuse('budget', holder, -1)
      elseif spent + need > budget then
        refuse('budget', holder, ends == -1 and -1 or ends - now)
      elseif spent + reserved + need > budget then
        refuse('budget', holder, 0)
      end
      state.nano = math.min(nano, budget - spent - reserved)
    end
  end
end
if #unseeded > 0 then return {2, unpack(unseeded)} end
if worst then
  for holder, state in ipairs(states) do
    local reset = 0
    if state.newest then
      local entry = redis.call('HGET', KEYS[2 * holder - 1], 'w' .. state.newest)
      reset = entry and tonumber(fields(entry)[1]) + MINUTE - now or 0
    end
    worst[#worst + 1] = {state.requests, state.used, reset}
  end
  return worst
end
local answer = {1}
for holder, state in ipairs(states) do
  local counts, leases, at = KEYS[2 * holder - 1], KEYS[2 * holder], 9 * holder - 1
  local second = '-'
  if state.counted then second = text(add(counts, now, 1, state.tokens)) end
  redis.call('HINCRBY', counts, 'p', 1)
  if tonumber(ARGV[at + 8]) >= 0 then redis.call('HINCRBY', counts, 'u', 1) end
  if state.nano > 0 then redis.call('HINCRBY', counts, 'br', text(state.nano)) end
  redis.call('HSET', counts, 'l' .. id,
    second .. ':' .. text(state.tokens) .. ':' .. text(state.nano) .. ':' .. state.begin)
  redis.call('ZADD', leases, now + tonumber(ARGV[3]), 'l' .. id)
  redis.call('PEXPIRE', counts, ARGV[at + 9])
  redis.call('PEXPIRE', leases, ARGV[at + 9])
  answer[#answer + 1] = {state.requests + 1, state.used + state.tokens, state.word or ''}
end
return answer
"""
)

SETTLE = (
    _COMMON
    + """
-- ARGV: now, id, tokens, nano, whether it is sent for the first time; then for each holder the
-- begin of its budget's window, or '-'. A call that nobody knows (Redis has lost it) is added when
-- this is sent for the first time; else it was settled by what was sent before.
local now, id = clock(ARGV[1]), ARGV[2]
local tokens, nano = tonumber(ARGV[3]), tonumber(ARGV[4])
for holder = 1, #KEYS / 2 do
  local counts, leases = KEYS[2 * holder - 1], KEYS[2 * holder]
  local lease = redis.call('HGET', counts, 'l' .. id)
  local begin = redis.call('HGET', counts, 'bb')
  if lease then
    local part = fields(lease)
    redis.call('HDEL', counts, 'l' .. id)
    if redis.call('ZREM', leases, 'l' .. id) == 1 then
      redis.call('HINCRBY', counts, 'p', -1)
      if part[4] == begin then free(counts, part[3]) end
    else
      redis.call('ZREM', leases, 'x' .. id)
    end
    if part[4] == begin and nano > 0 then redis.call('HINCRBY', counts, 'bs', text(nano)) end
    if part[1] ~= '-' then
      local change = tokens - tonumber(part[2])
      local name = 'w' .. part[1]
      local entry = change < 0 and redis.call('HGET', counts, name)
      if change > 0 then
        minute(counts, now)
        add(counts, now, 0, change)
      elseif entry then
        local at = fields(entry)
        redis.call('HSET', counts, name, at[1] .. ':' .. at[2] .. ':' .. text(at[3] + change))
        redis.call('HINCRBY', counts, 'k', text(change))
      end
    end
  elseif ARGV[5] == '1' and begin and begin == ARGV[5 + holder] and nano > 0 then
    redis.call('HINCRBY', counts, 'bs', text(nano))
  end
end
return 1
"""
)

SEED = (
    _COMMON
    + """
-- ARGV: kind, begin, nano, word. The first who tells counts; what was spent unseen until then is
-- in the ledger as well, or soon.
local counts = KEYS[1]
if turn(counts, ARGV[1], ARGV[2]) ~= ARGV[2] then return 0 end
if redis.call('HGET', counts, 'bz') then return 0 end
local spent = math.max(get(counts, 'bs'), tonumber(ARGV[3]))
redis.call('HSET', counts, 'bz', 1, 'be', ARGV[4], 'bs', text(spent))
return 1
"""
)

ADD = """
-- ARGV: begin, nano, word. What was spent elsewhere, in a window that is known here; with a word,
-- unless somebody has asked the ledger meanwhile.
local found = redis.call('HMGET', KEYS[1], 'bb', 'bz', 'be')
if found[1] == ARGV[1] and found[2] and (ARGV[3] == '' or ARGV[3] == found[3]) then
  redis.call('HINCRBY', KEYS[1], 'bs', ARGV[2])
  return 1
end
return 0
"""

PROLONG = (
    _COMMON
    + """
-- ARGV: now, lease, ids. Calls that still run.
local ends = clock(ARGV[1]) + tonumber(ARGV[2])
local last = tonumber(ARGV[2]) * 2
for place = 3, #ARGV do
  redis.call('ZADD', KEYS[2], 'XX', ends, 'l' .. ARGV[place])
end
if redis.call('PTTL', KEYS[1]) < last then
  redis.call('PEXPIRE', KEYS[1], last)
  redis.call('PEXPIRE', KEYS[2], last)
end
return 1
"""
)
