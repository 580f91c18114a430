-- wrk's script: workers of one subscriber, who lease one message and acknowledge it. Arguments: the path of its leases.
-- A connection does what is to be done next, whoever leased: wrk does not tell which one it is.
local path, lease_one, leased, threads = nil, nil, {}, {}
acked, wrong = 0, 0

function setup(thread)
    table.insert(threads, thread)
end

function init(arguments)
    path = arguments[1]
    local headers = { ["Content-Type"] = "application/json" }
    lease_one = wrk.format("POST", path, headers, "{}")
    acknowledge = function(lease)
        return wrk.format("POST", path .. "/" .. lease .. "/ack", headers, "{}")
    end
end

function request()
    local lease = table.remove(leased)
    return lease and acknowledge(lease) or lease_one
end

function response(status, headers, body)
    local lease = body:match('"lease": ?"([^"]+)"')
    if lease then
        table.insert(leased, lease)
    elseif status == 200 and body:match('"acked": ?1[,}]') then
        acked = acked + 1
    else
        wrong = wrong + 1
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format('{"acked": %d, "seconds": %f, "errors": %d}\n',
        threads[1]:get("acked"), summary.duration / 1e6, threads[1]:get("wrong")
        + errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
