-- A record's bytes (record.py): state 1, flags 1, attempt 2, partition 4, offset 6, stamp 6, length 2, consumed, answer.
local RECORD = '>BBHI4I6I6H'
local RESERVED, HELD, TAKEN, DONE, UNWRITTEN, VOID = 114, 104, 116, 100, 117, 118 -- first letters
local BOUND, REFUNDED, TEXT = 1, 2, 4

local function head_of(raw)
  return struct.unpack(RECORD, raw)
end

local function record_of(state, flags, attempt, partition, offset, stamp, consumed, answer)
  return struct.pack(RECORD, state, flags, attempt, partition, offset, stamp, #consumed) .. consumed .. answer
end
