-- Decides on up to 64 messages, one after another, so that two to one recipient see each other.
--
-- KEYS  cursors (c) of the lanes in the batch: ARGV[1] of them
--       person (p), block (b), record (m) of each message
--       used requests (u): ARGV[2] of them
--       windows (w) of each message
-- ARGV  cursors, requests, least cursor, clock ('0': the server's), plans (plans.py),
--       midnights [[previous, today, next …], …], answers to keep, messages, 32 bytes each (permission.lua, ASK):
--         plan, mode, bound, approved, cursor, midnights, answer, minute of the day, attempt, record life ms, text hash,
--         request (0: none), request life ms
-- mode  0 ADMIT, 1 HOLD, 2 RELEASE, 4 RECALL
--
-- For each message everything is checked, in this order, then everything is written, or nothing:
--   cursor missing or behind                       -> cache.cold
--   record     ADMIT, HOLD: reserved, held, taken, done, unwritten -> replay (the first two are SHARED from then on);
--                       void after an answer, by a key -> replay; else void, absent -> go on
--              RECALL: as ADMIT, but what would go on is refused: unavailable
--              RELEASE: held, absent -> go on; reserved with the same attempt > 1 -> go on, consuming nothing
--                       an older attempt, not done or void -> go on so too: a flush or failover lost the requeue, which
--                       was made before this attempt was published
--                       anything else -> replay
--   suppression, block  any reason but opt_out -> suppressed; opt_out -> consent.withdrawn where consent is the basis
--   request    used by another message             -> request.missing
--   basis      consent.missing, relationship.missing, request.missing
--   preference topics -> preference.unwanted
--   then, not for HOLD and not for attempt > 1: preference and consent max_per_week -> window.exceeded
--   preference hours (not for HOLD) -> quiet.hours, with the hours
--   then, not for HOLD and not for attempt > 1: each window, same text -> window.exceeded
-- Written: stamp into each window field (HSET w), expiry of w when it must grow, used request, record.
--
-- Reply, a message: permitted: 14 bytes (permission.lua, PERMITTED): stamp, basis (see there), entry + 1, and whether the
--   consent's own weekly field was written; {1, state, attempt, stamp, answer, basis, entry, termed} replay;
--   {2, code, rule, wait ms, from, to} refused.
-- Calls a message: its share of one MGET and of one MSETEX a life (writing.lua), HMGET, HSET (PEXPIREAT at most once an
-- hour): at most 6.
local call = redis.call
local cursors, requests, least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock(ARGV[4])
local plans, calendar, answers = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6]), cmsgpack.unpack(ARGV[7])
local HOLD, RELEASE, RECALL = 1, 2, 4
local asks = ARGV[8]
local n = #asks / ASK_BYTES
local first_request, first_windows = cursors + 3 * n, cursors + 3 * n + requests
assert(#KEYS == first_windows + n, 'admit: keys')
local read = call('MGET', unpack(KEYS, 1, first_windows))
local set = {} -- what one HSET is given; of a longer one before, what lies beyond its end is not looked at

local function value(at)
  return written[KEYS[at]] or read[at]
end

-- the message id that a record's key ends with
local function id_of(at)
  return slice(KEYS[at], -16)
end

-- a publish of it that fails from now on must not void it: another one may have been acknowledged
local function share(at, state)
  local raw = value(at)
  local flags = stamp_at('B', raw, 2)
  if (state ~= RESERVED and state ~= HELD) or bits_and(flags, SHARED) > 0 then return end
  put(KEYS[at], slice(raw, 1, 1) .. string.char(bits_or(flags, SHARED)) .. slice(raw, 3), KEEP)
end

-- nil to go on, else the replay; second: whether this attempt consumes windows
local function known(raw, mode, attempt)
  if not raw then return nil, attempt == 1 end
  local state, flags, was, _, _, stamp, basis, entry, size, at = head_of(raw)
  if mode == RELEASE then
    if state == HELD then return nil, true end
    if state == RESERVED and attempt > 1 and was == attempt then return nil, false end
    if was < attempt and state ~= DONE and state ~= VOID then return nil, false end
  elseif state == VOID then
    local why, told = slice(raw, at, at + size - 1), #raw >= at + size and bits_and(flags, BOUND) > 0
    if why == UNAVAILABLE or not told then return nil, attempt == 1 end
  end
  local from = bits_and(flags, TEXT) > 0 and at + 8 or at
  local termed = string.find(slice(raw, from, at + size - 1), 'C/', 1, true) and 1 or 0
  return {1, state, was, stamp, slice(raw, at + size), basis, entry - 1, termed}
end

-- nil or the refusal by a weekly limit, the consent's or a preference's; adds the consent's field to `fields`
local function weekly(plan, preferences, logs, termed, most, eff)
  if preferences and plan[WEEKLY] > 0 then
    for _, whose in ipairs(plan[PREFERENCES]) do
      local p = preferences[whose]
      local log = p and p[2] > 0 and logs[whose == '*' and plan[WEEKLY_ALL] or plan[WEEKLY]]
      local wait = log and wait_of(log, p[2], WEEK, eff) or 0
      if wait > 0 then return {2, 'window.exceeded', 'preference ' .. whose, wait} end
    end
  end
  local log = termed and logs[#plan[FIELDS] + 1]
  local wait = log and wait_of(log, most, WEEK, eff) or 0
  if wait > 0 then return {2, 'window.exceeded', 'terms', wait} end
  return nil
end

local function windowed(plan, logs, midnights, hash, eff)
  local windows = plan[WINDOWS]
  for i = 1, #windows do
    local w = windows[i]
    local log = logs[w[1]]
    if log then
      local wait
      if w[4] then wait = wait_of_day(log, w[2], midnights, eff) else wait = wait_of(log, w[2], w[3], eff) end
      if wait > 0 then return {2, 'window.exceeded', i, wait} end
    end
  end
  local same = plan[SAME_TEXT]
  local seen = same > 0 and logs[2] and text_seen(logs[2], hash)
  if seen and seen > eff - same then return {2, 'window.exceeded', 'same text', seen + same - eff} end
  return nil
end

local function consume(key, plan, fields, logs, hash, eff)
  local stamp = struct.pack(STAMP, eff)
  local k = 0
  for i = 3, #fields do
    set[k + 1], set[k + 2] = fields[i], appended(logs[i], stamp)
    k = k + 2
  end
  local same = plan[SAME_TEXT]
  if same > 0 then
    local kept = logs[2] and texts_after(logs[2], eff - math.max(same, TEXT_MEMORY)) or ''
    set[k + 1], set[k + 2] = 'x', kept .. hash .. stamp
    k = k + 2
  end
  local longest = plan[LONGEST]
  if #fields > #plan[FIELDS] and longest < WEEK then longest = WEEK end
  local ends = logs[1] and stamp_at(STAMP, logs[1]) or 0
  local grows = ends < eff + longest
  if grows then
    ends = eff + longest + HOUR
    set[k + 1], set[k + 2] = 'e', struct.pack(STAMP, ends)
    k = k + 2
  end
  call('HSET', key, unpack(set, 1, k))
  if grows then call('PEXPIREAT', key, ends) end
end

local function decide(
  i, plan_at, mode, bound, approved, cursor, midnights_at, answer_at, minute, attempt, life, hash, request, request_life
)
  local base, plan = cursors + 3 * i - 2, plans[plan_at]
  if behind(read[cursor], least) then return {2, 'cache.cold', '', 0} end
  local replay, counts = known(value(base + 2), mode, attempt)
  if replay then
    if mode ~= RELEASE then share(base + 2, replay[2]) end
    return replay
  end
  if mode == RECALL then return {2, 'unavailable', '', 0} end
  local parts, block = parts_of(read[base]), read[base + 1]
  local code = stopped(plan, approved == 1, parts, block)
  if code then return {2, code, '', 0} end
  if request > 0 then
    local used = value(first_request + request)
    if used and used ~= id_of(base + 2) then return {2, 'request.missing', 'used', 0} end
  end
  local basis, entry, most = permitted(plan, parts, block, now, request > 0)
  if not basis then return {2, entry, '', 0} end
  local preferences = parts[4]
  if preferences and unwanted(plan, preferences) then return {2, 'preference.unwanted', '', 0} end
  counts = counts and mode ~= HOLD

  local fields, logs, eff, termed, refusal = plan[FIELDS], nil, now, false, nil
  if counts then
    termed = most > 0
    if termed then
      local wider = {}
      for at = 1, #fields do wider[at] = fields[at] end
      wider[#fields + 1] = 'C/' .. plan[CONSENTS][basis]
      fields = wider
    end
    if #fields > 2 or plan[SAME_TEXT] > 0 then
      logs = call('HMGET', KEYS[first_windows + i], unpack(fields))
      for at = 3, #fields do eff = last_of(logs[at], eff) end
      eff = last_of(logs[2], eff)
      refusal = weekly(plan, preferences, logs, termed, most, eff)
      if refusal then return refusal end
    end
  end
  if preferences and mode ~= HOLD then
    local from, to = hours_of(plan, preferences)
    if from and (minute < from or minute >= to) then return {2, 'quiet.hours', 'preference', 0, from, to} end
  end
  if logs then
    refusal = windowed(plan, logs, calendar[midnights_at], hash, eff)
    if refusal then return refusal end
  end

  local flags, consumed = bound == 1 and BOUND or 0, ''
  if logs then
    consume(KEYS[first_windows + i], plan, fields, logs, hash, eff)
    consumed = plan[CONSUMED]
    if termed then consumed = (#consumed > 0 and consumed .. '\0' or '') .. fields[#fields] end
    if plan[SAME_TEXT] > 0 then
      flags, consumed = flags + TEXT, hash .. consumed
    end
  elseif mode == RELEASE and attempt > 1 and value(base + 2) then -- keeps what attempt 1 consumed
    local raw = value(base + 2)
    local _, set, was, _, _, stamp, on, by, size, at = head_of(raw)
    if was < attempt then
      local kept, answer = string.sub(raw, at, at + size - 1), string.sub(raw, at + size)
      put(KEYS[base + 2], record_of(RESERVED, set, attempt, 0, 0, stamp, on, by, kept, answer), life)
    end
    return struct.pack(PERMITTED, now, basis, entry + 1, 0)
  end
  if request > 0 then put(KEYS[first_request + request], id_of(base + 2), request_life) end
  local state = mode == HOLD and HELD or RESERVED
  local kept = record_of(state, flags, attempt, 0, 0, logs and eff or 0, basis, entry + 1, consumed, answers[answer_at])
  put(KEYS[base + 2], kept, life)
  return struct.pack(PERMITTED, eff, basis, entry + 1, termed and 1 or 0)
end

local replies = {}
for i = 1, n do replies[i] = decide(i, stamp_at(ASK, asks, ASK_BYTES * (i - 1) + 1)) end
flush()
return replies
