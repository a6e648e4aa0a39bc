# What the scripts share: where the checkout is, how they speak, how they become root.
# Sourced by the others, never run by itself.
# shellcheck shell=bash

# The checkout, where cargo puts what is worked with, and where what is installed.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for those who source this
built=${CARGO_TARGET_DIR:-$root/target}/release
# shellcheck disable=SC2034
profile=${BUILDR_PROFILE:-dist}
# shellcheck disable=SC2034
shipped=${CARGO_TARGET_DIR:-$root/target}/$profile

# One line for each thing that is ready: "docker     running (20.10.24)".
step() { printf '%-10s %s\n' "$1" "$2"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The comment at the head of a script is its help: every line after the first, up to the first that is no comment.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

as_root() {
    if [ "$EUID" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*"
    fi
}

# Runs a command without a word; what it said is shown only when it fails.
quietly() {
    local said
    if ! said=$("$@" 2>&1 </dev/null); then
        printf '%s\n' "$said" | tail -n 25 | cut -c 1-300 >&2
        said=$*
        fail "this failed: ${said:0:200}"
    fi
}

# Waits until a command succeeds: `wait_for SECONDS COMMAND...`.
wait_for() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.2
    done
}

docker_log=/var/log/dockerd.log

start_docker() {
    start_service docker "setsid dockerd >>$docker_log 2>&1 </dev/null &"
    wait_for 60 as_root docker version
}

# Docker before 20.10.27 can lock up (moby#46661): it tells its version and its containers still, starts none, and says
# nothing of its networks.
docker_answers() { timeout 60 docker network ls >/dev/null 2>&1; }

# Ends a daemon that has locked up, and starts another. Only one that was started by hand: where there is an init, who
# runs it decides.
restart_docker() {
    local process
    [ ! -d /run/systemd/system ] || return 1
    process=$(cat /var/run/docker.pid) && [ "$(cat "/proc/$process/comm")" = dockerd ] || return 1
    as_root kill -KILL "$process"
    wait_for 10 [ ! -d "/proc/$process" ]
    as_root rm -f /var/run/docker.pid
    start_docker
}

# By the system's own init where there is one, else by hand: `start_service UNIT COMMAND`.
start_service() {
    if [ -d /run/systemd/system ]; then
        quietly as_root systemctl start "$1"
    else
        as_root sh -c "$2" >/dev/null 2>&1
    fi
}

# Finds out what lets containers reach what this machine reaches: when they cannot on Docker's bridge, the host's
# network; when this machine trusts authorities of its own, its list of them. Sets $network and, for buildr, $reach.
# shellcheck disable=SC2034
reach_registries() {
    local bundle=/etc/ssl/certs/ca-certificates.crt
    network=${BUILDR_NETWORK:-bridge} reach=()
    if [ "$network" = bridge ] && ! fetches bridge && fetches host; then network=host; fi
    [ "$network" = bridge ] || reach+=(--network "$network")
    if [ -f $bundle ] && [ -n "$(find /usr/local/share/ca-certificates -name '*.crt' 2>/dev/null)" ]; then
        reach+=(--ca-bundle "$bundle")
    fi
    step network "containers use $network"
}

fetches() {
    timeout 60 docker run --rm --network "$1" debian:bookworm-slim apt-get update --error-on=any
} &>/dev/null
