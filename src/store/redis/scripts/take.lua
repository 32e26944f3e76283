-- ARGV: 4 now, 5 the end of the lease, 6 whether it is asked for.
local now, asked_for = tonumber(ARGV[4]), ARGV[6] == '1'

local entry = read(KEYS[1])
if not entry or forgettable(entry, now) then return { 'absent' } end
if entry.state == REFUNDED or entry.state == DELIVERED and not asked_for then return { 'spent', entry.state } end
if at_work(entry, now) then return { 'busy' } end
if entry.later and not asked_for and now < tonumber(entry.later) then return { 'busy' } end

clear(KEYS[1], 'given')
local token = next_token()
redis.call('HSET', KEYS[1], 'token', token, 'lease', ARGV[5], 'seen', ARGV[4])
if entry.state == DELIVERED then
    redis.call('HSET', KEYS[1], 'asked', '1')
    -- It may be remembered for longer now.
    entry.lease, entry.seen = ARGV[5], ARGV[4]
    close(entry)
end
return { 'won', token, show(KEYS[1]) }
