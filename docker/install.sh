#!/usr/bin/env bash
# Makes the virtual environment FOLDER from the hashed lock beside this folder: bash docker/install.sh FOLDER
# Packages that a requirements-own.txt beside the lock names are added, in versions that fit the lock's.
#
# uv does the work: the one on PATH, else the one in uv.txt, which pip puts into the new environment.
set -e
target=$1
here=$(cd "$(dirname "$0")" && pwd)
lock=$here/../requirements.txt
own=$here/../requirements-own.txt

good_python() { # the first Python on PATH that has wheels for all of the lock
    local python
    while read -r python; do
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null </dev/null || continue
        echo "$python"
        return
    done < <(type -aP python3 python3.13 python3.12 python3.11 python3.14)
}

python=$(good_python)
if uv --version >/dev/null 2>&1; then
    uv=uv
    uv venv --python "${python:->=3.11,<3.15}" "$target"
elif [ -z "$python" ]; then
    echo "no Python 3.11 to 3.14 on PATH: install one of them, or uv, which fetches it" >&2
    exit 1
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    echo "$python cannot make virtual environments: sudo apt install $package (Debian, Ubuntu), or install uv" >&2
    exit 1
else
    "$python" -m venv "$target"
    "$target/bin/python" -m pip install --require-hashes -r "$here/uv.txt"
    uv=$target/bin/uv
fi

install_own() {
    [ ! -e "$own" ] || "$uv" pip install --python "$target/bin/python" --constraint "$lock" -r "$own" "$@"
}

install_own --dry-run # before gigabytes are installed: are all of them there?
"$uv" pip install --python "$target/bin/python" --compile-bytecode --require-hashes -r "$lock"
install_own --compile-bytecode
