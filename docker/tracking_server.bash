#!/usr/bin/env bash
# A group's server: MLflow with users and passwords, and PostgreSQL for its runs and for Optuna's studies.
# bash docker/tracking_server.bash FOLDER [--host NAME] [--port 5000] [--database-port 5433]
#
# FOLDER is made, and keeps all: server.env with the passwords, database/, artifacts/ and the logs of both programs.
# Only this machine reaches the server, unless --host gives the name or address by which others know it. Ctrl-C or
# SIGTERM ends it, and the same command starts it again, also after a crash. docs/cluster.md says more.
project=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
usage="usage: bash docker/tracking_server.bash FOLDER [--host NAME] [--port 5000] [--database-port 5433]"

fail() {
    echo "error: $1" >&2
    exit 2
}

# ---- what is asked for

folder='' host=127.0.0.1 port=5000 database_port=5433 # 5432 is often a database of Debian's own
while [ $# -gt 0 ]; do
    case $1 in
        --help) echo "$usage" && exit ;;
        --host) host=$2 && shift ;;
        --port) port=$2 && shift ;;
        --database-port) database_port=$2 && shift ;;
        -*) fail "unknown flag $1; $usage" ;;
        *) [ -z "$folder" ] || fail "'$1' after '$folder': expected one folder; $usage" && folder=$1 ;;
    esac
    shift
done
[ -n "$folder" ] || fail "expected a folder; $usage"
getent ahosts "${host:- }" >/dev/null || fail "--host '$host': expected a name or an address of this machine"
for flag in port database_port; do
    [[ ${!flag} =~ ^[1-9][0-9]{0,4}$ ]] && [ "${!flag}" -le 65535 ] ||
        fail "--${flag/_/-} is '${!flag}': expected a whole number from 1 to 65535"
done
[ -e "$folder/server.env" ] || [ ! -e "$folder" ] || [ -z "$(ls -A "$folder" 2>&1)" ] ||
    fail "$folder: neither empty nor a folder of this server, which has a server.env"
lock() { # its programs inherit it: those of a start that was killed are waited for
    exec 9>>"$folder/lock" && flock --wait 10 9 || fail "$folder: its server is running, or it cannot be written"
}
[ ! -e "$folder/lock" ] || lock
is_taken() {
    (exec 3<>"/dev/tcp/$host/$1") 2>/dev/null
}
for _ in {1..20}; do # what was killed just now may need a moment
    is_taken "$port" || is_taken "$database_port" || kill -0 "$(head -n 1 "$folder/database/postmaster.pid")" || break
    sleep 0.1
done 2>/dev/null
for number in "$port" "$database_port"; do
    ! is_taken "$number" || fail "port $number is taken: name another; $usage"
done

# ---- its programs

version=$(cat "$folder/database/PG_VERSION" 2>/dev/null) # an older PostgreSQL's data are not read by a newer one
find_programs() {
    local candidate
    for candidate in $(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -rV) $(type -P postgres); do
        [[ $("$candidate" --version 2>/dev/null) =~ \ ${version:-[0-9]+}\. ]] || continue
        programs=$(dirname "$(readlink -f "$candidate")") && return
    done
    return 1
}
if ! find_programs; then
    package=postgresql${version:+-$version}
    [ "$(id -u)" = 0 ] && type -P apt-get >/dev/null ||
        fail "no PostgreSQL${version:+ $version} here: ask for 'apt install $package'"
    echo "installing $package" >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install --yes --no-install-recommends "$package"; } >/dev/null
    find_programs || fail "$package could not be installed, for the reason above"
fi
[ "$RUNNER" = none ] || export RUNNER=venv
bash "$project/run_script.bash" true || exit # sets up .venv, where that is to be done

umask 077
mkdir -p "$folder/artifacts" 2>/dev/null && chmod 711 "$folder" && cd "$folder" || fail "$folder: cannot be written"
folder=$PWD
lock

# ---- passwords: drawn once; in no argument, no log and no output

secrets=(MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_DB_PASSWORD OPTUNA_DB_PASSWORD)
unset "${secrets[@]}" # the caller's own
MLFLOW_AUTH_ADMIN_USERNAME="admin"
if ! [ -e server.env ]; then
    while IFS= read -r line; do
        [[ $line != [A-Z]*= ]] || line+=$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')
        echo "$line"
    done <"$project/docker/server.env.template" >server.env.part && mv server.env.part server.env || exit
fi
[[ $(stat -c %a server.env) == [46]00 ]] || fail "$folder/server.env: not its owner's alone: 'chmod 600' it"
while IFS='=' read -r name value || [ -n "$name" ]; do
    case $name in
        "" | "#"*) ;;
        MLFLOW_AUTH_ADMIN_USERNAME | MLFLOW_AUTH_ADMIN_PASSWORD | MLFLOW_FLASK_SERVER_SECRET_KEY | \
            MLFLOW_DB_PASSWORD | OPTUNA_DB_PASSWORD) declare "$name=$value" ;;
        *) fail "$folder/server.env: a line that docker/server.env.template does not have" ;; # it may be a password
    esac
done <server.env
for name in "${secrets[@]}"; do
    [[ ${!name} =~ ^[A-Za-z0-9._~-]{12,}$ ]] ||
        fail "$folder/server.env: $name is not 12 or more letters, digits and . _ ~ -"
done

# ---- PostgreSQL

owner=()
if [ "$(id -u)" = 0 ]; then # as whom PostgreSQL does not run
    owner=(--reuid=postgres --regid=postgres --init-groups)
    setpriv "${owner[@]}" test -x "$folder" || fail "$folder: the user postgres, who runs PostgreSQL, cannot enter it"
fi
sql() { # FOLDER: runs what stdin says, while the database is at rest
    setpriv "${owner[@]}" "$programs/postgres" --single -D "$folder/$1" -c log_min_error_statement=panic \
        -c password_encryption=scram-sha-256 -c exit_on_error=true postgres >>postgresql.log 2>&1
}
broken() { # PROGRAM LOG
    fail "$1: $(tail -n 1 "$2"); $folder/$2 says more"
}
if ! [ -d database ]; then
    rm -rf database.part
    mkdir database.part && { [ ${#owner[@]} = 0 ] || chown postgres: database.part; } &&
        setpriv "${owner[@]}" "$programs/initdb" --pgdata="$folder/database.part" --username=postgres --auth=reject \
            --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-instructions >>postgresql.log 2>&1 &&
        printf 'host %s %s all scram-sha-256\n' mlflow mlflow optuna optuna >database.part/pg_hba.conf &&
        printf 'CREATE ROLE %s LOGIN\nCREATE DATABASE %s OWNER %s\n' mlflow mlflow mlflow optuna optuna optuna |
        sql database.part && mv database.part database || broken PostgreSQL postgresql.log
fi
sql database <<END || broken PostgreSQL postgresql.log
ALTER ROLE mlflow PASSWORD '$MLFLOW_DB_PASSWORD'
ALTER ROLE optuna PASSWORD '$OPTUNA_DB_PASSWORD'
END

stop() { # MLflow first, which uses the other
    trap '' INT TERM HUP
    kill -TERM "$mlflow" && wait "$mlflow"
    kill -KILL -- "-$mlflow" # what it left, where it has crashed
    kill -INT "$database" && wait "$database"
} 2>/dev/null
trap stop EXIT
trap 'exit 0' INT TERM HUP

set -m # Ctrl-C reaches this script alone; they end with it, even when it is killed
setpriv "${owner[@]}" --pdeathsig=INT "$programs/postgres" -D "$folder/database" -c listen_addresses="$host" \
    -c port="$database_port" -c unix_socket_directories= >>postgresql.log 2>&1 &
database=$!
set +m
until "$programs/pg_isready" --quiet --host="$host" --port="$database_port" --username=mlflow --dbname=mlflow; do
    kill -0 "$database" 2>/dev/null || broken PostgreSQL postgresql.log
    sleep 0.1
done

# ---- MLflow, which finds its database by PostgreSQL's own variables

unset MLFLOW_TRACKING_URI
export MLFLOW_AUTH_ADMIN_USERNAME MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export PGHOST=$host PGPORT=$database_port PGUSER=mlflow PGPASSWORD=$MLFLOW_DB_PASSWORD
export MLFLOW_BACKEND_STORE_URI=postgresql:///mlflow MLFLOW_AUTH_CONFIG_PATH=$project/docker/basic_auth.ini
export MLFLOW_SERVER_ALLOWED_HOSTS=${MLFLOW_SERVER_ALLOWED_HOSTS:-$host:*,localhost:*,127.0.0.1:*}
export MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=${MLFLOW_SERVER_CORS_ALLOWED_ORIGINS:-http://$host:$port}
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # seven processes that nothing here asks for
set -m
setpriv --pdeathsig=TERM bash "$project/run_script.bash" mlflow server --app-name basic-auth --workers 2 \
    --host "$host" --port "$port" --artifacts-destination "$folder/artifacts" \
    --uvicorn-opts "--log-level warning --timeout-graceful-shutdown 10" >>mlflow.log 2>&1 &
mlflow=$!
set +m
unset "${secrets[@]}" PGPASSWORD
is_healthy() {
    (exec 3<>"/dev/tcp/$host/$port" && printf 'GET /health HTTP/1.0\r\n\r\n' >&3 && grep -q '^HTTP.* 200' <&3)
} 2>/dev/null
until is_healthy; do
    kill -0 "$mlflow" 2>/dev/null || broken MLflow mlflow.log
    sleep 0.2
done

echo "ready: MLflow and PostgreSQL, with the passwords of $folder/server.env (Ctrl-C ends them)"
echo "export MLFLOW_TRACKING_URI=http://$host:$port"
echo "export OPTUNA_STORAGE=postgresql://optuna@$host:$database_port/optuna"
wait -n "$database" "$mlflow"
echo "error: PostgreSQL or MLflow has ended; the logs in $folder say why" >&2
exit 1
