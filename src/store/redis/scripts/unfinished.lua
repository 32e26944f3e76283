-- KEYS: only 2 counts. ARGV: 2 after which place, 3 now, 4 whether only what is due, 5 how many to list, 6 how many
-- to look at, for the server does nothing else meanwhile.
--
-- Answers where to go on, if there may be more, and then names and entries.
local now, due_only, list, look = tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])

local function listed(entry)
    if ended(entry) or at_work(entry, now) then return false end
    return not (due_only and entry.later and now < tonumber(entry.later))
end

local places = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[2], '+', 'LIMIT', 0, look)
local found, last = {}, nil
for _, place in ipairs(places) do
    if #found == 2 * list then break end
    last = place
    -- The bytes of the id, and its name.
    local name = string.sub(place, 33)
    local key = ARGV[1] .. 'e:' .. name
    local entry = read(key)
    if entry and listed(entry) then
        found[#found + 1] = name
        found[#found + 1] = show(key)
    end
end
local more = #places == look or last ~= places[#places]
return { more and last or false, found }
