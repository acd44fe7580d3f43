#!/bin/busybox sh
# The first process of a machine of `cargo xtask vm`: observes a real exchange and prints one
# verdict, "OBSERVER-VM: passed DETAIL" or "OBSERVER-VM: failed WHY".

# From here on the kernel is up, and what fails is ours.
echo OBSERVER-VM-STARTED

CALLS=20
AGENT=127.0.0.1:9920
PROBES=5
# Labels of the exchange in the metrics.
LABELS='http_route="/hello" http_response_status_code="200"'

finish() {
    # The console may still hold half a line of the kernel's.
    echo
    echo "OBSERVER-VM: $1"
    sync
    poweroff -f
    sleep 60
}

fail() {
    echo "--- observer's log"
    cat /tmp/observer.log 2>/dev/null
    finish "failed $1"
}

# Waits up to $1 seconds until the rest of the arguments succeed.
await() {
    patience=$1
    shift
    while [ "$patience" -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return 0
        patience=$((patience - 1))
        sleep 1
    done
    return 1
}

# busybox's wget has a limit of its own (-T), but some builds of it crash with that.
get() { timeout 10 wget -q -O - "$1"; }
serves() { get http://127.0.0.1:8080/hello; }
ready() { get "http://$AGENT/readyz"; }
gone() { ! kill -0 "$agent" 2>/dev/null; }
ready_or_gone() { ready || gone; }

# Sum of the samples of metric $1 whose labels contain all of the other arguments.
metric() {
    name=$1
    shift
    lines=$(get "http://$AGENT/metrics" | grep "^$name{")
    for label in "$@"; do
        lines=$(echo "$lines" | grep -F "$label")
    done
    echo "$lines" | awk '{ sum += $2 } END { print sum + 0 }'
}

# Calls on the server side of the exchange, as flows.
flows() {
    get "http://$AGENT/api/v1/flows?last=1000" |
        grep -F '"kind":"call"' | grep -F '"side":"server"' | grep -c -F '"path":"/hello"'
}

counted() {
    [ "$(metric http_server_request_duration_seconds_count $LABELS)" -ge "$CALLS" ] &&
        [ "$(metric http_client_request_duration_seconds_count $LABELS)" -ge "$CALLS" ] &&
        [ "$(flows)" -ge "$CALLS" ]
}

# Questions to nobody, and datagrams to ports where nobody is.
asked() {
    [ "$(metric observer_dns_lookups_total 'dns_question_type="A"' 'outcome="timeout"')" -ge 1 ] &&
        [ "$(metric observer_udp_sent_packets_total 'network_protocol_name="udp"')" -ge "$PROBES" ]
}

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t securityfs none /sys/kernel/security 2>/dev/null
mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup || fail "cannot mount cgroup v2"
ip link set lo up
echo "kernel $(uname -r), lockdown $(cat /sys/kernel/security/lockdown 2>/dev/null || echo unknown)"

case "$(cat /proc/cmdline)" in
*lockdown=confidentiality*)
    grep -q -F '[confidentiality]' /sys/kernel/security/lockdown ||
        fail "lockdown was asked for, and is not on"
    ;;
esac

if [ -x /bin/observer ]; then
    observer doctor || fail "observer doctor exits $?"
    observer agent >/tmp/observer.log 2>&1 &
    agent=$!
    await 60 ready_or_gone
    gone && fail "observer agent ended before it was ready"
    ready || fail "observer agent is not ready after 60 s"
fi

httpd -p 127.0.0.1:8080 -h /www || fail "httpd does not start"
if [ -x /bin/observer ]; then
    # Not asked whether it serves: that would be a call too many.
    sleep 2
else
    await 20 serves || fail "httpd does not serve"
fi

call=0
while [ "$call" -lt "$CALLS" ]; do
    get http://127.0.0.1:8080/hello | grep -q hello || fail "call $call failed"
    call=$((call + 1))
done

[ -x /bin/observer ] || finish "passed $CALLS calls, without an observer"

nslookup vm.test 127.0.0.1
traceroute -n -m 1 -q "$PROBES" 127.0.0.1
await 20 asked
lookups=$(metric observer_dns_lookups_total 'dns_question_type="A"' 'outcome="timeout"')
probes=$(metric observer_udp_sent_packets_total 'network_protocol_name="udp"')
[ "$lookups" -ge 1 ] || fail "a question to nobody was not told"
[ "$probes" = "$PROBES" ] || fail "$PROBES datagrams, but $probes in the metrics"

# What the agent and its own endpoints exchange is observed too, so only /hello counts.
await 20 counted
server=$(metric http_server_request_duration_seconds_count $LABELS)
client=$(metric http_client_request_duration_seconds_count $LABELS)
shown=$(flows)
counts="$shown flows of the server, $server in its metrics, $client in the client's"
[ "$shown $server $client" = "$CALLS $CALLS $CALLS" ] || fail "$CALLS calls, but $counts"

kill -TERM "$agent"
await 20 gone || fail "observer agent does not end within 20 s of SIGTERM"
wait "$agent"
code=$?
[ "$code" = 0 ] || fail "observer agent exits $code after SIGTERM"
finish "passed $CALLS calls: $counts"
