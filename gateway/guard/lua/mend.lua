-- Puts persons right that an audit found wrong, each only while it still is what was found. At most 64 a call.
--
-- KEYS  person (p) of each;  ARGV  of each what was found, then the right state ('': none, it is removed)
-- Unlike apply.lua this goes back in `seq`: what stood there was never the ledger's. Reply: 1 put right, 0 not.
assert(#ARGV == 2 * #KEYS, 'mend: arguments')
local replies = {}
for i = 1, #KEYS do
  local found, right = ARGV[2 * i - 1], ARGV[2 * i]
  replies[i] = 0
  if redis.call('GET', KEYS[i]) == found then
    if right == '' then redis.call('DEL', KEYS[i]) else redis.call('SET', KEYS[i], right) end
    replies[i] = 1
  end
end
return replies
