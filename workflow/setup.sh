#!/bin/sh
# Makes .venv hold a lock of requirements/: `sh workflow/setup.sh runtime` is what `make` needs. `review` adds what
# `make report` needs, `scale` what `make sweep` needs, `dev` the tests. Each has all before it. Silent if .venv is current.
# .venv/setup.stamp, written after all worked, says what .venv holds; what differs from it is mended.
# What venv and pip say when they fail is not said again. POSIX sh without GNU-only options: dash, and bash on macOS.
set -eu
unset CDPATH PYTHONHOME PYTHONPATH # neither may bring in modules that no lock names
# pip's other settings (mirrors, proxies, certificates) stay the user's. Old pips build by PEP 517 only when told.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USE_PEP517=1 PIP_USER=0

say() { printf 'setup: %s\n' "$*"; }

refuse() {
    say "$@" >&2
    exit 1
}

# What a Python of any version is, and the module that it lacks, on one line.
probe='import os, platform, sys, sysconfig
lacks = ""
try:
    import bz2, ctypes, ensurepip, sqlite3, ssl, venv
except ImportError:
    lacks = ": %s" % sys.exc_info()[1]
print("%s %s %s%s" % (platform.python_version(), sysconfig.get_config_var("SOABI"), os.uname()[4], lacks))'

# How to install Debian's package $1, which people call $2.
advice() {
    sudo=$([ "$(id -u)" = 0 ] || echo "sudo ")
    if command -v apt-get >/dev/null; then
        echo "${sudo}apt-get update && ${sudo}apt-get install $1"
    else
        echo "install $2 with the package manager of this system"
    fi
}

# Sets $python to the Python that .venv is made with.
find_python() {
    set -- python3.11 python3.12 python3.13 python3 python
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; fi
    found=
    for python in "$@"; do
        command -v "$python" >/dev/null || continue
        kind=$("$python" -E -S -c "$probe" 2>/dev/null) || kind="not running"
        case "$kind" in
            *" cpython-31"[123]"-x86_64-linux-gnu x86_64" | *" cpython-31"[123]"-aarch64-linux-gnu aarch64") return ;;
            *" cpython-31"[123]"-darwin arm64") return ;;
        esac
        found="$found$python ($kind), "
    done
    for package in python3.11-venv python3.12-venv python3.13-venv python3-venv; do
        if apt-cache show "$package" >/dev/null 2>&1; then break; fi
    done
    refuse "found ${found:-no $*, }expected a CPython from 3.11 to 3.13 with venv for Linux with glibc" \
        "(x86_64, aarch64) or macOS (arm64): $(advice "$package" "Python 3.11")," \
        "or name another one: make PYTHON=/path/to/python3.11"
}

# Ends the set-up where something other than Python is in its way.
require_place() {
    case "$root" in
        *:* | *[{}]* | *%\(*) refuse "the folder $root has a colon, a brace or %( in its name, expected none," \
            "as PATH and DVC cannot hold it; rename the folder" ;;
    esac
    for place in "$root" "$root/workflow/setup.sh" "$root/.venv"; do
        if [ -e "$place" ] && ! [ -w "$place" ]; then
            refuse "$place is not writable, expected it to be; give it to this user: sudo chown -R $(id -u) '$root'"
        fi
    done
    git --version >/dev/null 2>&1 || refuse "found no git that runs, expected any version: $(advice git git)"
}

# What .venv is made of if it holds lock $1. Where the stamp has something else, .venv is made anew.
made_of() {
    digest=$(cat requirements/build.txt "requirements/$1.txt" 2>/dev/null | cksum)
    echo "$1 $digest, $(.venv/bin/python -V 2>/dev/null), $root"
}

# Names and versions of what is installed: a pip by hand changes them.
packages() { (cd .venv/lib/python*/site-packages && echo *.dist-info | cksum); }

# Sets $state: .venv is `current`, or pip can make it so (`partial`), or it has to be made anew (`none`).
examine() {
    state=none
    [ -f .venv/setup.stamp ] || return 0
    { IFS= read -r made && IFS= read -r installed; } <.venv/setup.stamp || return 0
    held=${made%% *}
    [ "$made" = "$(made_of "$held")" ] || return 0
    if [ -n "${PYTHON:-}" ] && [ "$("$PYTHON" -V 2>&1)" != "$(.venv/bin/python -V)" ]; then return 0; fi
    state=partial
    case "runtime review scale dev" in
        *"$lock"*"$held"*) lock=$held ;; # which has all of it
    esac
    if [ "$held" = "$lock" ] && [ "$installed" = "$(packages)" ]; then state=current; fi
}

# Installs lock $1; what pip unpacks lies on the disk of .venv, as /tmp may be small.
install() {
    mkdir -p .venv/tmp
    TMPDIR="$root/.venv/tmp" .venv/bin/python -m pip install --quiet --quiet --no-deps --no-build-isolation \
        --no-compile --require-hashes -r "requirements/$1.txt"
    rm -rf .venv/tmp
}

# Brings .venv to lock $lock.
update() {
    require_place
    python=.venv/bin/python
    if [ "$state" = none ]; then find_python; fi
    exec 9>>workflow/setup.sh # the lock on this open file ends with the set-up, however that ends
    "$python" -c "import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)" 2>/dev/null ||
        refuse "another set-up works in this folder, expected none (and a disk with locks); wait for it"
    examine # another set-up may just have ended
    if [ "$state" = current ]; then return; fi
    if [ "$state" = none ]; then
        say "making .venv with $("$python" -V) and requirements/$lock.txt: two minutes with a fast network"
        rm -f .venv/setup.stamp # --clear comes later, and not at all if venv fails
        "$python" -m venv --clear .venv
    else
        say "installing what .venv lacks of requirements/$lock.txt: half a minute"
        if [ "$installed" != "$(packages)" ]; then rm .venv/setup.stamp; fi # an interrupted pip may leave right names
    fi
    case "$(.venv/bin/python -m pip config list)" in
        *.target=* | *.prefix=* | *.root=*) refuse "pip is set to install into another folder, expected into .venv;" \
            "take target, prefix and root out of its settings: .venv/bin/python -m pip config list" ;;
    esac
    if [ "$state" = none ]; then install build; fi
    install "$lock"
    # pip compiles with one core only. compileall fails on templates that are not valid Python, which is harmless.
    .venv/bin/python -m compileall -qq -j 0 "$root/.venv/lib" || :
    .venv/bin/python -m pip check
    printf '%s\n%s\n' "$(made_of "$lock")" "$(packages)" >.venv/setup.stamp
    say ".venv is ready"
}

case "$#,${1-}" in
    1,runtime | 1,review | 1,scale | 1,dev) lock=$1 ;;
    *) refuse "usage: sh workflow/setup.sh runtime|review|scale|dev, received: $*" ;;
esac
cd -P "$(dirname "$0")/.."
root=$(pwd -P)
while [ "${PATH#"$root/.venv/bin:"}" != "$PATH" ]; do
    PATH=${PATH#"$root/.venv/bin:"} # a Python of .venv cannot make .venv
done
examine
if [ "$state" != current ]; then update; fi
if ! cmp -s numeric.txt .venv/numeric.txt; then
    .venv/bin/python -m pipeline.environment
    cp numeric.txt .venv/numeric.txt
fi
