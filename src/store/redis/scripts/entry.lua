-- What every step on an entry begins with. Each step is one script, so nothing comes between its look and its
-- write, and its writes are in the server's log together or not at all.
--
-- KEYS: 1 the entry, 2 the open entries, 3 the last token, 4 the exclusive proof of a claim.
-- ARGV: 1 what all keys begin with, 2 the name of the entry, 3 its place in the order of the open ones.
--
-- All keys have one hash tag: also those that are made here are in the slot of KEYS.
--
-- Lua has doubles only, exact below 2^53. Instants are milliseconds and end with the year 9999, below 2^48; tokens
-- are checked where they are made. What is only handed on stays text.

local HELD, SETTLED, REFUNDING, DELIVERED, REFUNDED = '0', '1', '2', '3', '4'

local FIELDS = { 'proof', 'state', 'token', 'lease', 'keep', 'seen', 'given', 'later', 'tries', 'asked', 'paid', 'reason' }

local function read(key)
    local values = redis.call('HMGET', key, unpack(FIELDS))
    if not values[2] then return nil end
    local entry = {}
    for place, field in ipairs(FIELDS) do entry[field] = values[place] end
    return entry
end

local function ended(entry)
    return entry.state == DELIVERED or entry.state == REFUNDED
end

-- When it may be forgotten if it has ended.
local function due(entry)
    return math.max(tonumber(entry.keep), tonumber(entry.lease))
end

local function forgettable(entry, now)
    return ended(entry) and due(entry) <= now
end

local function at_work(entry, now)
    return not entry.given and now < tonumber(entry.lease)
end

-- The key of its proof. One that is not exclusive has none.
local function proof_key(entry)
    if string.sub(entry.proof, 1, 1) == 'x' then return ARGV[1] .. 'p:' .. string.sub(entry.proof, 2) end
end

-- Fields that are no longer so. Every change of an entry that is there begins with this: a server that is full
-- refuses what may take memory, but not in a script that has already written, and this is never refused. What
-- is there must go on and end.
local function clear(key, ...)
    redis.call('HDEL', key, ...)
end

-- Open money is never forgotten by age.
local function open(entry)
    local proof = proof_key(entry)
    redis.call('PERSIST', KEYS[1])
    if proof then redis.call('PERSIST', proof) end
    redis.call('ZADD', KEYS[2], 0, ARGV[3])
end

-- It has ended: the server forgets it by itself, when both the merchant's clock and its own have come to that
-- instant. By the merchant's it was `seen` when the lease was given out, and it is later now. So neither a clock
-- that is wrong nor one that is set right makes it vanish early. Not at once, so that a lost reply can be repeated.
local function close(entry)
    local time = redis.call('TIME')
    local server = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + 1
    local left = math.max(due(entry) - tonumber(entry.seen), 60000)
    local at = string.format('%.0f', math.max(due(entry), server + left))
    local proof = proof_key(entry)
    redis.call('PEXPIREAT', KEYS[1], at)
    if proof then redis.call('PEXPIREAT', proof, at) end
    redis.call('ZREM', KEYS[2], ARGV[3])
end

-- Greater than all before it, also where a server has lost its last writes to a failover, or was restored from
-- a backup: it does not begin below the present microsecond. Those are below 2^53 until the year 2255. A server
-- that is full refuses it.
local function next_token()
    local time = redis.call('TIME')
    local token = tonumber(time[1]) * 1000000 + tonumber(time[2])
    token = math.max(token, 1 + tonumber(redis.call('GET', KEYS[3]) or 0))
    if token >= 9007199254740992 then error('there are no more tokens') end
    token = string.format('%.0f', token)
    redis.call('SET', KEYS[3], token)
    return token
end

-- The entry of a lease, if that is the present one.
local function fenced(token)
    local entry = read(KEYS[1])
    if entry and entry.token == token and not entry.given then return entry end
end

local SHOWN = { 'proof', 'state', 'lease', 'keep', 'later', 'tries', 'stays', 'paid', 'reason', 'record' }

local function show(key)
    return redis.call('HMGET', key, unpack(SHOWN))
end

