-- Deliver's last look, at most 64 messages a call, each about to be written to a carrier's wire.
--
-- KEYS  cursors (c) of the lanes in the batch: ARGV[1] of them; person (p), block (b), record (m), windows (w) and
--       fence (f) of each message
-- ARGV  cursors, least cursor, clock ('0': the server's), plans, life of a record nobody remembers (ms),
--       messages [[plan, approved, cursor, attempt, partition, offset], …]
--
-- A record that says          claim(n) at p:o
--   taken(n)@p:o              go on: the commit past it never happened
--   taken(n)@elsewhere        DROP: a copy
--   done, void                DROP
--   reserved, held, unwritten go on, unless its attempt is newer than n: DROP
--   taken(< n)                go on: a retry is published only after its compare-and-set, so a failover lost that
--   taken(> n)                DROP
--   nothing                   go on. A flush is COLD until the rebuild has put records back, so what is absent here
--                             expired or fell into the second a failover may lose; "once" is carried by the commit
--                             ahead and the partition's ownership, not by this record
-- Going on: suppression, block and basis are checked again (not windows, not preferences).
--   stopped                   REFUSED: void with the code, windows given back; a used request stays used
--   permitted                 GO: taken(n)@p:o, and a fence of one second before which no opt-out is acknowledged
--
-- Reply, a message: {0, stamp, basis, entry} GO; {1, state} DROP; {2, code} REFUSED; {3} COLD.
local cursors, least, now = tonumber(ARGV[1]), tonumber(ARGV[2]), clock(ARGV[3])
local plans, life, claims = cmsgpack.unpack(ARGV[4]), ARGV[5], cmsgpack.unpack(ARGV[6])
local n = #claims
assert(#KEYS == cursors + 5 * n, 'claim: keys')
local read = redis.call('MGET', unpack(KEYS, 1, cursors + 3 * n))
local windows_at, fences_at = cursors + 3 * n, cursors + 4 * n
local written = {}

local function put(key, bytes, remembered)
  if remembered then
    redis.call('SET', key, bytes, 'KEEPTTL')
  else
    redis.call('SET', key, bytes, 'PX', life)
  end
  written[key] = bytes
end

local function passes(state, was, partition, offset, claim)
  if state == DONE or state == VOID or was > claim[4] then return false end
  if state == TAKEN and was == claim[4] then return partition == claim[5] and offset == claim[6] end
  return true
end

local function decide(i, claim)
  if behind(read[claim[3]], least) then return {3} end
  local base, plan = cursors + 3 * i - 2, plans[claim[1]]
  local key = KEYS[base + 2]
  local raw = written[key] or read[base + 2]
  local flags, stamp, was_basis, was_entry, consumed, answer = 0, 0, 0, 0, '', ''
  if raw then
    local state, set, was, partition, offset, at_ms, on, by, size, at = head_of(raw)
    if not passes(state, was, partition, offset, claim) then return {1, state} end
    flags, stamp, was_basis, was_entry = set, at_ms, on, by
    consumed, answer = string.sub(raw, at, at + size - 1), string.sub(raw, at + size)
  end
  local parts, block = parts_of(read[base]), read[base + 1]
  local code, basis, entry = stopped(plan, claim[2], parts, block), nil, nil
  if not code then
    -- a request was consumed at admission and is this message's own
    basis, entry = permitted(plan, parts, block, now, true)
    if not basis then code = entry end
  end
  if code then
    refund(KEYS[windows_at + i], flags, stamp, consumed)
    local left = bits_or(bits_and(flags, BOUND), REFUNDED)
    put(key, record_of(VOID, left, claim[4], 0, 0, stamp, was_basis, was_entry, code, answer), raw)
    return {2, code}
  end
  if not raw then was_basis, was_entry = basis, entry + 1 end
  put(key, record_of(TAKEN, flags, claim[4], claim[5], claim[6], stamp, was_basis, was_entry, consumed, answer), raw)
  redis.call('SET', KEYS[fences_at + i], now + 1000, 'PX', 2000)
  return {0, now, basis, entry}
end

local replies = {}
for i = 1, n do replies[i] = decide(i, claims[i]) end
return replies
