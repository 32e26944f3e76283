-- keep
-- KEYS: 1 the answer. ARGV: 1 the token of the lease, 2 its bytes, 3 until when to remember.
local row = redis.call('HMGET', KEYS[1], 'keep', 'seen', 'token')
if row[3] ~= ARGV[1] then return { 'lost' } end
if redis.call('HEXISTS', KEYS[1], 'answer') == 1 then return { 'ok' } end
local keep = math.max(tonumber(row[1]), tonumber(ARGV[3]))
-- The first write takes memory: a server that is full refuses here.
redis.call('HSET', KEYS[1], 'answer', ARGV[2], 'keep', string.format('%.0f', keep))

local time = redis.call('TIME')
local server = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + 1
local left = math.max(keep - tonumber(row[2]), 60000)
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(keep, server + left)))
return { 'ok' }
