# shellcheck shell=bash
# What the scripts share; sourced. Everything they make lies in .cache/ of this repository: remove it to begin anew.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=$root/.cache
python=  # set by find_python
env=     # set by environment

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
export LLAMAROUTE_CACHE=${LLAMAROUTE_CACHE:-$cache/models}
# What a shell has lying about must not decide how a run ends.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP LLAMAROUTE_CONFIG LLAMAROUTE_PROFILE
if [ ! -t 1 ]; then
    export NO_COLOR=1
    unset FORCE_COLOR CLICOLOR_FORCE PY_COLORS MYPY_FORCE_COLOR
fi

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# quietly COMMAND...: its output is shown only when it fails
quietly() {
    mkdir -p "$cache"
    quiet_log=$(mktemp "$cache/log-XXXXXX")
    if "$@" >"$quiet_log" 2>&1; then
        rm -f "$quiet_log"
    else
        cat "$quiet_log" >&2
        rm -f "$quiet_log"
        return 1
    fi
}

# find_python: sets $python to a Python of version 3.11 or later
find_python() {
    for candidate in python3 python3.11 python3.12 python3.13 python3.14 python; do
        python=$("$candidate" -c 'import sys; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null) \
            || python=
        [ -z "$python" ] || return 0
    done
    die "no Python 3.11 or later was found as python3, python3.11 to python3.14 or python; install one (on Debian 12:" \
        "apt-get install python3 python3-venv)"
}

# environment NAME: sets $env to an environment with what requirements/NAME.txt pins, and this project in it.
# It is made when it is not there, or when the requirements or the Python are others than the ones it was made with.
environment() {
    find_python
    key=$("$python" - "$root/scripts/requirements/$1.txt" "$root" <<'END'
import hashlib, sys
from pathlib import Path

made_from = [Path(sys.argv[1]).read_bytes(), sys.argv[2].encode(), sys.version.encode(), sys.base_prefix.encode()]
print(f"{sys.version_info[0]}.{sys.version_info[1]}-{hashlib.sha256(b'|'.join(made_from)).hexdigest()[:12]}")
END
    )
    env=$cache/$1-$key
    if [ ! -e "$env/complete" ]; then
        say "making the environment ${env#"$root/"} ($("$python" -c 'import sys; print("Python", sys.version.split()[0])')," \
            "$(grep -c '^[a-z].*==' "$root/scripts/requirements/$1.txt") pinned packages; only once)"
        rm -rf "$cache/$1-${key%-*}-"*
        fresh_environment "$env" --require-hashes -r "$root/scripts/requirements/$1.txt"
        : >"$env/complete"
    fi
    # Entry points and metadata are written at installation; the code itself is used where it lies.
    if ! cmp -s "$root/pyproject.toml" "$env/pyproject.toml"; then
        quietly "$env/bin/python" -m pip install --no-deps --no-build-isolation --editable "$root"
        quietly "$env/bin/python" -m pip check || die "scripts/requirements/$1.txt lacks something: run scripts/lock"
        cp "$root/pyproject.toml" "$env/pyproject.toml"
    fi
}

# fresh_environment FOLDER ARGUMENTS...: a new environment, and `pip install ARGUMENTS` in it
fresh_environment() {
    new_env=$1
    shift
    rm -rf "$new_env"
    mkdir -p "$cache"
    if quietly "$python" -m venv "$new_env" 2>/dev/null; then
        quietly "$new_env/bin/python" -m pip install --progress-bar off "$@" || die "pip install failed (see above)"
        return 0
    fi
    # Debian keeps ensurepip in a package of its own (python3-venv); pip can install from outside as well.
    rm -rf "$new_env"
    "$python" -m venv --without-pip "$new_env" || die "$python cannot make virtual environments"
    "$python" -m pip --version >/dev/null 2>&1 \
        || die "$python has neither ensurepip nor pip (Debian: apt-get install python3-venv)"
    quietly "$python" -m pip --python "$new_env/bin/python" install --progress-bar off "$@" \
        || die "pip install failed (see above)"
    "$new_env/bin/python" -m pip --version >/dev/null 2>&1 \
        || quietly "$python" -m pip --python "$new_env/bin/python" install --progress-bar off pip \
        || die "pip install failed (see above)"
}

# can_use FILE: whether a program, or a shared library (*.so*), is there
can_use() {
    case $1 in
        *.so*) "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# need_debian PACKAGE FILE: after it, FILE (a program or a shared library) of a Debian package can be used.
# As root it is installed; else it is unpacked, with what it depends on, into .cache/debian, for this run alone.
need_debian() {
    find_python
    if can_use "$2"; then
        return 0
    fi
    case $(uname -s) in Linux) ;; *) return 0 ;; esac # elsewhere wheels bring such libraries along
    use_unpacked_debian
    if can_use "$2"; then
        return 0
    fi
    command -v apt-get >/dev/null 2>&1 || die "$2 is missing: install it with your system's package manager" \
        "(Debian calls the package $1)"
    say "$2 is missing: getting the Debian package $1"
    if [ "$(id -u)" = 0 ]; then
        export DEBIAN_FRONTEND=noninteractive
        quietly apt-get install -y --no-install-recommends "$1" 2>/dev/null \
            || { quietly apt-get update && quietly apt-get install -y --no-install-recommends "$1"; } \
            || die "apt-get install $1 failed (see above)"
    else
        quietly unpack_debian "$1" || die "apt-get download $1 failed (see above)"
        use_unpacked_debian
    fi
    can_use "$2" || die "the Debian package $1 is there, but $2 still cannot be used"
}

use_unpacked_debian() {
    for folder in "$cache"/debian/unpacked/usr/lib/*-linux-* "$cache"/debian/unpacked/lib/*-linux-*; do
        case :${LD_LIBRARY_PATH:-}: in
            *":$folder:"*) ;;
            *) [ ! -d "$folder" ] || export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ;;
        esac
    done
    case :$PATH: in
        *":$cache/debian/unpacked/usr/bin:"*) ;;
        *) export PATH="$PATH:$cache/debian/unpacked/usr/bin" ;;
    esac
}

unpack_debian() (
    mkdir -p "$cache/debian/lists/partial" "$cache/debian/archives/partial" "$cache/debian/unpacked"
    cd "$cache/debian/archives" || exit 1
    own_lists="-o Dir::State::Lists=$cache/debian/lists -o Dir::Cache=$cache/debian"
    options=
    if ! apt-get download --print-uris "$1" >/dev/null 2>&1; then
        options=$own_lists # the system has no package lists yet, and only root may fetch them there
        # shellcheck disable=SC2086 # one word each
        apt-get $options update || exit 1
    fi
    # shellcheck disable=SC2086
    missing=$(apt-get $options --simulate --no-install-recommends install "$1" | sed -n 's/^Inst \([^ ]*\) .*/\1/p')
    # shellcheck disable=SC2086
    apt-get $options download "$1" $missing || exit 1
    for package in ./*.deb; do
        dpkg -x "$package" "$cache/debian/unpacked" || exit 1
    done
    cd "$cache/debian" && rm -rf archives lists ./*.bin
)

# pull_smollm2: the model's file is in $LLAMAROUTE_CACHE
pull_smollm2() {
    "$env/bin/llamaroute" local pull smollm2 || die "the model SmolLM2 could not be had (see above)"
}
