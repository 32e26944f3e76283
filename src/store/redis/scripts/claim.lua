-- ARGV: 4 the proof, 5 now, 6 the end of the lease, 7 until when to remember, 8 the record.
local proof, now, lease, keep = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]

local function forget(key, entry)
    local claimed = proof_key(entry)
    redis.call('DEL', key)
    if claimed then redis.call('DEL', claimed) end
end

local entry = read(KEYS[1])
if entry and forgettable(entry, now) then
    forget(KEYS[1], entry)
    entry = nil
end

if entry then
    if entry.proof ~= proof then return { entry.state == HELD and 'busy' or 'other' } end
    if ended(entry) then return { 'spent', entry.state } end
    if entry.state == REFUNDING then return { 'refunding' } end
    if at_work(entry, now) then return { 'busy' } end
    clear(KEYS[1], 'given', 'later', 'tries')
    local token = next_token()
    if tonumber(entry.keep) > tonumber(keep) then keep = entry.keep end
    redis.call('HSET', KEYS[1], 'token', token, 'lease', lease, 'seen', ARGV[5], 'keep', keep)
    if entry.state == SETTLED then return { 'settled', token, entry.paid } end
    return { 'resumed', token }
end

local claimed = proof_key({ proof = proof })
local name = claimed and redis.call('GET', claimed)
if name then
    local key = ARGV[1] .. 'e:' .. name
    local other = read(key)
    if other and other.state == HELD then return { 'busy' } end
    -- An entry and its proof go together. Where somebody has removed only the entry, its money stays spent.
    if not (other and other.proof == proof and forgettable(other, now)) then return { 'other' } end
    forget(key, other)
end

-- The first write takes memory: a server that is full refuses here.
local token = next_token()
redis.call('HSET', KEYS[1], 'proof', proof, 'state', HELD, 'token', token, 'lease', lease, 'keep', keep,
    'seen', ARGV[5], 'record', ARGV[8])
redis.call('ZADD', KEYS[2], 0, ARGV[3])
if claimed then redis.call('SET', claimed, ARGV[2]) end
return { 'won', token }
