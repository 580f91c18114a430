-- wrk's script: POST one body to one path after the other. Arguments: the body's file, then the paths.
local requests, next_one = {}, 0

function init(arguments)
    local body = io.open(arguments[1]):read("a")
    for number = 2, #arguments do
        requests[number - 1] = wrk.format("POST", arguments[number], { ["Content-Type"] = "application/json" }, body)
    end
end

function request()
    next_one = next_one % #requests + 1
    return requests[next_one]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %f, "errors": %d, "ms p50": %f, "ms p99": %f}\n',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
