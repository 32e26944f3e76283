-- ARGV: 4 the token, 5 why the lease is given up.
local reason = ARGV[5]
local entry = fenced(ARGV[4])
if not entry then return { 'lost' } end

local function give_up(...)
    clear(KEYS[1], 'later', 'tries')
    redis.call('HSET', KEYS[1], 'given', '1', ...)
end

if entry.state == HELD and reason == 'not_charged' then
    local proof = proof_key(entry)
    redis.call('DEL', KEYS[1])
    if proof then redis.call('DEL', proof) end
    redis.call('ZREM', KEYS[2], ARGV[3])
elseif entry.state == HELD and reason == 'unknown' or entry.state == SETTLED and reason == 'undelivered' then
    give_up('state', entry.state)
elseif entry.state == REFUNDING and reason == 'not_refundable' and entry.asked then
    give_up('state', DELIVERED)
    close(entry)
elseif (entry.state == SETTLED or entry.state == REFUNDING) and reason == 'not_refundable' then
    give_up('state', SETTLED, 'stays', '1')
elseif entry.state == DELIVERED and reason == 'undelivered' and not entry.asked then
    give_up('state', SETTLED)
    open(entry)
else
    return { 'conflict' }
end
return { 'ok' }
