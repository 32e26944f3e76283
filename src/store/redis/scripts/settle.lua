-- ARGV: 4 the token, 5 what was settled.
local entry = fenced(ARGV[4])
if not entry then return { 'lost' } end
if entry.state == HELD then
    clear(KEYS[1], 'later', 'tries')
elseif entry.state == SETTLED and entry.paid == ARGV[5] then
    -- Said again, and written again: whoever waits for replicas then waits for this, and for all before it.
    clear(KEYS[1], 'given')
else
    return { 'conflict' }
end
redis.call('HSET', KEYS[1], 'state', SETTLED, 'paid', ARGV[5])
return { 'ok' }
