-- Writes whole states of persons where nothing is, or something older: apply.lua for a rebuild, without fences.
--
-- KEYS  person (p) of each, no two the same;  ARGV  the state of each (person.py)
-- Where none of them is there, which is so in a lane that was emptied, all are written at once; else each only over an
-- older `seq`. Reply: how many were written.
local n = #ARGV
assert(#KEYS == n, 'fill: keys')
local every = {}
for i = 1, n do
  every[2 * i - 1], every[2 * i] = KEYS[i], ARGV[i]
end
if redis.call('MSETNX', unpack(every)) == 1 then return n end
local read, seq_of = redis.call('MGET', unpack(KEYS)), struct.unpack
local writes = {}
for i = 1, n do
  if not read[i] or seq_of('>I5', read[i]) < seq_of('>I5', ARGV[i]) then
    writes[#writes + 1], writes[#writes + 2] = KEYS[i], ARGV[i]
  end
end
if #writes > 0 then redis.call('MSET', unpack(writes)) end
return #writes / 2
