-- Moves a lane's cursor, if it still is what the caller believes. A flush, a failover or another writer in between made
-- the caller's belief, and so what it applied, worthless: then nothing is moved.
--
-- KEYS  cursor (c) of one lane;  ARGV  the value believed ('': none), the value to set
-- Reply: 1 when moved, 0 when not.
assert(#KEYS == 1 and #ARGV == 2, 'cursor: arguments')
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
