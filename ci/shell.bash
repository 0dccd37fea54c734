# Sourced by the scripts beside it: the repository's root as working directory, how to speak, and what Go and Docker
# are at hand. Packages are ci/setup's matter, images ci/images'.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

script=ci/${0##*/}

# say prints a line of progress, marked with the script that speaks.
say() { printf '%s: %s\n' "$script" "$*"; }

# die prints what is wrong, and what to do about it, and ends the script.
die() {
	printf '%s: %s\n' "$script" "$*" >&2
	exit 1
}

# usage prints the comment at the head of the script, which is its help.
usage() {
	sed -n '2,/^[^#]/ { /^#/ { s/^# \{0,1\}//; p } }' "ci/${0##*/}"
}

# need_go makes sure that `go` runs and is new enough for go.mod. An older one since 1.21 fetches the right one itself.
need_go() {
	local wanted
	wanted=$(sed -n 's/^go //p' go.mod)
	# Where Go's own archive unpacks to; non-login shells often lack it in PATH.
	command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
	command -v go >/dev/null ||
		die "Go $wanted or newer is needed and no 'go' is in PATH; install it from https://go.dev/dl/ (Debian's own is too old)"
	go list -m >/dev/null ||
		die "the Go in PATH can't build this module (it needs Go $wanted); install a newer one from https://go.dev/dl/"
}

# docker_answers tells whether a Docker engine can be talked to.
docker_answers() {
	command -v docker >/dev/null && timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# as_root runs a command as root, through sudo where need be.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# seconds_since prints the whole seconds since a moment given as $SECONDS was then.
seconds_since() { echo $((SECONDS - $1)); }
