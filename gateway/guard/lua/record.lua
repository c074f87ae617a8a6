-- A record's bytes (record.py): state 1, flags 1, attempt 2, partition 4, offset 6, stamp 6, basis 1, entry 6, length 2,
-- consumed, answer. `head_of` gives them in this order, then where `consumed` starts. Of a void record `consumed` is why.
-- SHARED: somebody repeated it while it was reserved or held, and may have been told that it was accepted.
local RECORD = '>BBHI4I6I6bI6H'
local PLACE, PLACE_BYTES = '>BBHI4I6', 14 -- its first five
local RESERVED, HELD, TAKEN, DONE, UNWRITTEN, VOID = 114, 104, 116, 100, 117, 118 -- first letters
local BOUND, REFUNDED, TEXT, SHARED = 1, 2, 4, 8
local UNAVAILABLE = 'unavailable' -- voided with it: nobody was told that it was accepted
local bits_and, bits_or = bit.band, bit.bor

local function head_of(raw)
  return struct.unpack(RECORD, raw)
end

local function record_of(state, flags, attempt, partition, offset, stamp, basis, entry, consumed, answer)
  return struct.pack(RECORD, state, flags, attempt, partition, offset, stamp, basis, entry, #consumed) .. consumed .. answer
end

-- the same record in another state, attempt or place; what it consumed and its answer are not looked at
local function moved(raw, state, flags, attempt, partition, offset)
  return struct.pack(PLACE, state, flags, attempt, partition, offset) .. string.sub(raw, PLACE_BYTES + 1)
end
