-- reserve
-- KEYS: 1 the answer. ARGV: 1 the token of the lease, 2 the request, 3 now, 4 until when somebody is at work on it,
-- 5 until when to remember.
--
-- Instants are milliseconds, far below 2^53, from which on Lua's doubles are not exact. A token may be the one of
-- another journal, and greater: it stays text.
local function greater(one, other)
    if #one ~= #other then return #one > #other end
    return one > other
end

local token, now, keep = ARGV[1], tonumber(ARGV[3]), ARGV[5]
local row = redis.call('HMGET', KEYS[1], 'keep', 'token')
if row[1] and tonumber(row[1]) <= now then
    redis.call('DEL', KEYS[1])
    row = {}
end
if row[1] then
    if greater(row[2], token) then return { 'lost' } end
    if redis.call('HEXISTS', KEYS[1], 'answer') == 1 then return { 'ok' } end
    if tonumber(row[1]) > tonumber(keep) then keep = row[1] end
    -- A server that is full refuses a script that has not written yet, see entry.lua.
    redis.call('PERSIST', KEYS[1])
end
redis.call('HSET', KEYS[1], 'token', token, 'request', ARGV[2], 'until', ARGV[4], 'keep', keep, 'seen', ARGV[3])

-- As long as the journal's entries stay, see entry.lua.
local time = redis.call('TIME')
local server = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + 1
local left = math.max(tonumber(keep) - now, 60000)
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(tonumber(keep), server + left)))
return { 'ok' }
