-- ARGV: 4 the token, 5 why the money is given back.
local entry = fenced(ARGV[4])
if not entry then return { 'lost' } end
if entry.state == SETTLED or entry.state == DELIVERED and entry.asked then
    clear(KEYS[1], 'later', 'tries')
elseif entry.state == REFUNDING and entry.reason == ARGV[5] then
    -- Said again, and written again, see settle.lua.
    clear(KEYS[1], 'given')
else
    return { 'conflict' }
end
redis.call('HSET', KEYS[1], 'state', REFUNDING, 'reason', ARGV[5])
open(entry)
return { 'ok' }
