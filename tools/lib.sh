# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what is used or set by those who source this
# What tools/demo and tools/test share. Sourced; `me` is the name for messages.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
temporary_parent=/var/tmp

# What sbin has is needed, and is not in every root's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { echo "$me: $*" >&2; }
die() { say "error: $*"; exit 1; }

# Installs what is missing and builds TARGETs; none: all.
prepare_build() { # [TARGET...]
    "$top/tools/setup"
    [ -f "$build/build.ninja" ] || quietly_unless_it_fails meson setup "$build" "$top"
    quietly_unless_it_fails ninja -C "$build" -j "$(nproc)" "$@"
}

# Builds TARGETs with clang and what watches the program as it runs, in a directory
# of their own: NAME is address (and undefined behaviour, and the fuzzers) or thread.
prepare_sanitized_build() { # NAME TARGET...
    local directory=$top/build-$1 options=() launcher=
    case $1 in
    address) options=('-Db_sanitize=address,undefined' -Dfuzzing=true) ;;
    thread) options=(-Db_sanitize=thread) ;;
    esac
    shift
    if type ccache >/dev/null 2>&1; then launcher='ccache '; fi
    # Lines are enough to find a place by; the rest of the debug information takes a third of the time.
    [ -f "$directory/build.ninja" ] || CC=${launcher}clang-19 CXX=${launcher}clang++-19 \
        quietly_unless_it_fails meson setup "$directory" "$top" "${options[@]}" \
        -Db_lundef=false -Doptimization=1 -Ddebug=false -Dcpp_args=-gline-tables-only
    quietly_unless_it_fails ninja -C "$directory" -j "$(nproc)" "$@"
}

# What they find ends the program, and so the test.
use_sanitizers() {
    export ASAN_OPTIONS=halt_on_error=1:abort_on_error=1
    export TSAN_OPTIONS=halt_on_error=1:suppressions=$top/tests/support/thread.suppressions
    export UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:print_stacktrace=1
}

quietly_unless_it_fails() { # COMMAND...
    local log
    say "running $1 ${2:-}..."
    log=$(mktemp)
    if "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return
    fi
    tail -n 40 "$log" >&2
    rm -f "$log"
    die "'$*' failed"
}

# Polls: none of the conditions here has an event that a shell can wait for.
wait_until() { # SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "waited in vain: $what"
        sleep 0.02
    done
}

process_is_gone() { # PID
    ! kill -0 "$1" 2>/dev/null
}

end_process() { # PID
    local deadline=$((SECONDS + 10))
    kill "$1" 2>/dev/null || return 0
    until process_is_gone "$1"; do
        if [ "$SECONDS" -ge "$deadline" ]; then kill -KILL "$1" 2>/dev/null; fi
        sleep 0.02
    done
}

# Mount points below DIRECTORY, the last one mounted first.
mounts_below() { # DIRECTORY
    awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | tac
}

# Mount points of a loop device and its partitions.
mounts_of_loop() { # NUMBER
    local numbers
    numbers=$(cat "/sys/block/loop$1/dev" "/sys/block/loop$1/loop$1p"*/dev 2>/dev/null)
    awk -v numbers="$numbers" 'BEGIN { split(numbers, list); for (i in list) ours[list[i]] }
        $3 in ours { print $5 }' /proc/self/mountinfo | tac
}

unmount_all() { # Mount points from the standard input, as mountinfo writes them
    local point
    while IFS= read -r point; do
        printf -v point '%b' "${point//\\/\\0}"
        umount "$point" || umount --lazy "$point" || true
    done
}

# Numbers of the loop devices whose file is in DIRECTORY.
loops_backed_from() { # DIRECTORY
    local file number
    for file in /sys/block/loop*/loop/backing_file; do
        number=${file#/sys/block/loop}
        number=${number%%/*}
        # Gone meanwhile is as good.
        if [[ $(cat "$file" 2>/dev/null) == "$1"/* ]]; then echo "$number"; fi
    done
}

loop_is_unbound() { # NUMBER
    [ ! -e "/sys/block/loop$1/loop" ]
}

# Without the service: unmounts, detaches, and deletes the partitions, which stay when somebody else detaches.
detach_loop() { # NUMBER
    local partition
    mounts_of_loop "$1" | unmount_all
    for partition in "/sys/block/loop$1/loop$1p"*; do
        [ ! -e "$partition" ] || delpart "/dev/loop$1" "${partition##*p}" 2>/dev/null || true
    done
    losetup --detach "/dev/loop$1" 2>/dev/null || true
    wait_until 10 "/dev/loop$1 does not become free" loop_is_unbound "$1"
}

# Unmounts and detaches all that comes from DIRECTORY, and deletes it.
release_directory() { # DIRECTORY
    local number
    mounts_below "$1" | unmount_all
    for number in $(loops_backed_from "$1"); do detach_loop "$number"; done
    rm -rf --one-file-system "$1"
}

# Their directories are PREFIX.PID.XXXXXX; a run that still lives keeps its own.
release_interrupted_runs() { # PREFIX
    local directory pid
    for directory in "$temporary_parent/$1".*; do
        if [ ! -d "$directory" ] || [ -L "$directory" ]; then continue; fi
        pid=${directory#"$temporary_parent/$1."}
        pid=${pid%%.*}
        if [[ $pid =~ ^[0-9]+$ ]] && ! process_is_gone "$pid"; then continue; fi
        say "releasing what an interrupted run has left in $directory"
        release_directory "$directory"
    done
}
