-- What wrk asks. Arguments: a file of whole requests, one per line with "|" for the ends of lines,
-- and the line to start at. The threads go round half a round apart; `done` prints a line of JSON.
-- The file is small: the first thread already asks while the second one reads it.

local requests = {}
local position = 0
local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(arguments)
    for line in io.lines(arguments[1]) do
        requests[#requests + 1] = (line:gsub("|", "\r\n"))
    end
    position = tonumber(arguments[2]) + math.floor(#requests / 2 * number)
end

function request()
    position = position % #requests + 1
    return requests[position]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "microseconds": %d, "bytes": %d, "errors": %d, '
            .. '"p50": %d, "p95": %d, "p99": %d}\n',
        summary.requests, summary.duration, summary.bytes,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(95), latency:percentile(99)
    ))
end
