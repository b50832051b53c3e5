#!/bin/sh
# Makes .venv hold exactly a lock of requirements/: `sh workflow/setup.sh runtime` (what `make` needs),
# `scale` (that, and what `make sweep` needs) or `dev` (that, and what `make test` and `make lint` need).
# Silent where .venv is current. Otherwise it first says all that is missing, with the command that mends it,
# then installs; .venv/setup.stamp is written only after everything worked.
# POSIX sh and no GNU-only options: it runs under dash and on macOS.
set -eu
unset CDPATH PYTHONHOME PYTHONPATH # neither may bring in modules that no lock names

usage="usage: sh workflow/setup.sh runtime|scale|dev"
locks="runtime scale dev"            # each has all versions of those before it
pythons="3.11 3.12 3.13"             # requires-python of pyproject.toml
expected="a Python from 3.11 to 3.13"
environment_gb=4 # .venv when finished, and while pip unpacks into it
data_gb=2        # data/ and .dvc/cache

# One line about a Python of any version: version, bits, machine, kind, and the executable behind a virtual environment.
probe='import os, sys
kind = getattr(getattr(sys, "implementation", None), "name", "python")
if "t" in getattr(sys, "abiflags", ""):
    kind += "-freethreaded"
print("%d.%d %d %s %s %s" % (sys.version_info[0], sys.version_info[1], 64 if sys.maxsize > 2**32 else 32,
    os.uname()[4], kind, getattr(sys, "_base_executable", sys.executable)))'

# The modules that a Python lacks (Debian packs venv apart; home-made Pythons lack what had no headers).
lacking='import importlib
for name in ("venv", "ensurepip", "bz2", "ctypes", "sqlite3", "ssl"):
    try:
        importlib.import_module(name)
    except ImportError:
        print(name)'

say() { printf 'setup: %s\n' "$*"; }

refuse() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Says one of the things that are missing; the set-up ends after the last of them is said.
missing=0
lament() {
    printf 'setup: %s\n' "$*" >&2
    missing=1
}

# What the stamp says when .venv holds lock $1 for Python $2.
stamp_of() {
    printf '%s %s, Python %s, %s' "$1" "$(cat requirements/build.txt "requirements/$1.txt" | cksum)" "$2" "$root"
}

# What is installed, by the names of packages and versions: a pip by hand changes it.
installed_sum() { (cd .venv/lib/python*/site-packages && printf '%s\n' *.dist-info) 2>/dev/null | cksum; }

numeric_sum() { if [ -f numeric.txt ]; then cksum <numeric.txt; else echo none; fi; }

# Runs the probe in Python $1; false if it does not run.
examine() {
    facts=$("$1" -E -S -c "$probe" 2>/dev/null) || return 1
    read -r version bits machine kind executable <<EOF
$facts
EOF
}

# Why the examined Python does not serve; nothing if it does.
objection() {
    case " $pythons " in *" $version "*) ;; *) echo "is Python $version" && return ;; esac
    if [ "$kind" != cpython ]; then
        echo "is a $kind, not a plain CPython"
    elif [ "$bits" != 64 ]; then
        echo "is a $bits-bit Python, not a 64-bit one"
    elif [ "$machine" != "${platform#* }" ]; then
        echo "is built for $machine, not for ${platform#* }"
    fi
}

# The command that installs Debian's package $1, which Homebrew calls $2 and people call $3.
install_command() {
    if command -v apt-get >/dev/null; then
        if apt-cache show "$1" >/dev/null 2>&1; then
            echo "${sudo}apt-get install $1"
        else
            echo "${sudo}apt-get update && ${sudo}apt-get install $1"
        fi
    elif [ "${platform% *}" = Darwin ] && [ "$1" = git ]; then
        echo "xcode-select --install"
    elif [ "${platform% *}" = Darwin ]; then
        echo "brew install $2"
    else
        echo "install $3 with the package manager of this system"
    fi
}

# How to get a Python, where none serves.
python_advice() {
    elsewhere="install one, for example with pyenv or uv, and say where: make PYTHON=/path/to/python3.11"
    if ! command -v apt-get >/dev/null; then
        echo "$(install_command python3-venv python@3.11 "Python 3.11"), or $elsewhere"
        return
    fi
    for minor in $pythons; do
        if apt-cache show "python$minor-venv" >/dev/null 2>&1; then
            install_command "python$minor-venv" "python@$minor" "Python $minor"
            return
        fi
    done
    if apt-cache show python3-venv >/dev/null 2>&1; then
        echo "$elsewhere" # the system's Python is another one
    else
        install_command python3-venv python@3.11 "Python 3.11"
    fi
}

# What is missing in the examined Python $1, and how to mend it; nothing if it is complete.
completeness() {
    absent=$("$executable" -I -c "$lacking" 2>&1 | tr '\n' ' ')
    absent=${absent% }
    if [ -z "$absent" ]; then
        return
    fi
    case "$executable" in
        /usr/bin/*) mend=$(install_command "python$version-venv" "python@$version" "the rest of Python $version") ;;
        *) mend="install them for it, or name another Python: make PYTHON=/path/to/python3.11" ;;
    esac
    echo "$1 (Python $version) has no module $absent, expected a complete Python; mend it with: $mend"
}

# Sets $python to the executable that .venv is made of, and $version to its version, or laments.
find_python() {
    python=
    if [ -n "${PYTHON:-}" ]; then
        if ! examine "$PYTHON"; then
            lament "PYTHON=$PYTHON does not run; expected the path or name of $expected:" \
                "make PYTHON=/path/to/python3.11"
            return
        fi
        objection=$(objection)
        if [ -n "$objection" ]; then
            lament "PYTHON=$PYTHON $objection; expected $expected: make PYTHON=/path/to/python3.11, or leave it out"
            return
        fi
        complaint=$(completeness "PYTHON=$PYTHON")
        if [ -n "$complaint" ]; then
            lament "$complaint"
            return
        fi
        python=$executable
        return
    fi
    found=
    complaint=
    for name in python3.11 python3.12 python3.13 python3 python; do
        command -v "$name" >/dev/null || continue
        if ! examine "$name"; then
            found="$found, $name does not run"
            continue
        fi
        objection=$(objection)
        if [ -n "$objection" ]; then
            found="$found, $name $objection"
            continue
        fi
        incomplete=$(completeness "$name")
        if [ -z "$incomplete" ]; then
            python=$executable
            return
        fi
        complaint=${complaint:-$incomplete}
    done
    if [ -n "$complaint" ]; then
        lament "$complaint"
        return
    fi
    found=${found#, }
    lament "no Python from 3.11 to 3.13 here (found: ${found:-none}); mend it with: $(python_advice)"
}

require_platform() {
    case "$platform" in
        "Linux x86_64" | "Linux aarch64" | "Darwin arm64") ;;
        "Darwin x86_64") refuse "macOS on x86_64 is not supported, TensorFlow has no package for it;" \
            "expected Linux x86_64, Linux aarch64 or macOS arm64 (on an Apple processor: arch -arm64 make)" ;;
        *) refuse "$platform is not supported; expected Linux x86_64, Linux aarch64 or macOS (Darwin) arm64" ;;
    esac
    case "$(ldd --version 2>&1 || true)" in
        *musl*) refuse "a Linux with musl (as Alpine) is not supported, TensorFlow has no package for it;" \
            "expected one with glibc: use Debian, for example in a container" ;;
    esac
    case "$root" in
        *:*) refuse "the folder $root has a colon in its name, which no PATH can hold; rename it" ;;
        *[{}]*) refuse "the folder $root has a brace in its name, which DVC reads as a field to fill in; rename it" ;;
        *%\(*) refuse "the folder $root has %( in its name, which DVC reads as a name to look up; rename it" ;;
    esac
}

require_git() {
    if ! git --version >/dev/null 2>&1; then
        lament "git was not found or does not run, expected any version; mend it with: $(install_command git git git)"
    fi
}

# A folder that this user may write; chown and not chmod, as it is mostly an earlier `sudo make` that is the cause.
require_writable() {
    user=$(id -un 2>/dev/null || id -u) # in containers, users without a name
    for folder in . .venv; do
        if [ -e "$folder" ] && ! [ -w "$folder" ]; then
            path=$root${folder#.}
            lament "the folder $path is not writable for $user, expected it to be;" \
                "mend it with: ${sudo}chown -R $user '$path'"
        fi
    done
}

# Enough free disk for $1 GB; what a rebuild of .venv frees counts as free.
require_disk() {
    free_kb=$(df -Pk . | awk 'END { for (i = NF; i > 1; i--) if ($i ~ /^[0-9]+%$/) { print $(i - 1); exit } }')
    if [ -z "$free_kb" ]; then
        return # some network file systems do not say
    fi
    if [ "$reuse" = no ] && [ -d .venv ]; then
        free_kb=$((free_kb + $(du -sk .venv/ 2>/dev/null | awk '{ print $1 }')))
    fi
    if [ "$free_kb" -lt $(($1 * 1000000)) ]; then
        free_gb=$(LC_ALL=C awk "BEGIN { printf \"%.1f\", $free_kb / 1000000 }")
        lament "the disk of $root has $free_gb GB free, expected about $1 GB ($2); free some," \
            "for example what this says: make clean"
    fi
}

# Keeps a second set-up out of .venv while this one works.
claim() {
    mkdir -p .venv
    if ! (set -C && echo $$ >.venv/setup.pid) 2>/dev/null; then
        owner=$(cat .venv/setup.pid)
        if [ -n "$owner" ] && [ "$owner" != $$ ] && kill -0 "$owner" 2>/dev/null; then
            refuse "process $owner is already installing into .venv; wait for it" \
                "(if that is no set-up, mend it with: rm .venv/setup.pid)"
        fi
        echo $$ >.venv/setup.pid
    fi
    trap 'rm -rf .venv/setup.pid .venv/tmp' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

create() {
    for entry in .venv/*; do
        if [ "$entry" != .venv/setup.pid ]; then
            rm -rf "$entry"
        fi
    done
    say "making .venv with Python $version ($python)"
    "$python" -m venv .venv || refuse "'$python -m venv .venv' failed, its message stands above"
    install build
}

# Installs lock $1. No package comes without a hash; the two without a wheel are built with the locked setuptools.
# pip's own settings (mirrors, certificates, proxies) stay the user's; what it unpacks lies on the disk just checked.
install() {
    quiet="--quiet --quiet"
    if [ -t 1 ]; then
        quiet="--quiet"
    fi
    case "$(.venv/bin/python -m pip config list)" in
        *.target=* | *.prefix=* | *.root=*) refuse "pip is set to install into another folder than .venv; take target," \
            "prefix or root out of its settings: .venv/bin/python -m pip config list" ;;
    esac
    mkdir -p .venv/tmp
    # shellcheck disable=SC2086 # $quiet is words
    TMPDIR="$root/.venv/tmp" .venv/bin/python -m pip install $quiet --no-deps --no-build-isolation --no-compile \
        --require-hashes -r "requirements/$1.txt" || refuse "pip could not install requirements/$1.txt, its message" \
        "stands above; after mending the cause run the same command again"
    # pip compiles with one core only. compileall fails on templates that are not valid Python, which is harmless.
    .venv/bin/python -m compileall -qq -j 0 "$root/.venv/lib" || :
}

about() { echo $(($(grep -c '==' "requirements/$1.txt") / 10 * 10)); }

# Brings .venv, whatever its state, to lock $lock.
update() {
    platform=$(uname -sm)
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo="sudo "
    fi
    require_platform
    if [ "$reuse" = no ]; then
        find_python
        require_disk $((environment_gb + data_gb)) ".venv $environment_gb, data and cache $data_gb"
    else
        require_disk 1 "$doing"
    fi
    require_git
    require_writable
    if [ "$missing" = 1 ]; then
        exit 1
    fi

    claim
    if [ "$reuse" = no ]; then
        rm -f .venv/setup.stamp
        create
        say "installing about $(about "$lock") packages, up to 3 GB: 2 minutes with a fast network, else longer"
    else
        # The lock has the versions of the one that stands: that stays as stamped, even if this fails.
        say "$doing: half a minute"
    fi
    install "$lock"
    conflicts=$(.venv/bin/python -m pip check 2>&1) || refuse "requirements/$lock.txt contradicts itself: $conflicts;" \
        "bring the committed ones back with: git restore requirements"
    stamp=$(stamp_of "$lock" "$version")
    write_stamp none
    say ".venv is ready"
}

# Second line of the stamp: the numeric.txt that this .venv has seen to; third line: what is installed.
write_stamp() {
    printf '%s\n%s\n%s\n' "$stamp" "$1" "$(installed_sum)" >.venv/setup.stamp.partial
    mv .venv/setup.stamp.partial .venv/setup.stamp
}

case "$#,${1-}" in
    1,runtime | 1,scale | 1,dev) lock=$1 ;;
    *) refuse "$usage, received: $*" ;;
esac
doing="adding Ray and Optuna to .venv"
if [ "$lock" = dev ]; then doing="adding the tools of make test to .venv"; fi
cd -P "$(dirname "$0")/.."
root=$(pwd -P)
while [ "${PATH#"$root/.venv/bin:"}" != "$PATH" ]; do
    PATH=${PATH#"$root/.venv/bin:"} # what is about to be replaced is no candidate
done
export PATH PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_USE_PEP517=1 # old pips would take another way for the two packages without a wheel
export PIP_USER=0       # a venv has no user folder
unset PIP_TARGET PIP_PREFIX PIP_ROOT

current=no # .venv holds what is asked for
reuse=no   # .venv holds a lock before the one that is asked for
stamp=
seen=
held_sum=
if [ -f .venv/setup.stamp ] && examine .venv/bin/python; then
    { IFS= read -r stamp && IFS= read -r seen && IFS= read -r held_sum; } <.venv/setup.stamp || true
    kept=reuse
    for held in $locks; do
        if [ "$held" = "$lock" ]; then kept=current; fi
        if [ "$stamp" = "$(stamp_of "$held" "$version")" ]; then eval "$kept=yes"; fi
    done
    if [ "$current" = yes ] && [ "$held_sum" != "$(installed_sum)" ]; then
        current=no
        reuse=yes
        doing="bringing back packages of .venv that were changed"
    fi
    if [ -n "${PYTHON:-}" ]; then
        installed=$version
        if ! examine "$PYTHON" || [ "$version" != "$installed" ]; then
            current=no
            reuse=no
        fi
        version=$installed
    fi
fi
if [ "$current" = no ]; then
    update
    seen=none
fi
if [ "$seen" != "$(numeric_sum)" ] || [ "$seen" = none ]; then
    .venv/bin/python -m pipeline.environment ||
        refuse "numeric.txt could not be brought in line with the Python of .venv, the message stands above"
    write_stamp "$(numeric_sum)"
fi
