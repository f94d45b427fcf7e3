"""What the Redis server carries out, each in one step. Lua; see `redis.py` for what the fields mean."""

from __future__ import annotations

__all__ = ["GOODBYE", "SCRIPT", "SUM"]

# KEYS[1] the account's hash. ARGV: 1 process, 2 its calls under way, 3 requests a minute and 4 their burst, 5 tokens a
# minute and 6 theirs, 7 calls that may be under way (each 0 for no limit), 8 tokens asked for (below 0: nothing is
# asked for), 9 tokens and 10 requests given back and 11 how many seconds ago they were taken, 12 seconds to stay away,
# 13 seconds after which a process lapses, 14 the era that this process knows of (empty: none), 15 how many processes it
# knows of, 16 for how long it has been on its own (0: it has not), 17 seconds since it last had an answer.
# Answers: granted, seconds to wait (below 0: until a call ends), processes, era.
#
# `use`: others than those that ask here have used up so many seconds' worth of both rates since a moment. With `capped`
# that leaves a bucket no emptier than empty: nobody's share ever is.
# `missing`: of how many that are to be heard in a roll-call how many have not been.
SCRIPT = """
local key, me = KEYS[1], 'p:' .. ARGV[1]
local a = {}
for i = 2, 17 do a[i] = tonumber(ARGV[i]) or 0 end
local mine, limit, asked, lapse, known, away = a[2], a[7], a[8] >= 0, a[13], a[15], a[16]
local kinds = {r = {a[3], a[4], 1, a[10]}, t = {a[5], a[6], math.max(a[8], 0), a[9]}}
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local all = redis.call('HGETALL', key)
local at, seen, era, busy, members = {}, {}, nil, 0, 1
for i = 1, #all, 2 do
    local name, value = all[i], all[i + 1]
    if name == 'era' then
        era = value
    elseif string.sub(name, 1, 2) ~= 'p:' then
        at[name] = tonumber(value)
    else
        local when, count = string.match(value, '([^ ]+) ([^ ]+)')
        when = tonumber(when)
        if name ~= me and when + lapse < now then
            redis.call('HDEL', key, name)
        else
            seen[name] = when
            if name ~= me then
                members = members + 1
                busy = busy + tonumber(count)
            end
        end
    end
end

local function put(name, value)
    at[name] = value
    redis.call('HSET', key, name, string.format('%.6f', value))
end
local function use(since, seconds, capped)
    for name, kind in pairs(kinds) do
        if at[name] and kind[1] > 0 and seconds > 0 then
            local full = math.max(at[name], since) + seconds
            if capped then full = math.max(at[name], math.min(full, now + kind[2] * 60 / kind[1])) end
            put(name, full)
        end
    end
end
local function missing()
    if not at.k then return 0, 1 end
    local count, heard = at.k + at.x, 0
    for _, when in pairs(seen) do
        if when >= at.b then heard = heard + 1 end
    end
    return math.max(0, count - heard), count
end
local function end_roll_call()
    redis.call('HDEL', key, 'k', 'x', 's')
    at.k = nil
end

if at.k then
    local till = math.min(now, at.b + lapse)
    local absent, count = missing()
    use(at.s, math.max(0, till - at.s) * absent / count, false)
    put('s', till)
    if now >= at.b + lapse then end_roll_call() end
end
local new = not era
if new then
    era = string.format('%.6f', now)
    redis.call('HSET', key, 'era', era)
end
local lost = ARGV[14] ~= '' and ARGV[14] ~= era
local stranger = ARGV[14] == '' or not (seen[me] or lost or away > 0)
local function call_roll(seconds)
    use(now - seconds, seconds, true)
    put('b', now)
    put('s', now)
    put('k', stranger and members - 1 or math.max(known, members))
    put('x', stranger and 1 or 0)
end
if at.k and (seen[me] or 0) < at.b then
    if stranger then put('x', at.x + 1) else put('k', math.max(at.k, known)) end
elseif (lost and not at.l) or (new and away > 0) then
    call_roll(1000000)
    put('fr', now)
    put('ft', now)
    if lost then put('l', now) end
elseif away > 0 then
    local others = false
    for name, when in pairs(seen) do
        if name ~= me and when > now - away then others = true end
    end
    if others or math.max(known, members) == 1 then
        use(now - away, away / math.max(known, members), true)
    else
        call_roll(a[17])
    end
end
seen[me] = now
local absent, count = missing()
if at.k and absent == 0 then end_roll_call() end

if a[12] > 0 and now + a[12] > (at.h or 0) then put('h', now + a[12]) end
local function bucket(name)
    local rate, burst, amount, back = unpack(kinds[name])
    if rate <= 0 then return 0, nil end
    local each = 60 / rate
    local full = at[name] or (at.b and now + burst * each or now)
    if back < 0 or (back > 0 and now - a[11] >= (at['f' .. name] or 0)) then full = full - back * each end
    if back ~= 0 or not at[name] then put(name, full) end
    local from = math.max(full, now)
    return from + (math.min(amount, burst) - burst) * each - now, from + amount * each, full <= now
end
local wait_r, full_r, idle_r = bucket('r')
local wait_t, full_t, idle_t = bucket('t')
local granted, wait = 0, math.max(wait_r, wait_t, (at.h or 0) - now, 0)
if asked and wait <= 0.000001 then
    if limit > 0 and busy + mine >= math.max(1, math.floor(limit * (count - absent) / count)) then
        wait = -1
    else
        granted, mine = 1, mine + 1
        if full_r then put('r', full_r) end
        if full_t then put('t', full_t) end
        if idle_r then put('fr', now) end
        if idle_t then put('ft', now) end
    end
end
redis.call('HSET', key, me, string.format('%.6f %d', now, mine))
redis.call('EXPIRE', key, 600)
return {granted, string.format('%.6f', wait), math.max(members, absent > 0 and count or 0), era}
"""

# KEYS[1] the account's hash. ARGV: process.
GOODBYE = "return redis.call('HDEL', KEYS[1], 'p:' .. ARGV[1])"

# KEYS[1] a sum. ARGV: amount, limit (empty: none), moment of forgetting, a name of this very addition: it is carried
# out once, however often it is sent. Answers: granted, what the sum was before.
SUM = """
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local once = KEYS[1] .. ':' .. ARGV[4]
if redis.call('EXISTS', once) == 1 then return {1, string.format('%d', before - tonumber(ARGV[1]))} end
if ARGV[2] ~= '' and before + tonumber(ARGV[1]) > tonumber(ARGV[2]) then
    return {0, string.format('%d', before)}
end
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIREAT', KEYS[1], ARGV[3])
redis.call('SET', once, '', 'EX', '300')
return {1, string.format('%d', before)}
"""
