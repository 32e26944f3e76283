-- KEYS: 1 the answer. ARGV: 1 the request, 2 now, 3 until when somebody is at work on it, 4 until when to remember.
--
-- Instants are milliseconds, far below 2^53, from which on Lua's doubles are not exact.
local now, keep = tonumber(ARGV[2]), ARGV[4]
local row = redis.call('HMGET', KEYS[1], 'keep', 'seen')
if row[1] and tonumber(row[1]) <= now then
    redis.call('DEL', KEYS[1])
    row = {}
end
if row[1] then
    if redis.call('HEXISTS', KEYS[1], 'answer') == 1 then return { 'ok' } end
    if tonumber(row[1]) > tonumber(keep) then keep = row[1] end
    -- A server that is full refuses a script that has not written yet, see entry.lua.
    redis.call('PERSIST', KEYS[1])
end
redis.call('HSET', KEYS[1], 'request', ARGV[1], 'until', ARGV[3], 'keep', keep, 'seen', ARGV[2])

-- As long as the journal's entries stay, see entry.lua.
local time = redis.call('TIME')
local server = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + 1
local left = math.max(tonumber(keep) - now, 60000)
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(tonumber(keep), server + left)))
return { 'ok' }
