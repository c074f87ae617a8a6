-- Windows: at most N per period, as logs of stamps; shared by admit, check, claim and void.
--
-- A log is up to 64 stamps of 6 bytes (Unix ms, big endian), newest last. A window is (N, since): one more is refused
-- when the N-th last is at or after `since`. Rolling: since = now - period + 1, so a stamp exactly one period old no
-- longer counts. Calendar: since = the last local midnight at or before now. `now` never runs behind a log's last stamp.
-- Field `x` holds hash (8) + stamp (6) of recent texts; field `e` when the key expires (6).
local stamp_at, slice = struct.unpack, string.sub
local WEEK, DAY, HOUR = 604800000, 86400000, 3600000
local STAMP, LOG_BYTES, TEXT_BYTES, TEXT_MEMORY = '>I6', 384, 14, 60000

local function last_of(log, now)
  if not log or #log < 6 then return now end
  local last = stamp_at(STAMP, log, #log - 5)
  return last > now and last or now
end

-- 0, or how long until one more fits
local function wait_of(log, limit, period, now)
  local at = #log - 6 * limit
  if at < 0 then return 0 end
  local nth = stamp_at(STAMP, log, at + 1)
  return nth > now - period and nth + period - now or 0
end

-- since, until of the local day `now` is in. Beyond the list the day is taken too long, never too short.
local function day_of(midnights, now)
  local since, till = now - DAY - HOUR, now + DAY
  for i = 1, #midnights do
    if midnights[i] <= now then
      since = midnights[i]
    else
      till = midnights[i]
      break
    end
  end
  return since, till
end

local function wait_of_day(log, limit, midnights, now)
  local at = #log - 6 * limit
  if at < 0 then return 0 end
  local since, till = day_of(midnights, now)
  return stamp_at(STAMP, log, at + 1) >= since and till - now or 0
end

local function counted(log, since)
  local n = 0
  for at = #log - 5, 1, -6 do
    if stamp_at(STAMP, log, at) < since then break end
    n = n + 1
  end
  return n
end

local function appended(log, stamp)
  if not log then return stamp end
  if #log >= LOG_BYTES then return slice(log, #log - LOG_BYTES + 7) .. stamp end
  return log .. stamp
end

-- stamp of the last time this text went out, or nil
local function text_seen(log, hash)
  local found
  for at = 1, #log - 13, TEXT_BYTES do
    if slice(log, at, at + 7) == hash then found = stamp_at(STAMP, log, at + 8) end
  end
  return found
end

local function texts_after(log, since)
  local at = 1
  while at <= #log - 13 and stamp_at(STAMP, log, at + 8) < since do at = at + TEXT_BYTES end
  return at == 1 and log or slice(log, at)
end

-- the log without one entry equal to this stamp (the last such), and whether it was there
local function removed(log, entry, size)
  for at = #log - size + 1, 1, -size do
    if slice(log, at, at + size - 1) == entry then
      return slice(log, 1, at - 1) .. slice(log, at + size), true
    end
  end
  return log, false
end
