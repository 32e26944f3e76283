-- ARGV: 4 the token, 5 how it ends.
local entry = fenced(ARGV[4])
if not entry then return { 'lost' } end
if ARGV[5] == DELIVERED and entry.state == SETTLED or ARGV[5] == REFUNDED and entry.state == REFUNDING then
    clear(KEYS[1], 'later', 'tries')
elseif entry.state == ARGV[5] then
    -- Said again, and written again, see settle.lua.
    clear(KEYS[1], 'given')
else
    return { 'conflict' }
end
redis.call('HSET', KEYS[1], 'state', ARGV[5])
close(entry)
return { 'ok' }
